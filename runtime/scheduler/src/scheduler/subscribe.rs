//! Which mirrors the scheduler reads, and which changes it is told of.

use k8s_openapi::Resource;
use kiln_client::{Change, Informers, Object, Store};
use tokio::sync::mpsc;

use super::inputs::Input;
use crate::devices::AssumedDevices;
use crate::listers::Listers;
use crate::volumes::AssumedVolumes;

/// Has the changes of a mirror told to the loop.
fn told<T: Object + Resource + Clone>(
    informers: &mut Informers,
    sender: &mpsc::UnboundedSender<Input>,
    input: fn(Change<T>) -> Input,
) -> Store<T> {
    let informer = informers.of::<T>();
    let sender = sender.clone();
    informer.subscribe(move |change| {
        if change.key().is_some() {
            // Without a listener the scheduler is at its end.
            _ = sender.send(input(change.clone()));
        }
    });
    informer.store()
}

fn read<T: Object + Resource>(informers: &mut Informers) -> Store<T> {
    informers.of::<T>().store()
}

pub(super) fn subscribe(informers: &mut Informers, sender: &mpsc::UnboundedSender<Input>) -> Listers {
    Listers {
        pods: told(informers, sender, Input::Pod),
        nodes: told(informers, sender, Input::Node),
        claims: told(informers, sender, Input::Claim),
        volumes: told(informers, sender, Input::Volume),
        storage_classes: told(informers, sender, Input::StorageClass),
        csi_nodes: told(informers, sender, Input::CsiNode),
        csi_drivers: told(informers, sender, Input::CsiDriver),
        capacities: told(informers, sender, Input::Capacity),
        attachments: told(informers, sender, Input::Attachment),
        namespaces: read(informers),
        services: read(informers),
        replica_sets: read(informers),
        replication_controllers: read(informers),
        stateful_sets: read(informers),
        budgets: read(informers),
        device_claims: told(informers, sender, Input::DeviceClaim),
        slices: told(informers, sender, Input::Devices),
        device_classes: told(informers, sender, Input::DeviceClass),
        assumed_volumes: AssumedVolumes::default(),
        assumed_devices: AssumedDevices::default(),
    }
}
