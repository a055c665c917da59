//! Which claims a pod has, and which of them a container uses.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{Container, Pod, PodResourceClaim};
use k8s_openapi::api::resource::v1::ResourceClaim;

use crate::pods::{namespace, uid};

/// A claim that a pod needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) name: String,
    /// It was made for this pod, and must be its own.
    pub(super) is_made: bool,
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

fn entries(pod: &Pod) -> &[PodResourceClaim] {
    pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_deref()).unwrap_or_default()
}

/// The claim behind one of a pod's entries; none, if none is needed.
fn resolve(pod: &Pod, entry: &PodResourceClaim) -> Result<Option<Wanted>, String> {
    let place = format!("{}/{}", namespace(pod), name(pod));
    if let Some(name) = &entry.resource_claim_name {
        return Ok(Some(Wanted { name: name.clone(), is_made: false }));
    }
    if entry.resource_claim_template_name.is_none() {
        let entry = &entry.name;
        return Err(format!("pod {place:?}, spec.resourceClaim {entry:?}: none of the supported fields are set"));
    }
    let statuses = pod.status.as_ref().and_then(|status| status.resource_claim_statuses.as_deref());
    let found = statuses.unwrap_or_default().iter().find(|status| status.name == entry.name);
    let found = found.ok_or_else(|| format!("pod {place:?}: ResourceClaim not created yet"))?;
    Ok(found.resource_claim_name.clone().map(|name| Wanted { name, is_made: true }))
}

/// All claims of a pod, with the one that the scheduler made for its extended resources.
pub(super) fn wanted(pod: &Pod) -> Result<Vec<Wanted>, String> {
    let mut all = Vec::new();
    for entry in entries(pod) {
        all.extend(resolve(pod, entry)?);
    }
    let extended = pod.status.as_ref().and_then(|status| status.extended_resource_claim_status.as_ref());
    all.extend(extended.map(|status| Wanted { name: status.resource_claim_name.clone(), is_made: false }));
    // A pod may name a claim twice.
    let mut seen = HashSet::new();
    all.retain(|one| seen.insert(one.name.clone()));
    Ok(all)
}

/// Whether a pod may use a claim.
pub(super) fn check(pod: &Pod, wanted: &Wanted, claim: &ResourceClaim) -> Result<(), String> {
    let (space, pod_name, pod_uid, claim_name) = (namespace(pod), name(pod), uid(pod), &wanted.name);
    let owners = claim.metadata.owner_references.iter().flatten();
    let is_own = owners.into_iter().any(|owner| owner.controller == Some(true) && owner.uid == pod_uid);
    if wanted.is_made && !is_own {
        return Err(format!(
            "ResourceClaim {space}/{claim_name} was not created for Pod {space}/{pod_name} (Pod is not owner)"
        ));
    }
    let consumers = claim.status.as_ref().and_then(|status| status.reserved_for.as_deref()).unwrap_or_default();
    if consumers.iter().any(|consumer| consumer.uid == pod_uid) {
        return Ok(());
    }
    let claim_uid = claim.metadata.uid.as_deref().unwrap_or_default();
    Err(format!("pod {pod_name} ({pod_uid}) is not allowed to use ResourceClaim {claim_name} ({claim_uid})"))
}

/// The claims of a container, each with a request of it, or with an empty text for all of it.
pub(super) fn of_container(pod: &Pod, container: &Container) -> Result<Vec<(String, String)>, String> {
    let mut all = Vec::new();
    let used = container.resources.iter().flat_map(|resources| resources.claims.iter().flatten());
    for one in used {
        let Some(entry) = entries(pod).iter().find(|entry| entry.name == one.name) else { continue };
        if let Some(wanted) = resolve(pod, entry)? {
            all.push((wanted.name, one.request.clone().unwrap_or_default()));
        }
    }
    let extended = pod.status.iter().filter_map(|status| status.extended_resource_claim_status.as_ref());
    for status in extended {
        let mine = status.request_mappings.iter().filter(|mapping| mapping.container_name == container.name);
        all.extend(mine.map(|mapping| (status.resource_claim_name.clone(), mapping.request_name.clone())));
    }
    Ok(all)
}
