//! What is different between ReplicaSets and ReplicationControllers.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    PodTemplateSpec, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;

use crate::children::Workload;
use crate::labels::{self, Labels, holds};
use crate::status_patch::shown;

/// The condition that says that pods cannot be made or deleted.
const REPLICA_FAILURE: &str = "ReplicaFailure";

/// How the pods are.
pub(super) struct Counts {
    pub(super) replicas: i32,
    /// Those with all labels of the template.
    pub(super) labelled: i32,
    pub(super) ready: i32,
    pub(super) available: i32,
    pub(super) terminating: i32,
}

/// Why pods could not be made or deleted.
pub(super) struct Failed {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// An object that asks for so many pods.
pub(super) trait Replicated: Workload {
    /// Who tells events.
    const COMPONENT: &'static str;
    type Status: Serialize + Send + Sync;

    fn replicas(&self) -> i32;
    fn min_ready(&self) -> i32;
    fn template(&self) -> Option<&PodTemplateSpec>;
    fn selects(&self, labels: Option<&Labels>) -> bool;
    fn status(&self) -> Option<&Self::Status>;
    /// Whether the status is of this generation of the spec.
    fn has_been_observed(&self) -> bool;
    fn next_status(&self, counts: &Counts, failed: Option<Failed>, now: Timestamp) -> Self::Status;
}

/// The conditions with that of failure as it should be: it keeps its first reason while it lasts.
macro_rules! conditions {
    ($kind:ident, $object:expr, $failed:expr, $now:expr) => {{
        let old = $object.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        let (mut failing, mut all): (Vec<_>, Vec<_>) = old.into_iter().partition(|c| c.type_ == REPLICA_FAILURE);
        if let Some(failed) = $failed {
            all.push(failing.pop().unwrap_or_else(|| $kind {
                type_: REPLICA_FAILURE.to_owned(),
                status: "True".to_owned(),
                reason: Some(failed.reason.to_owned()),
                message: Some(failed.message),
                last_transition_time: Some(Time($now)),
            }));
        }
        (!all.is_empty()).then_some(all)
    }};
}

impl Workload for ReplicaSet {
    fn would_adopt(&self, labels: Option<&Labels>) -> bool {
        labels::adopts(self.spec.as_ref().map(|spec| &spec.selector), labels)
    }
}

impl Replicated for ReplicaSet {
    const COMPONENT: &'static str = "replicaset-controller";
    type Status = ReplicaSetStatus;

    fn replicas(&self) -> i32 {
        self.spec.as_ref().map_or(0, |spec| spec.replicas.unwrap_or(1))
    }

    fn min_ready(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn selects(&self, labels: Option<&Labels>) -> bool {
        self.spec.as_ref().is_some_and(|spec| labels::selects(&spec.selector, labels))
    }

    fn status(&self) -> Option<&ReplicaSetStatus> {
        self.status.as_ref()
    }

    fn has_been_observed(&self) -> bool {
        self.status.as_ref().and_then(|status| status.observed_generation) == self.metadata.generation
    }

    fn next_status(&self, counts: &Counts, failed: Option<Failed>, now: Timestamp) -> ReplicaSetStatus {
        ReplicaSetStatus {
            replicas: counts.replicas,
            fully_labeled_replicas: shown(counts.labelled),
            ready_replicas: shown(counts.ready),
            available_replicas: shown(counts.available),
            terminating_replicas: Some(counts.terminating),
            observed_generation: self.metadata.generation,
            conditions: conditions!(ReplicaSetCondition, self, failed, now),
        }
    }
}

impl Workload for ReplicationController {
    fn would_adopt(&self, labels: Option<&Labels>) -> bool {
        self.selects(labels)
    }
}

impl Replicated for ReplicationController {
    const COMPONENT: &'static str = "replication-controller";
    type Status = ReplicationControllerStatus;

    fn replicas(&self) -> i32 {
        self.spec.as_ref().map_or(0, |spec| spec.replicas.unwrap_or(1))
    }

    fn min_ready(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }

    fn selects(&self, labels: Option<&Labels>) -> bool {
        let selector = self.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        selector.is_some_and(|selector| !selector.is_empty() && holds(labels, selector))
    }

    fn status(&self) -> Option<&ReplicationControllerStatus> {
        self.status.as_ref()
    }

    fn has_been_observed(&self) -> bool {
        self.status.as_ref().and_then(|status| status.observed_generation) == self.metadata.generation
    }

    fn next_status(&self, counts: &Counts, failed: Option<Failed>, now: Timestamp) -> ReplicationControllerStatus {
        ReplicationControllerStatus {
            replicas: counts.replicas,
            fully_labeled_replicas: shown(counts.labelled),
            ready_replicas: shown(counts.ready),
            available_replicas: shown(counts.available),
            observed_generation: self.metadata.generation,
            conditions: conditions!(ReplicationControllerCondition, self, failed, now),
        }
    }
}
