//! One look at a claim.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kiln_client::ObjectRef;

use super::matching::{best, is_for, objection};
use super::{BETA_PROVISIONER, Binder, DEFAULT_CLASS, NO_PROVISIONER, claim_phase};
use crate::owned::{name, namespace};
use crate::pods::{is_terminal, node_name};
use crate::reconcile::Failure;
use crate::volumes::{PROVISIONER, SELECTED_NODE, annotation, claim_of, class_of};

impl Binder {
    /// A claim that has not been bound yet.
    pub(super) async fn unbound_claim(&self, claim: &PersistentVolumeClaim) -> Result<(), Failure> {
        let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()).unwrap_or_default();
        if !named.is_empty() {
            return self.named_volume(claim, &named).await;
        }
        let class = self.classes.get(&ObjectRef::cluster(class_of(claim)));
        let delayed =
            class.as_ref().and_then(|class| class.volume_binding_mode.as_deref()) == Some("WaitForFirstConsumer");
        if let Some(volume) = best(self.volumes.list(), claim, delayed) {
            return self.bind(&volume, claim).await;
        }
        if self.assign_default_class(claim).await? {
            return Ok(());
        }
        if delayed && annotation(&claim.metadata, SELECTED_NODE).is_none() {
            self.tell_delay(claim);
        } else if !class_of(claim).is_empty() {
            return self.provision(claim, class.as_deref()).await;
        } else {
            let message = "no persistent volumes available for this claim and no storage class is set";
            self.recorder.normal(claim, "FailedBinding", message);
        }
        self.set_claim_status(claim, "Pending", None).await.map(drop)
    }

    /// A claim that names its volume.
    async fn named_volume(&self, claim: &PersistentVolumeClaim, named: &str) -> Result<(), Failure> {
        let Some(volume) = self.volumes.get(&ObjectRef::cluster(named)) else {
            return self.set_claim_status(claim, "Pending", None).await.map(drop);
        };
        let free = volume.spec.as_ref().is_none_or(|spec| spec.claim_ref.is_none());
        if free {
            return match objection(&volume, claim) {
                None => self.bind(&volume, claim).await,
                Some(why) => {
                    let message = format!("Cannot bind to requested volume {named:?}: {why}");
                    self.recorder.warning(claim, "VolumeMismatch", message);
                    self.set_claim_status(claim, "Pending", None).await.map(drop)
                }
            };
        }
        if is_for(&volume, claim) {
            return self.bind(&volume, claim).await;
        }
        let message = format!("volume {named:?} already bound to a different claim.");
        self.recorder.warning(claim, "FailedBinding", message);
        self.set_claim_status(claim, "Pending", None).await.map(drop)
    }

    /// A claim that was bound before.
    pub(super) async fn bound_claim(&self, claim: &PersistentVolumeClaim) -> Result<(), Failure> {
        let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()).unwrap_or_default();
        let volume = self.volumes.get(&ObjectRef::cluster(&*named));
        let (reason, message) = match &volume {
            _ if named.is_empty() => {
                ("ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!")
            }
            None => ("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!"),
            Some(volume) => {
                let claimant = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
                if claimant.is_none_or(|claimant| claimant.uid == claim.metadata.uid) {
                    return self.bind(volume, claim).await;
                }
                ("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
            }
        };
        if claim_phase(claim) != "Lost" {
            self.set_claim_status(claim, "Lost", None).await?;
            self.recorder.warning(claim, reason, message);
        }
        Ok(())
    }

    /// Gives a claim without a class the default one, if there is one by now.
    async fn assign_default_class(&self, claim: &PersistentVolumeClaim) -> Result<bool, Failure> {
        let has_class = claim.spec.as_ref().is_some_and(|spec| spec.storage_class_name.is_some());
        if has_class || !class_of(claim).is_empty() {
            return Ok(false);
        }
        let classes = self.classes.list();
        let defaults = classes.iter().filter(|class| annotation(&class.metadata, DEFAULT_CLASS) == Some("true"));
        // The newest of several counts.
        let newest = defaults.max_by_key(|class| {
            (class.metadata.creation_timestamp.clone(), std::cmp::Reverse(class.metadata.name.clone()))
        });
        let Some(class) = newest else { return Ok(false) };
        let mut changed = claim.clone();
        changed.spec.get_or_insert_default().storage_class_name.clone_from(&class.metadata.name);
        self.write_claim(&changed).await?;
        Ok(true)
    }

    fn tell_delay(&self, claim: &PersistentVolumeClaim) {
        let uses = |pod: &Pod| {
            let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
            volumes.into_iter().any(|volume| claim_of(pod, volume).as_deref() == Some(name(claim)))
        };
        let pods = self.pods.in_namespace(namespace(claim));
        let waiting: Vec<&str> = pods
            .iter()
            .filter(|pod| node_name(pod).is_empty() && !is_terminal(pod) && uses(pod))
            .map(|pod| name(&**pod))
            .collect();
        match waiting[..] {
            [] => {
                let message = "waiting for first consumer to be created before binding";
                self.recorder.normal(claim, "WaitForFirstConsumer", message);
            }
            [pod] => {
                self.recorder.normal(claim, "WaitForPodScheduled", format!("waiting for pod {pod} to be scheduled"));
            }
            _ => {
                let pods = waiting.join(",");
                self.recorder.normal(claim, "WaitForPodScheduled", format!("waiting for pods {pods} to be scheduled"));
            }
        }
    }

    /// Tells the provisioner of a claim's class.
    async fn provision(&self, claim: &PersistentVolumeClaim, class: Option<&StorageClass>) -> Result<(), Failure> {
        let Some(class) = class else {
            let message = format!("storageclass.storage.k8s.io {:?} not found", class_of(claim));
            self.recorder.warning(claim, "ProvisioningFailed", message);
            return self.set_claim_status(claim, "Pending", None).await.map(drop);
        };
        let provisioner = class.provisioner.as_str();
        if provisioner == NO_PROVISIONER {
            let message = "storageclass has no provisioner and no persistent volumes are available for this claim";
            self.recorder.normal(claim, "FailedBinding", message);
            return self.set_claim_status(claim, "Pending", None).await.map(drop);
        }
        if annotation(&claim.metadata, PROVISIONER) != Some(provisioner) {
            let mut changed = claim.clone();
            let annotations = changed.metadata.annotations.get_or_insert_default();
            annotations.insert(BETA_PROVISIONER.to_owned(), provisioner.to_owned());
            annotations.insert(PROVISIONER.to_owned(), provisioner.to_owned());
            self.write_claim(&changed).await?;
        }
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
        );
        self.recorder.normal(claim, "ExternalProvisioning", message);
        Ok(())
    }
}
