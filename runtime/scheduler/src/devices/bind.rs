//! Writes down which devices a pod's claims have, and that the pod uses them.

use k8s_openapi::api::resource::v1::ResourceClaim;
use kiln_client::{Client, ClientError, PatchKind, path};
use serde_json::{Value, json};

use super::Reservation;
use crate::model::Pod;

/// Keeps a claim with devices until nobody uses them.
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// How often a claim that others change at the same time is tried.
const TRIES: usize = 5;

/// Binds the claims of a pod.
///
/// # Errors
/// A claim can't be written.
pub(crate) async fn bind(client: &Client, pod: &Pod, reservation: &Reservation) -> Result<(), ClientError> {
    for (claim, allocation) in reservation {
        let meta = &claim.metadata;
        let path = path::<ResourceClaim>(
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
        );
        let mut current: ResourceClaim = (**claim).clone();
        for tries_left in (0..TRIES).rev() {
            match write(client, &path, pod, &current, allocation).await {
                Err(error) if error.is_conflict() && tries_left > 0 => current = client.get(&path).await?,
                other => {
                    other?;
                    break;
                }
            }
        }
    }
    Ok(())
}

async fn write(
    client: &Client,
    path: &str,
    pod: &Pod,
    claim: &ResourceClaim,
    allocation: &Option<k8s_openapi::api::resource::v1::AllocationResult>,
) -> Result<(), ClientError> {
    let status = claim.status.as_ref();
    let mut users = status.and_then(|status| status.reserved_for.clone()).unwrap_or_default();
    let has_devices = status.is_some_and(|status| status.allocation.is_some());
    if has_devices && users.iter().any(|user| *user.uid == *pod.uid) {
        return Ok(());
    }
    let mut version = claim.metadata.resource_version.clone();
    let mut finalizers = claim.metadata.finalizers.clone().unwrap_or_default();
    if !has_devices && !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        finalizers.push(FINALIZER.to_owned());
        let patch = json!({"metadata": {"resourceVersion": version, "finalizers": finalizers}});
        let new: ResourceClaim = client.patch(path, PatchKind::Merge, &patch).await?;
        version = new.metadata.resource_version;
    }
    users.push(k8s_openapi::api::resource::v1::ResourceClaimConsumerReference {
        api_group: None,
        resource: "pods".to_owned(),
        name: pod.name.to_string(),
        uid: pod.uid.to_string(),
    });
    let mut new = json!({"reservedFor": users});
    if !has_devices {
        new["allocation"] = json!(allocation);
    }
    let patch = json!({"metadata": {"resourceVersion": version}, "status": new});
    client.patch::<Value>(&format!("{path}/status"), PatchKind::Merge, &patch).await?;
    Ok(())
}
