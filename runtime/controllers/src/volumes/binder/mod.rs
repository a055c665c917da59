//! Brings claims and volumes together.
//!
//! In come changes of claims, volumes and classes; each claim and each volume is looked at by itself, one at a time, and only when
//! the mirrors show what was written last, so that two claims never get one volume. A binding is four writes: the volume, its
//! status, the claim, its status; whichever is missing is made at the next look. What becomes of a volume whose claim is gone says
//! its reclaim policy. Where nothing suits a claim, its class's provisioner is told by an annotation.

mod claim;
mod matching;
mod volume;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{
    ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus, PersistentVolumeStatus, Pod,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use kiln_apimachinery::quantity::Quantity;
use kiln_client::{Change, Client, Informers, Object as _, ObjectRef, Store, WorkQueue, path};
use serde_json::Value;

use self::matching::is_for;
pub(super) use self::matching::requested;
use super::{annotation, class_of};
use crate::owned::{name, namespace};
use crate::reconcile::{Failure, Next, work};
use crate::written::Written;
use crate::{Context, Recorder};

/// On a claim: it has been bound once, and is lost if its volume goes.
pub(crate) const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On either: this controller chose the other one.
pub(crate) const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a volume that has grown: how large its file system is for now.
const PRE_RESIZE: &str = "volume.alpha.kubernetes.io/pre-resize-capacity";
const BETA_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
/// A class whose volumes are made by hand.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
/// The index of volumes by their claims.
const CLAIM: &str = "claim";

/// What to look at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Claim(ObjectRef),
    Volume(String),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(claim) => claim.fmt(f),
            Self::Volume(volume) => f.write_str(volume),
        }
    }
}

/// Adds the controller to the mirrors; what is returned runs it until the shutdown.
pub fn build(informers: &mut Informers, context: &Context) -> impl Future<Output = ()> + use<> {
    let queue = WorkQueue::<Key>::default();
    let binder = Arc::new(Binder {
        client: context.client.clone(),
        recorder: context.events.recorder("persistentvolume-controller"),
        claims: informers.of::<PersistentVolumeClaim>().store(),
        volumes: informers.of::<PersistentVolume>().store(),
        classes: informers.of::<StorageClass>().store(),
        pods: informers.of::<Pod>().store(),
        queue: queue.clone(),
        written_claims: Written::default(),
        written_volumes: Written::default(),
    });
    informers.of::<PersistentVolumeClaim>().subscribe({
        let binder = binder.clone();
        move |change| binder.on_claim(change)
    });
    let volumes = informers.of::<PersistentVolume>();
    volumes.index(CLAIM, |volume| {
        let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        reference.and_then(claim_key).map(|claim| claim.to_string()).into_iter().collect()
    });
    volumes.subscribe({
        let binder = binder.clone();
        move |change| binder.on_volume(change)
    });
    informers.of::<StorageClass>().subscribe({
        let binder = binder.clone();
        move |change| {
            if let Change::Applied { .. } = change {
                binder.retry_pending(|_| true);
            }
        }
    });
    let shutdown = context.shutdown.clone();
    async move {
        work("volume-binder", &queue, &shutdown, |key| binder.reconcile(key)).await;
    }
}

/// The claim that a reference leads to.
fn claim_key(reference: &ObjectReference) -> Option<ObjectRef> {
    Some(ObjectRef::namespaced(reference.namespace.clone()?, reference.name.clone()?))
}

fn claim_phase(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

struct Binder {
    client: Client,
    recorder: Recorder,
    claims: Store<PersistentVolumeClaim>,
    volumes: Store<PersistentVolume>,
    classes: Store<StorageClass>,
    pods: Store<Pod>,
    queue: WorkQueue<Key>,
    written_claims: Written<()>,
    written_volumes: Written<()>,
}

impl Binder {
    fn on_claim(&self, change: &Change<PersistentVolumeClaim>) {
        match change {
            Change::Synced => {}
            Change::Applied { key, .. } => self.queue.add(Key::Claim(key.clone())),
            Change::Deleted { key, .. } => {
                for volume in self.volumes.by_index(CLAIM, &key.to_string()) {
                    self.queue.add(Key::Volume(volume.key().name));
                }
            }
        }
    }

    fn on_volume(&self, change: &Change<PersistentVolume>) {
        let (volume, gone) = match change {
            Change::Synced => return,
            Change::Applied { object, .. } => (object, false),
            Change::Deleted { object, .. } => (object, true),
        };
        if !gone {
            self.queue.add(Key::Volume(volume.key().name));
        }
        let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        match reference.and_then(claim_key) {
            Some(claim) => self.queue.add(Key::Claim(claim)),
            None if gone => {}
            // It may be what a claim waits for.
            None => self.retry_pending(|claim| {
                let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
                named == volume.key().name || (named.is_empty() && class_of(claim) == super::class_of_volume(volume))
            }),
        }
    }

    /// Looks again at claims that wait.
    fn retry_pending(&self, wanted: impl Fn(&PersistentVolumeClaim) -> bool) {
        for claim in self.claims.list() {
            if matches!(claim_phase(&claim), "" | "Pending") && wanted(&claim) {
                self.queue.add(Key::Claim(claim.key()));
            }
        }
    }

    async fn reconcile(&self, key: Key) -> Result<Next, Failure> {
        tokio::join!(self.claims.synced(), self.volumes.synced(), self.classes.synced(), self.pods.synced());
        self.written_claims.settled(&(), &self.claims).await;
        self.written_volumes.settled(&(), &self.volumes).await;
        match key {
            Key::Claim(key) => {
                let Some(claim) = self.claims.get(&key) else { return Ok(Next::Settled) };
                if annotation(&claim.metadata, BIND_COMPLETED).is_some() {
                    self.bound_claim(&claim).await?;
                } else {
                    self.unbound_claim(&claim).await?;
                }
            }
            Key::Volume(name) => {
                if let Some(volume) = self.volumes.get(&ObjectRef::cluster(name)) {
                    self.volume(&volume).await?;
                }
            }
        }
        Ok(Next::Settled)
    }

    /// Makes whatever is missing of a binding.
    async fn bind(&self, volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Result<(), Failure> {
        let mut bound = volume.clone();
        let spec = bound.spec.get_or_insert_default();
        let complete = spec.claim_ref.as_ref().is_some_and(|claimant| {
            claimant.uid == claim.metadata.uid
                && claimant.name == claim.metadata.name
                && claimant.namespace == claim.metadata.namespace
        });
        if !complete {
            spec.claim_ref = Some(ObjectReference {
                api_version: Some(PersistentVolumeClaim::API_VERSION.to_owned()),
                kind: Some(PersistentVolumeClaim::KIND.to_owned()),
                name: claim.metadata.name.clone(),
                namespace: claim.metadata.namespace.clone(),
                uid: claim.metadata.uid.clone(),
                resource_version: claim.metadata.resource_version.clone(),
                field_path: None,
            });
            if !is_for(volume, claim) {
                let annotations = bound.metadata.annotations.get_or_insert_default();
                annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
            }
            bound = self.write_volume(&bound).await?;
        }
        let bound = self.set_volume_phase(bound, "Bound", "").await?;

        let mut claimed = claim.clone();
        let spec = claimed.spec.get_or_insert_default();
        let mut changed = false;
        if spec.volume_name != bound.metadata.name {
            spec.volume_name.clone_from(&bound.metadata.name);
            let annotations = claimed.metadata.annotations.get_or_insert_default();
            annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
            changed = true;
        }
        if annotation(&claimed.metadata, BIND_COMPLETED).is_none() {
            let annotations = claimed.metadata.annotations.get_or_insert_default();
            annotations.insert(BIND_COMPLETED.to_owned(), "yes".to_owned());
            changed = true;
        }
        if changed {
            claimed = self.write_claim(&claimed).await?;
        }
        self.set_claim_status(&claimed, "Bound", Some(&bound)).await.map(drop)
    }

    async fn write_claim(&self, claim: &PersistentVolumeClaim) -> Result<PersistentVolumeClaim, Failure> {
        let path = path::<PersistentVolumeClaim>(namespace(claim), name(claim));
        let written: PersistentVolumeClaim = self.client.update(&path, claim).await?;
        self.written_claims.note(&(), &written);
        Ok(written)
    }

    async fn write_volume(&self, volume: &PersistentVolume) -> Result<PersistentVolume, Failure> {
        let written: PersistentVolume = self.client.update(&path::<PersistentVolume>("", name(volume)), volume).await?;
        self.written_volumes.note(&(), &written);
        Ok(written)
    }

    async fn set_claim_status(
        &self,
        claim: &PersistentVolumeClaim,
        phase: &str,
        volume: Option<&PersistentVolume>,
    ) -> Result<PersistentVolumeClaim, Failure> {
        let mut status: PersistentVolumeClaimStatus = claim.status.clone().unwrap_or_default();
        let was = claim_phase(claim);
        match volume.and_then(|volume| volume.spec.as_ref()) {
            None => {
                (status.access_modes, status.capacity, status.current_volume_attributes_class_name) = (None, None, None)
            }
            Some(spec) => {
                status.access_modes.clone_from(&spec.access_modes);
                // The file system may be smaller than the volume for a while: not to be undone.
                if was != phase {
                    // Nor is it to be told larger than it is.
                    let before = volume.and_then(|volume| annotation(&volume.metadata, PRE_RESIZE));
                    let before = before.filter(|size| Quantity::parse(size).is_ok());
                    let size = spec.capacity.as_ref().and_then(|capacity| capacity.get("storage").cloned());
                    let size = before.map(|size| Amount(size.to_owned())).or(size);
                    status.capacity = size.map(|size| BTreeMap::from([("storage".to_owned(), size)]));
                }
                if was == "Pending" && phase == "Bound" {
                    status.current_volume_attributes_class_name.clone_from(&spec.volume_attributes_class_name);
                }
            }
        }
        status.phase = Some(phase.to_owned());
        if claim.status.as_ref() == Some(&status) {
            return Ok(claim.clone());
        }
        let mut changed = claim.clone();
        changed.status = Some(status);
        let path = format!("{}/status", path::<PersistentVolumeClaim>(namespace(claim), name(claim)));
        let written: PersistentVolumeClaim = self.client.update(&path, &changed).await?;
        self.written_claims.note(&(), &written);
        Ok(written)
    }

    async fn set_volume_phase(
        &self,
        mut volume: PersistentVolume,
        phase: &str,
        message: &str,
    ) -> Result<PersistentVolume, Failure> {
        let status: &mut PersistentVolumeStatus = volume.status.get_or_insert_default();
        if status.phase.as_deref() == Some(phase) {
            return Ok(volume);
        }
        status.phase = Some(phase.to_owned());
        status.message = Some(message.to_owned()).filter(|message| !message.is_empty());
        let path = format!("{}/status", path::<PersistentVolume>("", name(&volume)));
        let written: PersistentVolume = self.client.update(&path, &volume).await?;
        self.written_volumes.note(&(), &written);
        Ok(written)
    }

    /// Deletes a volume whose provisioner is this cluster's own.
    async fn delete_volume(&self, volume: &PersistentVolume) -> Result<(), Failure> {
        crate::status_patch::unless_gone(
            self.client.delete(&path::<PersistentVolume>("", name(volume)), &Value::Null).await,
        )
    }
}
