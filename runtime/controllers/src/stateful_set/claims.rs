//! The claims of a set's pods: made before the pod is, and owned so that the garbage collector removes them when the set's
//! retention policy says so.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kiln_client::{ObjectRef, PatchKind, path};
use serde::de::IgnoredAny;
use serde_json::json;

use super::{Engine, identity, spec};
use crate::owned::{Owned, is_going, name, namespace, reference};
use crate::reconcile::Failure;

/// How a claim is owned, seen from its set and its pod.
struct Owners<'a> {
    set: &'a StatefulSet,
    spec: &'a StatefulSetSpec,
    pod: &'a Pod,
    ordinal: i32,
}

/// Whether a reference is to an object of this kind and name.
fn names<O: Owned>(owner: &OwnerReference, object: &O) -> bool {
    owner.api_version == O::API_VERSION && owner.kind == O::KIND && owner.name == name(object)
}

fn owners(claim: &PersistentVolumeClaim) -> &[OwnerReference] {
    claim.metadata.owner_references.as_deref().unwrap_or_default()
}

fn has_owner(claim: &PersistentVolumeClaim, uid: &str) -> bool {
    !uid.is_empty() && owners(claim).iter().any(|owner| owner.uid == uid)
}

/// Whether a claim is owned by an earlier object of this name.
fn is_stale<O: Owned>(claim: &PersistentVolumeClaim, object: &O) -> bool {
    owners(claim).iter().any(|owner| names(owner, object) && owner.uid != object.uid())
}

impl<'a> Owners<'a> {
    /// Whether the claim should be owned by the set, and by the pod.
    fn wanted(&self) -> (bool, bool) {
        let (with_set, with_pod) = spec::claims_go(self.spec);
        let is_away = !spec::has_ordinal(self.spec, self.ordinal);
        match (with_set, with_pod) {
            (_, true) if is_away => (false, true),
            (with_set, _) => (with_set, false),
        }
    }

    /// Whether someone else controls the claim although the policy would have the set do it.
    fn is_contested(&self, claim: &PersistentVolumeClaim) -> bool {
        if spec::claims_go(self.spec) == (false, false) {
            return false;
        }
        owners(claim).iter().any(|owner| {
            if names(owner, self.set) {
                owner.uid != self.set.metadata.uid.as_deref().unwrap_or_default()
            } else if names(owner, self.pod) {
                owner.uid != self.pod.metadata.uid.as_deref().unwrap_or_default()
            } else {
                owner.controller == Some(true)
            }
        })
    }

    fn uids(&self) -> (&'a str, &'a str) {
        let uid = |meta: &'a ObjectMeta| meta.uid.as_deref().unwrap_or_default();
        (uid(&self.set.metadata), uid(&self.pod.metadata))
    }

    fn is_up_to_date(&self, claim: &PersistentVolumeClaim) -> bool {
        let (set, pod) = self.uids();
        let by = (has_owner(claim, set), has_owner(claim, pod));
        if is_stale(claim, self.set) || is_stale(claim, self.pod) {
            return true;
        }
        if self.is_contested(claim) {
            return by == (false, false);
        }
        let ours = owners(claim).iter().filter(|owner| owner.uid == set || owner.uid == pod);
        ours.into_iter().all(|owner| owner.controller == Some(true)) && by == self.wanted()
    }

    /// The claim's owners as they should be.
    fn corrected(&self, claim: &PersistentVolumeClaim) -> Vec<OwnerReference> {
        let kept = owners(claim).iter().filter(|owner| !names(owner, self.set) && !names(owner, self.pod));
        let mut corrected: Vec<_> = kept.cloned().collect();
        if !self.is_contested(claim) {
            let (by_set, by_pod) = self.wanted();
            corrected.extend(by_set.then(|| reference(self.set)));
            corrected.extend(by_pod.then(|| reference(self.pod)));
        }
        corrected
    }
}

impl Engine {
    fn claim(&self, set: &StatefulSet, claim: &str) -> Option<std::sync::Arc<PersistentVolumeClaim>> {
        self.claims.get(&ObjectRef::namespaced(namespace(set), claim))
    }

    /// Makes the claims of an ordinal that are not there.
    pub(super) async fn make_claims(
        &self,
        set: &StatefulSet,
        spec: &StatefulSetSpec,
        pod: &Pod,
        ordinal: i32,
    ) -> Result<(), Failure> {
        let mut failure = None;
        for claim in identity::claims(set, spec, ordinal) {
            let claim_name = name(&claim).to_owned();
            if let Some(there) = self.claim(set, &claim_name) {
                if is_going(&*there) {
                    failure.get_or_insert(Failure::Waiting(format!("pvc {claim_name} is being deleted")));
                }
                continue;
            }
            let collection = path::<PersistentVolumeClaim>(namespace(set), "");
            let (pod, owner) = (name(pod), name(set));
            match self.client.create::<IgnoredAny>(&collection, &claim).await {
                Ok(_) => {
                    let text = format!("Create Claim {claim_name} Pod {pod} in StatefulSet {owner} success");
                    self.recorder.normal(set, "SuccessfulCreate", text);
                }
                Err(error) if error.is_already_exists() => {}
                Err(error) => {
                    let text =
                        format!("Create Claim {claim_name} for Pod {pod} in StatefulSet {owner} failed error: {error}");
                    self.recorder.warning(set, "FailedCreate", text);
                    failure.get_or_insert(error.into());
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Whether the claims of a pod are owned as the retention policy has it. Those that are not there yet are.
    pub(super) fn claims_are_right(&self, set: &StatefulSet, spec: &StatefulSetSpec, pod: &Pod, ordinal: i32) -> bool {
        let owners = Owners { set, spec, pod, ordinal };
        let mut claims = spec::claim_templates(spec)
            .iter()
            .filter_map(|template| self.claim(set, &identity::claim_name(set, template, ordinal)));
        claims.all(|claim| owners.is_up_to_date(&claim))
    }

    /// Has the claims of a pod owned as the retention policy has it.
    pub(super) async fn correct_claims(
        &self,
        set: &StatefulSet,
        spec: &StatefulSetSpec,
        pod: &Pod,
        ordinal: i32,
    ) -> Result<(), Failure> {
        let owners = Owners { set, spec, pod, ordinal };
        for template in spec::claim_templates(spec) {
            let claim_name = identity::claim_name(set, template, ordinal);
            let Some(claim) = self.claim(set, &claim_name) else { continue };
            if owners.is_contested(&claim) {
                let text = format!(
                    "PersistentVolumeClaim {claim_name} has a conflicting OwnerReference that acts as a manging \
                     controller, the retention policy is ignored for this claim"
                );
                self.recorder.warning(set, "ConflictingController", text);
            }
            if owners.is_up_to_date(&claim) {
                continue;
            }
            let patch = json!({"metadata": {
                "resourceVersion": claim.metadata.resource_version,
                "ownerReferences": owners.corrected(&claim),
            }});
            let path = path::<PersistentVolumeClaim>(namespace(set), &claim_name);
            self.client.patch::<IgnoredAny>(&path, PatchKind::Merge, &patch).await?;
        }
        Ok(())
    }

    /// Whether a claim of an ordinal is still owned by an earlier pod of its name, and about to go with it.
    pub(super) fn has_stale_claim(&self, set: &StatefulSet, spec: &StatefulSetSpec, pod: &Pod, ordinal: i32) -> bool {
        let (_, with_pod) = spec::claims_go(spec);
        let mut claims = spec::claim_templates(spec)
            .iter()
            .filter_map(|template| self.claim(set, &identity::claim_name(set, template, ordinal)));
        with_pod && claims.any(|claim| is_stale(&claim, pod))
    }
}
