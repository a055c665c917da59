//! Volumes that grow while they are in use.

use std::path::Path;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use kiln_apimachinery::quantity::Quantity;
use kiln_client::{PatchKind, path};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::super::claims::Claimed;
use super::super::{VolumeError, Volumes};
use super::driver::{Asked, Driver, Texts, text};
use crate::csi::client;
use crate::csi::messages::{Capability, CapacityRange, NodeExpandVolumeRequest, NodeExpandVolumeResponse};

impl Volumes {
    /// Has the driver make the file system as large as the volume has become, and says so in the claim's status.
    pub(super) async fn grow(
        &self,
        claimed: &Claimed,
        driver: &Driver,
        asked: &Asked<'_>,
        staging: Option<&Path>,
        target: &Path,
    ) -> Result<(), VolumeError> {
        let Some(wanted) = claimed.capacity().filter(|_| claimed.is_to_grow()) else { return Ok(()) };
        if !driver.can(Capability::ExpandVolume) {
            return self.grown(claimed, wanted).await;
        }
        let failed = |why: String| VolumeError::Step {
            step: "NodeExpandVolume.NodeExpandVolume",
            volume: claimed.name().to_owned(),
            why,
        };
        let source = claimed.volume.spec.as_ref().and_then(|spec| spec.csi.as_ref());
        let mut secrets = Texts::new();
        if let Some(reference) = source.and_then(|source| source.node_expand_secret_ref.as_ref()) {
            let (namespace, name) =
                (reference.namespace.as_deref().unwrap_or_default(), reference.name.as_deref().unwrap_or_default());
            let secret: Result<Secret, _> = self.0.client.get(&path::<Secret>(namespace, name)).await;
            let secret = secret
                .map_err(|error| failed(format!("failed to get NodeExpandSecretRef {namespace}/{name}: {error}")))?;
            let data = secret.data.unwrap_or_default().into_iter();
            secrets.extend(data.map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned())));
        }
        let request = NodeExpandVolumeRequest {
            volume_id: asked.handle.to_owned(),
            volume_path: text(target),
            capacity_range: Some(CapacityRange { required_bytes: wanted.value() }),
            staging_target_path: staging.map(text).unwrap_or_default(),
            volume_capability: Some(driver.capability(asked)),
            secrets,
        };
        let answer: Result<NodeExpandVolumeResponse, _> =
            client::node(&driver.socket, "NodeExpandVolume", &request).await;
        let answer = answer.map_err(|error| failed(error.to_string()))?;
        tracing::info!(volume = claimed.name(), bytes = answer.capacity_bytes, "the volume has grown");
        self.grown(claimed, wanted).await
    }

    async fn grown(&self, claimed: &Claimed, capacity: Quantity) -> Result<(), VolumeError> {
        let meta = &claimed.claim.metadata;
        let (namespace, name) =
            (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
        let conditions = claimed.claim.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let kept: Vec<Value> = conditions
            .filter(|condition| !matches!(condition.type_.as_str(), "FileSystemResizePending" | "Resizing"))
            .map(|condition| json!(condition))
            .collect();
        let patch = json!({
            "metadata": {"resourceVersion": meta.resource_version},
            "status": {
                "capacity": {"storage": capacity.to_string()},
                "conditions": kept,
                "allocatedResourceStatuses": null,
            },
        });
        let place = format!("{}/status", path::<PersistentVolumeClaim>(namespace, name));
        let patched = self.0.client.patch::<IgnoredAny>(&place, PatchKind::Merge, &patch).await;
        patched.map(drop).map_err(|error| VolumeError::Step {
            step: "NodeExpandVolume.MarkFSResizeFinished",
            volume: claimed.name().to_owned(),
            why: error.to_string(),
        })
    }
}
