//! Volumes that pods get by PersistentVolumeClaims.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec, Pod, Volume};
use kiln_apimachinery::quantity::Quantity;
use kiln_client::{Client, path};

use super::dirs::make;
use super::ownership::Group;
use super::{VolumeError, mounts, name, namespace, ownership, uid};
use crate::admission::affinity;

/// Holds a claim for as long as pods use it.
const PROTECTION: &str = "kubernetes.io/pvc-protection";
/// Who made a PersistentVolume.
const PROVISIONER: &str = "pv.kubernetes.io/provisioned-by";
/// The provisioner of folders on nodes. Its volumes' folders are made by the node that uses them.
const LOCAL_PATH: &str = "rancher.io/local-path";

/// A claim's volume.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) claim: PersistentVolumeClaim,
    pub(super) volume: PersistentVolume,
    pub(super) read_only: bool,
}

impl Claimed {
    /// The PersistentVolume's name.
    pub(super) fn name(&self) -> &str {
        self.volume.metadata.name.as_deref().unwrap_or_default()
    }

    /// How large the volume is.
    pub(super) fn capacity(&self) -> Option<Quantity> {
        storage(self.volume.spec.as_ref()?.capacity.as_ref()?)
    }

    /// Whether the volume has become larger than its file system.
    pub(super) fn is_to_grow(&self) -> bool {
        let known = self.claim.status.as_ref().and_then(|status| storage(status.capacity.as_ref()?));
        self.capacity().zip(known).is_some_and(|(wanted, known)| wanted > known)
    }

    /// Whether the cluster made the volume as a folder on this node, so that the folder is ours to make.
    pub(super) fn is_provisioned_here(&self) -> bool {
        let annotations = self.volume.metadata.annotations.as_ref();
        annotations.and_then(|annotations| annotations.get(PROVISIONER)).is_some_and(|by| by == LOCAL_PATH)
    }
}

/// The claim that a volume names, and whether it is to be read only. That of an ephemeral volume is named after pod and volume.
pub(super) fn named(pod: &Pod, volume: &Volume) -> Option<(String, bool)> {
    if let Some(source) = &volume.persistent_volume_claim {
        return Some((source.claim_name.clone(), source.read_only == Some(true)));
    }
    volume.ephemeral.as_ref().map(|_| (format!("{}-{}", name(pod), volume.name), false))
}

/// Finds the volume of a claim, if pods may use it.
pub(super) async fn find(
    client: &Client,
    pod: &Pod,
    volume: &Volume,
    claim: &str,
    read_only: bool,
) -> Result<Claimed, VolumeError> {
    let found = look_up(client, pod, volume, claim).await;
    let (claim, volume) = found.map_err(|why| VolumeError::Claim {
        namespace: namespace(pod).to_owned(),
        claim: claim.to_owned(),
        why,
    })?;
    Ok(Claimed { claim, volume, read_only })
}

async fn look_up(
    client: &Client,
    pod: &Pod,
    volume: &Volume,
    claim: &str,
) -> Result<(PersistentVolumeClaim, PersistentVolume), String> {
    let found: Result<PersistentVolumeClaim, _> =
        client.get(&path::<PersistentVolumeClaim>(namespace(pod), claim)).await;
    let found = found.map_err(|error| format!("failed to fetch PVC from API server: {error}"))?;
    if volume.ephemeral.is_some() && !is_owned(&found, pod) {
        return Err(format!(
            "PVC {}/{claim} was not created for pod {}/{} (pod is not owner)",
            namespace(pod),
            namespace(pod),
            name(pod)
        ));
    }
    let name = usable(&found)?;
    let volume: Result<PersistentVolume, _> = client.get(&path::<PersistentVolume>("", name)).await;
    let volume = volume.map_err(|error| format!("failed to fetch PV {name} from API server: {error}"))?;
    let claimed = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    let Some(claimed) = claimed else {
        let why = "has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim";
        return Err(format!("found PV object {name} but it {why}"));
    };
    let (theirs, ours) =
        (claimed.uid.as_deref().unwrap_or_default(), found.metadata.uid.as_deref().unwrap_or_default());
    if theirs != ours {
        let why = format!("its pv.Spec.ClaimRef.UID {theirs} does not point to claim.UID {ours}");
        return Err(format!("found PV object {name} but {why}"));
    }
    Ok((found, volume))
}

fn storage(amounts: &BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>) -> Option<Quantity> {
    Quantity::parse(&amounts.get("storage")?.0).ok()
}

/// The name of a claim's volume, if pods may use the claim.
fn usable(claim: &PersistentVolumeClaim) -> Result<&str, String> {
    let is_protected = claim.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == PROTECTION);
    if claim.metadata.deletion_timestamp.is_some() && !is_protected {
        return Err("PVC is being deleted".to_owned());
    }
    if claim.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Bound") {
        return Err("PVC is not bound".to_owned());
    }
    let name = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    if name.is_empty() { Err("PVC has empty pvc.Spec.VolumeName".to_owned()) } else { Ok(name) }
}

fn is_owned(claim: &PersistentVolumeClaim, pod: &Pod) -> bool {
    let owners = claim.metadata.owner_references.iter().flatten();
    owners.filter(|owner| owner.controller == Some(true)).any(|owner| owner.uid == uid(pod))
}

/// Whether a volume is one of this node's.
pub(super) fn check_affinity(spec: &PersistentVolumeSpec, labels: &BTreeMap<String, String>) -> Result<(), String> {
    let required = spec.node_affinity.as_ref().and_then(|affinity| affinity.required.as_ref());
    match required {
        Some(required) if !affinity::matches(required, labels, "") => Err("no matching NodeSelectorTerms".to_owned()),
        _ => Ok(()),
    }
}

/// Shows a folder of the node as a pod's volume.
pub(super) fn bind_local(from: &Path, to: &Path, group: Option<Group>) -> io::Result<()> {
    if mounts::at(to)?.is_some() {
        return Ok(());
    }
    if !from.is_dir() {
        return Err(io::Error::other(format!("{}: only directories can be mounted as file systems", from.display())));
    }
    if let Some(group) = group {
        ownership::give(from, group, false)?;
    }
    make(to, 0o750)?;
    mounts::bind(from, to)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_claim_can_be_used_once_it_is_bound_and_until_nothing_protects_it() {
        let now = json!("2026-01-01T00:00:00Z");
        let claim = |deleted: Value, finalizers: Value, phase: &str, volume: &str| {
            let claim = json!({
                "metadata": {"deletionTimestamp": deleted, "finalizers": finalizers},
                "spec": {"volumeName": volume},
                "status": {"phase": phase},
            });
            serde_json::from_value::<PersistentVolumeClaim>(claim).expect("a claim")
        };
        let rows = [
            (claim(Value::Null, json!([]), "Bound", "pv"), Ok("pv")),
            (claim(now.clone(), json!([PROTECTION]), "Bound", "pv"), Ok("pv")),
            (claim(now, json!([]), "Bound", "pv"), Err("PVC is being deleted")),
            (claim(Value::Null, json!([]), "Pending", "pv"), Err("PVC is not bound")),
            (claim(Value::Null, json!([]), "Bound", ""), Err("PVC has empty pvc.Spec.VolumeName")),
        ];
        for (claim, expected) in rows {
            assert_eq!(usable(&claim), expected.map_err(str::to_owned));
        }
    }
}
