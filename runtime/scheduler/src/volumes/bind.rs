//! Carries out a decision: tells volumes and claims, and waits until the volume controller has bound them.

use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kiln_client::{Client, ClientError, ObjectRef, PatchKind, Store, path};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Decision;
use super::matching::{SELECTED_NODE, is_bound, selected_node};
use crate::model::Name;

/// Why a pod's volumes were not bound.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindVolumesError {
    /// A volume or a claim could not be told.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The volume controller did not do its part in time.
    #[error("binding volumes: context deadline exceeded")]
    Timeout,
    /// The provisioner gave the node up.
    #[error("binding volumes: provisioning failed for PVC {0:?}")]
    Failed(String),
    /// A claim is gone.
    #[error("binding volumes: failed to check binding: persistentvolumeclaim {0:?} not found")]
    Gone(String),
}

/// Binds the volumes of a pod that goes to a node. `changed` is told whenever a claim changes.
pub(crate) async fn bind(
    client: &Client,
    claims: &Store<PersistentVolumeClaim>,
    mut changed: watch::Receiver<()>,
    decision: &Decision,
    node: &Name,
    timeout: Duration,
) -> Result<(), BindVolumesError> {
    for (volume, claim) in &decision.bindings {
        reserve(client, volume, claim).await?;
    }
    let mut told = Vec::new();
    for claim in &decision.provisions {
        let meta = &claim.metadata;
        let path = path::<PersistentVolumeClaim>(
            meta.namespace.as_deref().unwrap_or_default(),
            meta.name.as_deref().unwrap_or_default(),
        );
        let patch = json!({"metadata": {
            "resourceVersion": meta.resource_version,
            "annotations": {SELECTED_NODE: &**node},
        }});
        let new: PersistentVolumeClaim = client.patch(&path, PatchKind::Merge, &patch).await?;
        told.push(new.metadata.resource_version);
    }
    let waited = tokio::time::timeout(timeout, async {
        loop {
            changed.borrow_and_update();
            if are_bound(claims, decision, node, &told)? {
                return Ok(());
            }
            if changed.changed().await.is_err() {
                return Err(BindVolumesError::Timeout);
            }
        }
    });
    waited.await.unwrap_or(Err(BindVolumesError::Timeout))
}

/// Promises a volume to a claim.
async fn reserve(
    client: &Client,
    volume: &PersistentVolume,
    claim: &PersistentVolumeClaim,
) -> Result<(), BindVolumesError> {
    let mut annotations = json!({});
    if volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()).is_none() {
        annotations["pv.kubernetes.io/bound-by-controller"] = json!("yes");
    }
    let patch = json!({
        "metadata": {"resourceVersion": volume.metadata.resource_version, "annotations": annotations},
        "spec": {"claimRef": {
            "kind": "PersistentVolumeClaim",
            "apiVersion": "v1",
            "namespace": claim.metadata.namespace,
            "name": claim.metadata.name,
            "uid": claim.metadata.uid,
            "resourceVersion": claim.metadata.resource_version,
        }},
    });
    let path = path::<PersistentVolume>("", volume.metadata.name.as_deref().unwrap_or_default());
    client.patch::<Value>(&path, PatchKind::Merge, &patch).await?;
    Ok(())
}

fn are_bound(
    claims: &Store<PersistentVolumeClaim>,
    decision: &Decision,
    node: &Name,
    told: &[Option<String>],
) -> Result<bool, BindVolumesError> {
    let current = |claim: &PersistentVolumeClaim| {
        let (namespace, name) = (claim.metadata.namespace.clone(), claim.metadata.name.clone().unwrap_or_default());
        let key = ObjectRef::namespaced(namespace.unwrap_or_default(), name.clone());
        claims.get(&key).ok_or(BindVolumesError::Gone(name))
    };
    for (_, claim) in &decision.bindings {
        if !is_bound(&*current(claim)?) {
            return Ok(false);
        }
    }
    for (claim, told) in decision.provisions.iter().zip(told) {
        let now = current(claim)?;
        let is_old = now.metadata.resource_version == claim.metadata.resource_version;
        if is_old && now.metadata.resource_version != *told {
            return Ok(false);
        }
        if selected_node(&now) != Some(&**node) {
            return Err(BindVolumesError::Failed(claim.metadata.name.clone().unwrap_or_default()));
        }
        if !is_bound(&now) {
            return Ok(false);
        }
    }
    Ok(true)
}
