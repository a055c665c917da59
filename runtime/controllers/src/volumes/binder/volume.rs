//! One look at a volume.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kiln_client::{Object as _, path};

use super::matching::has_mode;
use super::{BOUND_BY_CONTROLLER, Binder, Key, claim_key};
use crate::owned::name;
use crate::reconcile::Failure;
use crate::volumes::{PROVISIONED_BY, annotation, local_path};

fn phase(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn policy(volume: &PersistentVolume) -> &str {
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    policy.unwrap_or("Retain")
}

impl Binder {
    pub(super) async fn volume(&self, volume: &PersistentVolume) -> Result<(), Failure> {
        let claimant = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        let Some(claimant) = claimant.filter(|claimant| claimant.uid.as_ref().is_some_and(|uid| !uid.is_empty()))
        else {
            // Free, or reserved for a claim that is not bound yet.
            return self.set_volume_phase(volume.clone(), "Available", "").await.map(drop);
        };
        let Some(key) = claim_key(claimant) else { return Ok(()) };
        let is_it = |claim: &PersistentVolumeClaim| claim.metadata.uid == claimant.uid;
        let mut claim = self.claims.get(&key).filter(|claim| is_it(claim));
        if claim.is_none() && !matches!(phase(volume), "Released" | "Failed") {
            // Nothing may be reclaimed since a mirror is behind: the server knows.
            let path = path::<PersistentVolumeClaim>(&key.namespace, &key.name);
            let fresh = self.client.find::<PersistentVolumeClaim>(&path).await?;
            claim = fresh.filter(is_it).map(std::sync::Arc::new);
        }
        let Some(claim) = claim else { return self.release(volume).await };
        let bound_to = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
        if bound_to.is_empty() {
            if !has_mode(volume, &claim) {
                let message = format!(
                    "Cannot bind PersistentVolume to requested PersistentVolumeClaim {:?} due to incompatible volumeMode.",
                    name(&*claim)
                );
                self.recorder.warning(volume, "VolumeMismatch", message);
                let message = format!(
                    "Cannot bind PersistentVolume {:?} to requested PersistentVolumeClaim due to incompatible volumeMode.",
                    name(volume)
                );
                self.recorder.warning(&*claim, "VolumeMismatch", message);
                return Ok(());
            }
            self.queue.add(Key::Claim(claim.key()));
            return Ok(());
        }
        if bound_to == name(volume) {
            return self.set_volume_phase(volume.clone(), "Bound", "").await.map(drop);
        }
        if annotation(&volume.metadata, PROVISIONED_BY).is_some() && policy(volume) == "Delete" {
            // Made for this claim, which was bound to another one meanwhile.
            return self.release(volume).await;
        }
        self.unbind(volume).await
    }

    /// The claim is gone: the volume's policy says what is to become of it.
    async fn release(&self, volume: &PersistentVolume) -> Result<(), Failure> {
        let mut volume = volume.clone();
        if !matches!(phase(&volume), "Released" | "Failed") {
            volume = self.set_volume_phase(volume, "Released", "").await?;
        }
        let going = volume.metadata.deletion_timestamp.is_some();
        match policy(&volume) {
            "Retain" => Ok(()),
            "Delete" if annotation(&volume.metadata, PROVISIONED_BY) == Some(local_path::PROVISIONER) => {
                if going {
                    Ok(())
                } else {
                    self.delete_volume(&volume).await
                }
            }
            // Whoever made it deletes it when it sees that it is released.
            "Delete" if annotation(&volume.metadata, PROVISIONED_BY).is_some() => Ok(()),
            "Delete" => {
                let message = "error getting deleter volume plugin for volume: no deletable volume plugin matched";
                self.fail(volume, "VolumeFailedDelete", message).await
            }
            "Recycle" => self.fail(volume, "VolumeFailedRecycle", "No recycler plugin found for the volume!").await,
            _ => {
                let message = "Volume has unrecognized PersistentVolumeReclaimPolicy";
                self.fail(volume, "VolumeUnknownReclaimPolicy", message).await
            }
        }
    }

    async fn fail(&self, volume: PersistentVolume, reason: &str, message: &str) -> Result<(), Failure> {
        if phase(&volume) == "Failed" {
            return Ok(());
        }
        let failed = self.set_volume_phase(volume, "Failed", message).await?;
        self.recorder.warning(&failed, reason, message);
        Ok(())
    }

    /// Frees a volume that this controller bound; one that a user reserved stays reserved.
    async fn unbind(&self, volume: &PersistentVolume) -> Result<(), Failure> {
        let mut free = volume.clone();
        let ours = annotation(&volume.metadata, BOUND_BY_CONTROLLER).is_some();
        let spec = free.spec.get_or_insert_default();
        if ours {
            spec.claim_ref = None;
            if let Some(annotations) = &mut free.metadata.annotations {
                annotations.remove(BOUND_BY_CONTROLLER);
            }
        } else if let Some(claimant) = &mut spec.claim_ref {
            (claimant.uid, claimant.resource_version) = (None, None);
        }
        let free = self.write_volume(&free).await?;
        self.set_volume_phase(free, "Available", "").await.map(drop)
    }
}
