//! `VolumeBinding`: the pod's volumes can be used on the node, and those that are not there yet can be had there.
//!
//! Claims whose class waits for the first consumer are bound or provisioned for the node that is chosen.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::{CSIStorageCapacity, StorageClass};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use kiln_apimachinery::quantity::Quantity;
use kiln_client::ObjectRef;

use crate::framework::{Code, Event, Plugin, PluginId, PreFilter, Refusal, Update, World};
use crate::listers::Listers;
use crate::model::{Name, Node, Pod, Volume, selector_of};
use crate::volumes::{Decision, allows, class_of, find_match, is_bound, selected_node, size_of, topology_allows};

const BIND_CONFLICT: &str = "node(s) didn't find available persistent volumes to bind";
const NODE_CONFLICT: &str = "node(s) didn't match PersistentVolume's node affinity";
const NO_SPACE: &str = "node(s) did not have enough free storage";
const NO_VOLUME: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
const UNBOUND: &str = "pod has unbound immediate PersistentVolumeClaims";
/// The provisioner of classes whose volumes nobody makes.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
const ID: PluginId = PluginId::VolumeBinding;

pub(super) struct VolumeBinding;

/// A pod's claims.
struct Claims {
    bound: Vec<Arc<PersistentVolumeClaim>>,
    /// To be bound on the node that is chosen.
    delayed: Vec<Arc<PersistentVolumeClaim>>,
}

/// What can be done for a pod on a node: what is decided, or why it can't go there.
fn decide(listers: &Listers, claims: &Claims, node: &Node) -> Result<Decision, Refusal> {
    let mut reasons: Vec<&'static str> = Vec::new();
    for claim in &claims.bound {
        let name = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()).unwrap_or_default();
        match listers.volumes.get(&ObjectRef::cluster(name)) {
            None => {
                reasons.push(NO_VOLUME);
                break;
            }
            Some(volume) if !allows(&volume, node) => {
                reasons.push(NODE_CONFLICT);
                break;
            }
            Some(_) => {}
        }
    }
    let mut decision = Decision::default();
    match decide_delayed(listers, &claims.delayed, node, &mut decision) {
        Ok(None) => {}
        Ok(Some(reason)) => reasons.push(reason),
        Err(error) => return Err(Refusal::new(Code::Error, ID, error)),
    }
    if reasons.is_empty() {
        return Ok(decision);
    }
    let reasons = reasons.into_iter().map(Into::into).collect();
    Err(Refusal { code: Code::Unresolvable, plugin: ID, reasons })
}

fn decide_delayed(
    listers: &Listers,
    claims: &[Arc<PersistentVolumeClaim>],
    node: &Node,
    decision: &mut Decision,
) -> Result<Option<&'static str>, String> {
    let (mut to_match, mut to_provision) = (Vec::new(), Vec::new());
    for claim in claims {
        let assumed = listers.assumed_volumes.node_of(claim).map(|node| &**node);
        match selected_node(claim).or(assumed) {
            Some(selected) if *selected != *node.name => return Ok(Some(BIND_CONFLICT)),
            Some(_) => to_provision.push(Arc::clone(claim)),
            None => to_match.push(Arc::clone(claim)),
        }
    }
    if !to_match.is_empty() {
        to_match.sort_by_key(|claim| size_of(claim));
        let volumes = listers.volumes.list();
        let mut taken = listers.assumed_volumes.promised().clone();
        for claim in to_match {
            match find_match(&claim, &volumes, node, &taken) {
                Some(volume) => {
                    taken.extend(volume.metadata.name.clone());
                    decision.bindings.push((volume, claim));
                }
                None => to_provision.push(claim),
            }
        }
    }
    for claim in to_provision {
        let class = class_of(&claim);
        let Some(class) = listers.storage_classes.get(&ObjectRef::cluster(class.clone())) else {
            return Err(format!("failed to find storage class {class:?}"));
        };
        if class.provisioner.is_empty()
            || class.provisioner == NO_PROVISIONER
            || !topology_allows(class.allowed_topologies.as_ref(), &*node.labels)
        {
            return Ok(Some(BIND_CONFLICT));
        }
        if !has_room(listers, &class, &claim, node) {
            return Ok(Some(NO_SPACE));
        }
        decision.provisions.push(claim);
    }
    Ok(None)
}

/// Whether the driver says that it has room for a claim on a node, if it says so of any.
fn has_room(listers: &Listers, class: &StorageClass, claim: &PersistentVolumeClaim, node: &Node) -> bool {
    let driver = listers.csi_drivers.get(&ObjectRef::cluster(class.provisioner.clone()));
    if driver.is_none_or(|driver| driver.spec.storage_capacity != Some(true)) {
        return true;
    }
    let wanted = size_of(claim);
    listers.capacities.list().iter().any(|capacity| {
        Some(&capacity.storage_class_name) == class.metadata.name.as_ref()
            && limit(capacity).is_some_and(|limit| limit >= wanted)
            && capacity.node_topology.is_some()
            && selector_of(capacity.node_topology.as_ref(), Name::new).matches(&*node.labels)
    })
}

/// The largest volume there is room for, in bytes.
fn limit(capacity: &CSIStorageCapacity) -> Option<i64> {
    let limit: &ApiQuantity = capacity.maximum_volume_size.as_ref().or(capacity.capacity.as_ref())?;
    Quantity::parse(&limit.0).ok().map(Quantity::value)
}

/// A claim of a pod, if it is there and the pod's.
pub(super) fn claim_of(
    listers: &Listers,
    pod: &Pod,
    name: &str,
    is_ephemeral: bool,
) -> Result<Arc<PersistentVolumeClaim>, String> {
    let Some(claim) = listers.claims.get(&ObjectRef::namespaced(&*pod.namespace, name)) else {
        return Err(if is_ephemeral {
            format!("waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}")
        } else {
            format!("persistentvolumeclaim {name:?} not found")
        });
    };
    let owners = claim.metadata.owner_references.iter().flatten();
    let is_owned = owners.into_iter().any(|owner| owner.controller == Some(true) && *owner.uid == *pod.uid);
    if is_ephemeral && !is_owned {
        return Err(format!(
            "PVC {}/{name} was not created for pod {}/{} (pod is not owner)",
            pod.namespace, pod.namespace, pod.name
        ));
    }
    Ok(claim)
}

/// The claims of a pod; `None` if it has none.
fn claims_of(listers: &Listers, pod: &Pod) -> Result<Option<Claims>, Refusal> {
    let mut claims = Claims { bound: Vec::new(), delayed: Vec::new() };
    let mut any = false;
    for (name, is_ephemeral) in pod.volume_claims() {
        any = true;
        let refuse = |why: String| Refusal::unresolvable(ID, why);
        let claim = claim_of(listers, pod, &name, is_ephemeral).map_err(refuse)?;
        let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()).unwrap_or_default();
        if claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Lost") {
            let why = format!("persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}");
            return Err(refuse(why));
        }
        if claim.metadata.deletion_timestamp.is_some() {
            return Err(refuse(format!("persistentvolumeclaim {name:?} is being deleted")));
        }
        if is_bound(&claim) {
            claims.bound.push(claim);
        } else if volume.is_empty() && waits_for_consumer(listers, &claim) {
            claims.delayed.push(claim);
        } else {
            return Err(Refusal::unresolvable(ID, UNBOUND));
        }
    }
    Ok(any.then_some(claims))
}

fn waits_for_consumer(listers: &Listers, claim: &PersistentVolumeClaim) -> bool {
    let class = listers.storage_classes.get(&ObjectRef::cluster(class_of(claim)));
    class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"))
}

/// What is to become of the unbound claims of a pod that goes to a node.
pub(crate) fn decision(listers: &Listers, pod: &Pod, node: &Node) -> Result<Decision, Refusal> {
    match claims_of(listers, pod)? {
        Some(claims) => decide(listers, &claims, node),
        None => Ok(Decision::default()),
    }
}

impl Plugin for VolumeBinding {
    fn id(&self) -> PluginId {
        ID
    }

    fn pre_filter<'a>(&'a self, world: World<'a>, pod: &'a Pod) -> Result<PreFilter<'a>, Refusal> {
        let Some(claims) = claims_of(world.listers, pod)? else { return Ok(PreFilter::Skip) };
        let claims = Arc::new(claims);
        Ok(PreFilter::by(move |info| decide(world.listers, &claims, &info.node).map(|_| ())))
    }

    fn may_help(&self, _world: World<'_>, pod: &Pod, event: &Event<'_>) -> bool {
        match event {
            Event::NodeAdded(_) => true,
            Event::NodeUpdated { change, .. } => change.labels,
            Event::Volume(_) => true,
            Event::StorageClass(Update { old, new }) => {
                old.is_none_or(|old| old.allowed_topologies != new.allowed_topologies)
            }
            Event::Claim(Update { new, .. }) => {
                let name = new.metadata.name.as_deref();
                new.metadata.namespace.as_deref() == Some(&*pod.namespace)
                    && pod.volume_claims().any(|(claim, _)| Some(&*claim) == name)
            }
            Event::CsiNode(Update { old, new }) => {
                let migrated = |node: &k8s_openapi::api::storage::v1::CSINode| {
                    node.metadata.annotations.as_ref()?.get("storage.alpha.kubernetes.io/migrated-plugins").cloned()
                };
                old.is_none_or(|old| migrated(old) != migrated(new))
            }
            Event::CsiDriver(Update { old: Some(old), new }) => {
                let uses = |volume: &Volume| matches!(volume, Volume::Csi(driver) if Some(&**driver) == new.metadata.name.as_deref());
                old.spec.storage_capacity == Some(true)
                    && new.spec.storage_capacity != Some(true)
                    && pod.spec.volumes.iter().any(uses)
            }
            Event::CsiCapacity(Update { old, new }) => {
                old.is_none_or(|old| limit(new).is_some_and(|new| limit(old).is_none_or(|old| new > old)))
            }
            _ => false,
        }
    }
}

/// A volume that a claim is bound to.
pub(super) fn volume_of(listers: &Listers, claim: &PersistentVolumeClaim) -> Option<Arc<PersistentVolume>> {
    let name = claim.spec.as_ref()?.volume_name.clone().filter(|name| !name.is_empty())?;
    listers.volumes.get(&ObjectRef::cluster(name))
}
