//! `NodeVolumeLimits`: a node takes no more volumes of a CSI driver than that driver says.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::{CSINode, VolumeAttachment};
use kiln_client::ObjectRef;

use super::volume_binding::volume_of;
use crate::cache::NodeInfo;
use crate::framework::{Code, Event, Plugin, PluginId, PreFilter, Refusal, Update, Verdict, World};
use crate::listers::Listers;
use crate::model::Pod;
use crate::volumes::class_of;

const REASON: &str = "node(s) exceed max volume count";
const ID: PluginId = PluginId::NodeVolumeLimits;

pub(super) struct NodeVolumeLimits;

/// Volumes by their driver and handle, with their driver.
type Volumes = BTreeMap<String, String>;

fn limits(node: &CSINode) -> HashMap<&str, i64> {
    let drivers = node.spec.drivers.iter();
    let of = drivers.filter_map(|driver| Some((&*driver.name, i64::from(driver.allocatable.as_ref()?.count?))));
    of.collect()
}

/// The driver of a claim's volume and the volume's handle there; for one that is yet to be made, a handle that no other has.
fn handle(listers: &Listers, claim: &PersistentVolumeClaim) -> Option<(String, String)> {
    if let Some(volume) = volume_of(listers, claim) {
        let csi = volume.spec.as_ref()?.csi.as_ref()?;
        return Some((csi.driver.clone(), csi.volume_handle.clone()));
    }
    let class = listers.storage_classes.get(&ObjectRef::cluster(class_of(claim)))?;
    let meta = &claim.metadata;
    let place =
        format!("\0{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    Some((class.provisioner.clone(), place))
}

fn collect(listers: &Listers, pod: &Pod, volumes: &mut Volumes) -> Result<(), String> {
    for (name, _) in pod.volume_claims() {
        let Some(claim) = listers.claims.get(&ObjectRef::namespaced(&*pod.namespace, &*name)) else {
            return Err(format!("looking up PVC {}/{name}: persistentvolumeclaim {name:?} not found", pod.namespace));
        };
        if let Some((driver, handle)) = handle(listers, &claim).filter(|(driver, _)| !driver.is_empty()) {
            volumes.insert(format!("{driver}/{handle}"), driver);
        }
    }
    Ok(())
}

fn attached(listers: &Listers, node: &str) -> Vec<(String, String)> {
    let attachments = listers.attachments.list();
    let on_node = attachments.iter().filter(|attachment| attachment.spec.node_name == node);
    let of = |attachment: &VolumeAttachment| {
        let name = attachment.spec.source.persistent_volume_name.clone()?;
        let volume = listers.volumes.get(&ObjectRef::cluster(name))?;
        let csi = volume.spec.as_ref()?.csi.as_ref()?;
        let driver = attachment.spec.attacher.clone();
        Some((format!("{driver}/{}", csi.volume_handle), driver))
    };
    on_node.filter_map(|attachment| of(attachment)).collect()
}

fn check(listers: &Listers, wanted: &Volumes, info: &NodeInfo) -> Verdict {
    let Some(csi_node) = listers.csi_nodes.get(&ObjectRef::cluster(&*info.node.name)) else { return Ok(()) };
    let limits = limits(&csi_node);
    if limits.is_empty() {
        return Ok(());
    }
    let mut there = Volumes::new();
    for pod in &info.pods {
        // What is gone of a pod that is there already takes no room.
        _ = collect(listers, pod, &mut there);
    }
    there.extend(attached(listers, &info.node.name));
    let mut counts = HashMap::<&str, (i64, i64)>::new();
    for driver in there.values() {
        counts.entry(driver).or_default().0 += 1;
    }
    for (_, driver) in wanted.iter().filter(|(volume, _)| !there.contains_key(*volume)) {
        counts.entry(driver).or_default().1 += 1;
    }
    let is_over = |(driver, (there, new)): (&&str, &(i64, i64))| {
        *new > 0 && limits.get(*driver).is_some_and(|limit| there + new > *limit)
    };
    if counts.iter().any(is_over) { Err(Refusal::unschedulable(ID, REASON)) } else { Ok(()) }
}

impl Plugin for NodeVolumeLimits {
    fn id(&self) -> PluginId {
        ID
    }

    fn pre_filter<'a>(&'a self, world: World<'a>, pod: &'a Pod) -> Result<PreFilter<'a>, Refusal> {
        let mut wanted = Volumes::new();
        collect(world.listers, pod, &mut wanted).map_err(|why| Refusal::new(Code::Unresolvable, ID, why))?;
        if wanted.is_empty() {
            return Ok(PreFilter::Skip);
        }
        let wanted = std::sync::Arc::new(wanted);
        Ok(PreFilter::by(move |info| check(world.listers, &wanted, info)))
    }

    fn may_help(&self, _world: World<'_>, pod: &Pod, event: &Event<'_>) -> bool {
        let uses = |claim: Option<&str>| pod.volume_claims().any(|(name, _)| Some(&*name) == claim);
        match event {
            Event::PodGone(gone) => gone.has_place() && gone.volume_claims().next().is_some(),
            Event::NodeAdded(_) | Event::Detached => true,
            Event::Claim(Update { old: None, new }) => {
                new.metadata.namespace.as_deref() == Some(&*pod.namespace) && uses(new.metadata.name.as_deref())
            }
            Event::CsiNode(Update { old, new }) => {
                let before: HashMap<&str, i64> = old.map(|old| limits(old)).unwrap_or_default();
                limits(new).iter().any(|(driver, limit)| before.get(driver).is_none_or(|before| limit > before))
                    || before.keys().any(|driver| !limits(new).contains_key(driver))
            }
            _ => false,
        }
    }
}
