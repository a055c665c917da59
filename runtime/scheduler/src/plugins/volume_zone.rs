//! `VolumeZone`: the node is in the zone and region that the labels of the pod's volumes name.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kiln_client::ObjectRef;

use super::volume_binding::volume_of;
use crate::framework::{Event, Plugin, PluginId, PreFilter, Refusal, Update, World};
use crate::model::{Node, Pod};
use crate::volumes::class_of;

const REASON: &str = "node(s) had no available volume zone";
const ID: PluginId = PluginId::VolumeZone;
/// The labels, and the newer ones that mean the same.
const LABELS: [(&str, &str); 4] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("topology.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("topology.kubernetes.io/region", "topology.kubernetes.io/region"),
];

pub(super) struct VolumeZone;

/// A label that a node must have, with the values of which it must be one.
type Place = (&'static str, &'static str, BTreeSet<String>);

fn places_of(volume: &PersistentVolume) -> Vec<Place> {
    let Some(labels) = &volume.metadata.labels else { return Vec::new() };
    let place = |(key, newer): (&'static str, &'static str)| {
        let values = labels.get(key)?.split("__").map(|value| value.trim().to_owned()).collect::<BTreeSet<_>>();
        // The reference skips what it can't read.
        (!values.contains("")).then_some((key, newer, values))
    };
    LABELS.into_iter().filter_map(place).collect()
}

fn places(world: World<'_>, pod: &Pod) -> Result<Vec<Place>, Refusal> {
    let mut places = Vec::new();
    let refuse = |why: String| Refusal::unresolvable(ID, why);
    for (name, _) in pod.volume_claims() {
        let claim = world.listers.claims.get(&ObjectRef::namespaced(&*pod.namespace, &*name));
        let claim = claim.ok_or_else(|| refuse(format!("persistentvolumeclaim {name:?} not found")))?;
        let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()).unwrap_or_default();
        if volume.is_empty() {
            is_to_come(world, &claim).map_err(refuse)?;
            continue;
        }
        let volume =
            volume_of(world.listers, &claim).ok_or_else(|| refuse(format!("persistentvolume {volume:?} not found")))?;
        places.extend(places_of(&volume));
    }
    Ok(places)
}

/// Whether the volume is made or chosen once the pod has a node.
fn is_to_come(world: World<'_>, claim: &PersistentVolumeClaim) -> Result<(), String> {
    let name = class_of(claim);
    if name.is_empty() {
        return Err("PersistentVolumeClaim had no pv name and storageClass name".to_owned());
    }
    let class = world.listers.storage_classes.get(&ObjectRef::cluster(name.clone()));
    let class = class.ok_or_else(|| format!("storageclass.storage.k8s.io {name:?} not found"))?;
    match class.volume_binding_mode.as_deref() {
        None => Err(format!("VolumeBindingMode not set for StorageClass {name:?}")),
        Some("WaitForFirstConsumer") => Ok(()),
        Some(_) => Err("PersistentVolume had no name".to_owned()),
    }
}

fn is_in(places: &[Place], node: &Node) -> bool {
    if !LABELS.iter().any(|(key, _)| node.labels.get(key).is_some()) {
        return true;
    }
    places.iter().all(|(key, newer, values)| {
        let own = node.labels.get(key).or_else(|| node.labels.get(newer));
        own.is_some_and(|value| values.contains(&**value))
    })
}

impl Plugin for VolumeZone {
    fn id(&self) -> PluginId {
        ID
    }

    fn pre_filter<'a>(&'a self, world: World<'a>, pod: &'a Pod) -> Result<PreFilter<'a>, Refusal> {
        let places = places(world, pod)?;
        if places.is_empty() {
            return Ok(PreFilter::Skip);
        }
        let places = Arc::new(places);
        Ok(PreFilter::by(
            move |info| {
                if is_in(&places, &info.node) { Ok(()) } else { Err(Refusal::unresolvable(ID, REASON)) }
            },
        ))
    }

    fn may_help(&self, _world: World<'_>, pod: &Pod, event: &Event<'_>) -> bool {
        match event {
            Event::NodeAdded(_) => true,
            Event::NodeUpdated { change, .. } => change.labels,
            Event::StorageClass(Update { old, .. }) => old.is_none(),
            Event::Claim(Update { new, .. }) => {
                new.metadata.namespace.as_deref() == Some(&*pod.namespace)
                    && pod.volume_claims().any(|(name, _)| Some(&*name) == new.metadata.name.as_deref())
            }
            Event::Volume(Update { old, new }) => old.is_none_or(|old| places_of(old) != places_of(new)),
            _ => false,
        }
    }
}
