//! What a Deployment's status says: counts, availability, and whether its rollout gets on.

use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::rollout::Rollout;
use super::{conditions, spec};
use crate::owned;
use crate::reconcile::Next;
use crate::status_patch::shown;

/// Whether a rollout is over by this status.
pub(super) fn is_complete(spec: &DeploymentSpec, deployment: &Deployment, status: Option<&DeploymentStatus>) -> bool {
    let Some(status) = status else { return false };
    let counts = [status.updated_replicas, status.replicas, status.available_replicas];
    counts.iter().all(|count| count.unwrap_or(0) == spec::replicas(spec))
        && status.observed_generation.unwrap_or(0) >= deployment.metadata.generation.unwrap_or(0)
}

/// Whether there is more of the new or less of the old than before.
fn has_progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let count = |count: Option<i32>| count.unwrap_or(0);
    let outdated = |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
    count(new.updated_replicas) > count(old.updated_replicas)
        || outdated(new) < outdated(old)
        || count(new.ready_replicas) > count(old.ready_replicas)
        || count(new.available_replicas) > count(old.available_replicas)
}

impl Rollout<'_> {
    /// Puts the counts into the status, and whether enough pods are available.
    pub(super) fn count(&mut self) {
        let sum = |count: fn(&ReplicaSet) -> i32| -> i32 { self.all().map(|set| count(set)).sum() };
        let replicas = |set: &ReplicaSet| set.status.as_ref().map_or(0, |status| status.replicas);
        let available = sum(spec::set_available);
        let counted = DeploymentStatus {
            observed_generation: self.deployment.metadata.generation,
            replicas: shown(sum(replicas)),
            updated_replicas: shown(self.new.as_ref().map_or(0, |new| replicas(new))),
            ready_replicas: shown(sum(|set| set.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0))),
            available_replicas: shown(available),
            unavailable_replicas: shown((self.total() - available).max(0)),
            terminating_replicas: self.terminating(),
            collision_count: self.status.collision_count,
            conditions: self.status.conditions.take(),
        };
        self.status = counted;
        let (status, reason, message) = if available >= spec::replicas(self.spec) - spec::max_unavailable(self.spec) {
            ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        };
        let condition = conditions::new(conditions::AVAILABLE, status, reason, message.to_owned(), self.now);
        conditions::set(&mut self.status, condition);
    }

    /// How many pods are about to be gone; `None` while a ReplicaSet does not say.
    fn terminating(&self) -> Option<i32> {
        let mut sum = 0;
        for set in self.all() {
            match set.status.as_ref() {
                Some(status) if status.terminating_replicas.is_some() => {
                    sum += status.terminating_replicas.unwrap_or(0)
                }
                Some(status) if status.observed_generation.unwrap_or(0) != 0 => return None,
                _ => {}
            }
        }
        Some(sum)
    }

    /// Puts into the status whether the rollout gets on, is over, or has not moved for too long.
    pub(super) fn judge_progress(&mut self) {
        let deadline = spec::progress_deadline(self.spec);
        if deadline.is_none() {
            conditions::remove(&mut self.status, conditions::PROGRESSING);
        }
        let before = self.deployment.status.clone().unwrap_or_default();
        let known = conditions::get(&before, conditions::PROGRESSING);
        let is_over = self.status.replicas == self.status.updated_replicas
            && conditions::reason(known) == "NewReplicaSetAvailable"
            && conditions::reason(conditions::get(&self.status, conditions::PROGRESSING)) == "NewReplicaSetAvailable";
        if deadline.is_some() && !is_over {
            let subject = match &self.new {
                Some(set) => format!("ReplicaSet \"{}\"", owned::name(&**set)),
                None => format!("Deployment \"{}\"", owned::name(self.deployment)),
            };
            if is_complete(self.spec, self.deployment, Some(&self.status)) {
                let message = format!("{subject} has successfully progressed.");
                self.set_progressing("True", "NewReplicaSetAvailable", message);
            } else if has_progressed(&before, &self.status) {
                let message = format!("{subject} is progressing.");
                let kind = conditions::PROGRESSING;
                let mut condition = conditions::new(kind, "True", "ReplicaSetUpdated", message, self.now);
                if let Some(known) = conditions::get(&self.status, kind).filter(|known| known.status == "True") {
                    condition.last_transition_time = known.last_transition_time.clone();
                }
                // Its time of update tells of the progress even if nothing else of it is new.
                conditions::remove(&mut self.status, kind);
                conditions::set(&mut self.status, condition);
            } else if self.has_timed_out() {
                let message = format!("{subject} has timed out progressing.");
                self.set_progressing("False", "ProgressDeadlineExceeded", message);
            }
        }
        let failure = self.new.iter().chain(&self.old).find_map(|set| conditions::failure_of(set));
        match failure {
            Some(failure) => conditions::set(&mut self.status, failure),
            None => conditions::remove(&mut self.status, conditions::REPLICA_FAILURE),
        }
    }

    /// When the rollout must have moved again, if that is of interest.
    fn deadline(&self) -> Option<jiff::Timestamp> {
        let seconds = spec::progress_deadline(self.spec)?;
        let condition = conditions::get(&self.status, conditions::PROGRESSING)?;
        if condition.reason.as_deref() == Some("NewReplicaSetAvailable") {
            return None;
        }
        let Time(updated) = condition.last_update_time.as_ref()?;
        Some(*updated + SignedDuration::from_secs(seconds.into()))
    }

    fn has_timed_out(&self) -> bool {
        let known = conditions::get(&self.status, conditions::PROGRESSING);
        conditions::reason(known) == "ProgressDeadlineExceeded"
            || self.deadline().is_some_and(|deadline| deadline < self.now)
    }

    /// When to look whether the rollout has stood still for too long.
    pub(super) fn next_check(&self) -> Next {
        let known = conditions::get(&self.status, conditions::PROGRESSING);
        let is_paused = self.spec.paused == Some(true);
        if is_paused
            || conditions::reason(known) == "ProgressDeadlineExceeded"
            || is_complete(self.spec, self.deployment, Some(&self.status))
        {
            return Next::Settled;
        }
        let Some(deadline) = self.deadline() else { return Next::Settled };
        let left = Duration::try_from(deadline.duration_since(self.now)).unwrap_or(Duration::ZERO);
        Next::After(left + Duration::from_secs(1))
    }
}
