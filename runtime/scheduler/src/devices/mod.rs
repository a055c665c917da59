//! Devices of ResourceClaims (KEP-4381, structured parameters): which a pod's claims get on a node, and their writing down.
//!
//! Left out are devices that share counters, that several claims share, or that wait for conditions before they are bound: they
//! count as not there.

mod allocate;
mod assumed;
mod bind;
mod pool;
mod selector;

use std::sync::Arc;

use k8s_openapi::api::resource::v1::{AllocationResult, ResourceClaim};
use kiln_client::ObjectRef;

pub(crate) use allocate::{allocate, missing_class};
pub(crate) use assumed::AssumedDevices;
pub(crate) use bind::bind;

use crate::listers::Listers;
use crate::model::{DeviceClaim, Name, Node, NodeTerm, Pod, matches_any};

/// A device: its driver, its pool and its name there.
pub(crate) type DeviceId = (String, String, String);

/// What is to become of a pod's claims on a node: each with the devices that it gets, if it has none yet.
pub(crate) type Reservation = Vec<(Arc<ResourceClaim>, Option<AllocationResult>)>;

/// How many pods can use one claim.
const MOST_USERS: usize = 256;

/// The claims of a pod.
///
/// # Errors
/// One is not there yet, or on its way out.
pub(crate) fn claims_of(listers: &Listers, pod: &Pod) -> Result<Vec<Arc<ResourceClaim>>, String> {
    let mut claims = Vec::new();
    for claim in &pod.claims {
        let name = match claim {
            DeviceClaim::Unneeded => continue,
            DeviceClaim::Awaited(entry) => {
                let place = format!("{}/{}", pod.namespace, pod.name);
                return Err(format!("pod {place:?}: ResourceClaim for {entry:?} not created yet"));
            }
            DeviceClaim::Named(name) => name,
        };
        let key = ObjectRef::namespaced(&*pod.namespace, &**name);
        let found = listers.device_claims.get(&key);
        let found = found.ok_or_else(|| format!("resourceclaim.resource.k8s.io {name:?} not found"))?;
        if found.metadata.deletion_timestamp.is_some() {
            return Err(format!("resourceclaim {name:?} is being deleted"));
        }
        claims.push(found);
    }
    Ok(claims)
}

/// The devices that a claim has.
pub(crate) fn allocation(claim: &ResourceClaim) -> Option<&AllocationResult> {
    claim.status.as_ref()?.allocation.as_ref()
}

/// Whether a pod may use a claim that has its devices.
pub(crate) fn is_usable(claim: &ResourceClaim, pod: &Pod) -> bool {
    let users = claim.status.as_ref().and_then(|status| status.reserved_for.as_deref()).unwrap_or_default();
    users.len() < MOST_USERS || users.iter().any(|user| *user.uid == *pod.uid)
}

/// Whether what a claim has can be used on a node.
pub(crate) fn is_within_reach(allocation: &AllocationResult, node: &Node) -> bool {
    let Some(selector) = &allocation.node_selector else { return true };
    let terms: Vec<_> = selector.node_selector_terms.iter().map(|term| NodeTerm::of(term, Name::new)).collect();
    matches_any(&terms, &node.name, &*node.labels)
}

/// What is to become of the claims of a pod that goes to a node.
///
/// # Errors
/// They can't be had there any more.
pub(crate) fn reservation(listers: &Listers, pod: &Pod, node: &Node) -> Result<Reservation, String> {
    let claims = claims_of(listers, pod)?;
    let open: Vec<_> = claims.iter().filter(|claim| allocation(claim).is_none()).cloned().collect();
    let got = if open.is_empty() { Some(Vec::new()) } else { allocate(listers, &open, node)? };
    let mut got = got.ok_or("cannot allocate all claims")?.into_iter();
    let reserve = |claim: Arc<ResourceClaim>| {
        let new = if allocation(&claim).is_none() { got.next() } else { None };
        (claim, new)
    };
    Ok(claims.into_iter().map(reserve).collect())
}
