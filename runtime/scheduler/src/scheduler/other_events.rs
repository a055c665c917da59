//! Everything else that can help a pod: nodes, volumes and their classes.

use std::sync::Arc;

use kiln_client::Change;
use tokio::time::Instant;

use super::Scheduler;
use super::inputs::Input;
use crate::devices::allocation;
use crate::framework::{Event, NodeChange, PluginId, Update};

/// An object of a kind that only ever helps by coming or changing.
fn updated<'a, T>(change: &'a Change<T>, event: fn(Update<'a, T>) -> Event<'a>) -> Option<Event<'a>> {
    match change {
        Change::Applied { object, previous, .. } => Some(event(Update { old: previous.as_deref(), new: object })),
        _ => None,
    }
}

impl Scheduler {
    pub(super) fn other_changed(&mut self, input: Input) {
        match input {
            Input::Node(Change::Applied { object, .. }) => self.node_applied(&object),
            Input::Node(Change::Deleted { object, .. }) => self.node_gone(&object),
            Input::Claim(change) => {
                self.claims_changed.send_replace(());
                self.helped(updated(&change, Event::Claim));
            }
            Input::Volume(change) => self.helped(updated(&change, Event::Volume)),
            Input::StorageClass(change) => self.helped(updated(&change, Event::StorageClass)),
            Input::CsiNode(change) => self.helped(updated(&change, Event::CsiNode)),
            Input::CsiDriver(change) => self.helped(updated(&change, Event::CsiDriver)),
            Input::Capacity(change) => self.helped(updated(&change, Event::CsiCapacity)),
            Input::DeviceClaim(change) => {
                if let Some(key) = change.key() {
                    self.regate(&key.namespace);
                }
                if let Change::Applied { object, .. } = &change
                    && allocation(object).is_some()
                {
                    self.listers.assumed_devices.written(object.metadata.uid.as_deref());
                }
                match &change {
                    Change::Deleted { object, .. } => self.on_event(&Event::DeviceClaimGone(object)),
                    change => self.helped(updated(change, Event::DeviceClaim)),
                }
            }
            Input::Devices(Change::Applied { .. }) | Input::DeviceClass(Change::Applied { .. }) => {
                self.on_event(&Event::Devices);
            }
            Input::Attachment(Change::Deleted { .. }) => self.on_event(&Event::Detached),
            _ => {}
        }
    }

    fn helped(&mut self, event: Option<Event<'_>>) {
        if let Some(event) = event {
            self.on_event(&event);
        }
    }

    /// Pods that were kept for want of a claim in a namespace may be kept no more.
    fn regate(&mut self, namespace: &str) {
        for pod in self.queue.kept_by(PluginId::DynamicResources) {
            if *pod.namespace == *namespace {
                let gate = self.gate(&pod);
                self.queue.set_gate(&pod.uid, gate, Instant::now());
            }
        }
    }

    fn node_applied(&mut self, object: &k8s_openapi::api::core::v1::Node) {
        let new = Arc::new(self.projector.node(object));
        let old = self.cache.node(&new.name).map(|info| Arc::clone(&info.node));
        match old {
            None => {
                self.cache.set_node(Arc::clone(&new));
                self.on_event(&Event::NodeAdded(&new));
            }
            // Most changes are a kubelet's sign of life.
            Some(old) if old == new => {}
            Some(old) => {
                self.cache.set_node(Arc::clone(&new));
                let change = NodeChange::between(&old, &new);
                if !change.is_nothing() {
                    self.on_event(&Event::NodeUpdated { old: &old, new: &new, change });
                }
            }
        }
    }

    fn node_gone(&mut self, object: &k8s_openapi::api::core::v1::Node) {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let Some(old) = self.cache.node(name).map(|info| Arc::clone(&info.node)) else { return };
        self.cache.remove_node(name);
        self.on_event(&Event::NodeGone(&old));
    }
}
