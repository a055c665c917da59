//! One look at a Job: what its Pods are, what that means, and what is to be done.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kiln_client::{Object as _, ObjectRef};

use super::backoff::{self, Record};
use super::conditions::{self, is_finished};
use super::indexes::{Indexes, failures, ignored_failures, index_of};
use super::policy::{Verdict, judge, success};
use super::{Controller, TRACKING, is_elsewhere, is_tracked, spec};
use crate::labels;
use crate::owned::{claim, claimable, is_controlled_by};
use crate::pods::{is_active, is_ready, is_terminating, phase};
use crate::reconcile::{Failure, Next};

/// A Job at work, and what is known of its Pods.
pub(super) struct Sync {
    pub(super) key: ObjectRef,
    /// With the status that is to be.
    pub(super) job: Job,
    pub(super) pods: Vec<Arc<Pod>>,
    pub(super) active: Vec<Arc<Pod>>,
    pub(super) active_count: i32,
    pub(super) ready: i32,
    pub(super) terminating: i32,
    pub(super) succeeded: i32,
    pub(super) failed: i32,
    /// How the Job ends, if it does.
    pub(super) finished: Option<JobCondition>,
    pub(super) before: Indexes,
    pub(super) succeeded_indexes: Indexes,
    pub(super) failed_indexes: Option<Indexes>,
    /// Failed Pods that stay until another took their place, since they say how often their index failed.
    pub(super) kept: BTreeMap<i32, Arc<Pod>>,
    pub(super) record: Record,
    /// When to look again.
    pub(super) wait: Option<Duration>,
}

impl Sync {
    pub(super) fn spec(&self) -> &JobSpec {
        spec(&self.job)
    }

    pub(super) fn status(&mut self) -> &mut JobStatus {
        self.job.status.get_or_insert_default()
    }

    pub(super) fn is_indexed(&self) -> bool {
        is_indexed(self.spec())
    }

    /// The index of a Pod, if it is one of the Job's.
    pub(super) fn valid_index(&self, pod: &Pod) -> Option<i32> {
        index_of(pod).filter(|index| *index < self.spec().completions.unwrap_or(0))
    }

    pub(super) fn is_failed(&self, pod: &Pod) -> bool {
        let given_up = pod.metadata.deletion_timestamp.is_some() && phase(pod) != "Succeeded";
        phase(pod) == "Failed" || (given_up && !only_failed_replaced(self.spec()))
    }

    /// Waits no longer than this before the next look.
    pub(super) fn look_again(&mut self, wait: Duration) {
        self.wait = Some(self.wait.map_or(wait, |known| known.min(wait)));
    }

    /// The Pods that are not counted yet and are as wanted, but for those that the status lists.
    fn uncounted(&self, listed: &HashSet<String>, wanted: impl Fn(&Pod) -> bool) -> Vec<Arc<Pod>> {
        let valid = |pod: &Pod| !self.is_indexed() || self.valid_index(pod).is_some();
        let pods = self.pods.iter();
        let found = pods.filter(|pod| is_tracked(pod) && !listed.contains(pod.uid()) && valid(pod) && wanted(pod));
        found.cloned().collect()
    }
}

pub(super) fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

/// Whether a Pod is replaced only once it has failed, and not as soon as it is going.
pub(super) fn only_failed_replaced(spec: &JobSpec) -> bool {
    spec.pod_replacement_policy.as_deref() == Some("Failed") || spec.pod_failure_policy.is_some()
}

pub(super) fn is_suspended(spec: &JobSpec) -> bool {
    spec.suspend == Some(true)
}

/// The uids of Pods that the status lists as not counted yet: that succeeded, and that failed.
pub(super) fn listed(status: &JobStatus) -> (HashSet<String>, HashSet<String>) {
    let uncounted = status.uncounted_terminated_pods.as_ref();
    let of = |list: Option<&Vec<String>>| list.into_iter().flatten().cloned().collect();
    (of(uncounted.and_then(|u| u.succeeded.as_ref())), of(uncounted.and_then(|u| u.failed.as_ref())))
}

impl Controller {
    pub(super) async fn reconcile(&self, key: ObjectRef) -> Result<Next, Failure> {
        tokio::join!(self.jobs.synced(), self.pods.synced());
        let Some(job) = self.jobs.get(&key) else {
            self.records().remove(&key);
            return Ok(Next::Settled);
        };
        if is_elsewhere(&job) {
            return Ok(Next::Settled);
        }
        if !(self.written_jobs.shown(&key, &self.jobs) && self.written_pods.shown(&key, &self.pods)) {
            return Err(Failure::Stale);
        }
        if is_finished(&job) {
            self.records().remove(&key);
            return Ok(Next::Settled);
        }
        if !matches!(spec(&job).completion_mode.as_deref(), None | Some("NonIndexed" | "Indexed")) {
            let message = "Skipped Job sync because completion mode is unknown";
            self.recorder.warning(&*job, "UnknownCompletionMode", message);
            return Ok(Next::Settled);
        }
        let mut sync = self.observe(key, &job).await?;
        self.judge(&mut sync);
        let suspension_changed = self.act(&mut sync).await;
        let (changed, failure) = match suspension_changed {
            Ok(changed) => (changed, None),
            Err(failure) => (false, Some(failure)),
        };
        let wait = self.count(sync, changed).await?;
        match (failure, wait) {
            (Some(failure), _) => Err(failure),
            (None, Some(wait)) => Ok(Next::After(wait)),
            (None, None) => Ok(Next::Settled),
        }
    }

    /// Claims the Job's Pods and counts them.
    async fn observe(&self, key: ObjectRef, job: &Arc<Job>) -> Result<Sync, Failure> {
        let selector = spec(job).selector.clone().unwrap_or_default();
        let candidates = claimable(&self.pods, &**job);
        let selects = |labels: Option<&labels::Labels>, _: &Pod| labels::selects(&selector, labels);
        let claimed = claim(&self.client, &**job, candidates, selects, &[TRACKING]).await?;
        let pods: Vec<Arc<Pod>> = claimed
            .into_iter()
            .map(|pod| {
                // Just adopted: the mirror does not show yet that it is tracked.
                if is_controlled_by(&pod.metadata, job.uid()) || is_tracked(&pod) {
                    return pod;
                }
                let mut adopted = (*pod).clone();
                adopted.metadata.finalizers.get_or_insert_default().push(TRACKING.to_owned());
                Arc::new(adopted)
            })
            .collect();
        let active: Vec<_> = pods.iter().filter(|pod| is_active(pod)).cloned().collect();
        let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        let mut job = (**job).clone();
        let status = job.status.get_or_insert_default();
        status.uncounted_terminated_pods.get_or_insert_default();
        let (listed_succeeded, listed_failed) = listed(status);
        let (was_succeeded, was_failed) = (status.succeeded.unwrap_or(0), status.failed.unwrap_or(0));
        let record = self.records().get(&key).copied().unwrap_or_default();
        let mut sync = Sync {
            key,
            active_count: count(active.len()),
            ready: count(active.iter().filter(|pod| is_ready(pod)).count()),
            terminating: count(pods.iter().filter(|pod| is_terminating(pod)).count()),
            job,
            pods,
            active,
            succeeded: 0,
            failed: 0,
            finished: None,
            before: Indexes::default(),
            succeeded_indexes: Indexes::default(),
            failed_indexes: None,
            kept: BTreeMap::new(),
            record,
            wait: None,
        };
        let new_succeeded = sync.uncounted(&listed_succeeded, |pod| phase(pod) == "Succeeded");
        let new_failed = sync.uncounted(&listed_failed, |pod| sync.is_failed(pod));
        let counted = new_failed.iter().filter(|pod| judge(sync.spec(), pod) != Verdict::Ignored).count();
        sync.succeeded = was_succeeded + count(new_succeeded.len() + listed_succeeded.len());
        sync.failed = was_failed + count(counted + listed_failed.len());
        sync.record = sync.record.with(&new_succeeded, &new_failed);
        if sync.status().start_time.is_none() && !is_suspended(sync.spec()) {
            sync.status().start_time = Some(Time(self.clock.now()));
        }
        Ok(sync)
    }

    /// Whether and how the Job ends. What was found out before stands; then failures come before success.
    fn judge(&self, sync: &mut Sync) {
        let now = self.clock.now();
        let status = sync.job.status.as_ref();
        sync.finished = conditions::find(status, "SuccessCriteriaMet").cloned().or_else(|| {
            let failed =
                conditions::find(status, "FailureTarget").map(|target| conditions::renamed(target, "Failed", now));
            failed.or_else(|| {
                let pods = sync.pods.iter().filter(|pod| sync.is_failed(pod));
                let message = pods.into_iter().find_map(|pod| match judge(sync.spec(), pod) {
                    Verdict::FailsJob(why) => Some(why),
                    _ => None,
                })?;
                Some(conditions::new("FailureTarget", "True", "PodFailurePolicy", &message, now))
            })
        });
        let failure =
            |reason: &str, message: &str| Some(conditions::new("FailureTarget", "True", reason, message, now));
        if sync.finished.is_none() {
            if sync.failed > sync.spec().backoff_limit.unwrap_or(6) || too_many_restarts(sync) {
                sync.finished = failure("BackoffLimitExceeded", "Job has reached the specified backoff limit");
            } else if let Some(left) = self.deadline(sync) {
                if left.is_zero() {
                    sync.finished = failure("DeadlineExceeded", "Job was active longer than specified deadline");
                } else {
                    sync.look_again(left);
                }
            }
        }
        if !sync.is_indexed() {
            return;
        }
        let completions = sync.spec().completions.unwrap_or(0);
        let status = sync.status();
        sync.before = Indexes::parse(status.completed_indexes.as_deref().unwrap_or_default(), completions);
        let succeeded = sync.pods.iter().filter(|pod| phase(pod) == "Succeeded" && is_tracked(pod));
        sync.succeeded_indexes = sync.before.with(succeeded.filter_map(|pod| sync.valid_index(pod)));
        sync.succeeded = sync.succeeded_indexes.count();
        if sync.spec().backoff_limit_per_index.is_some() {
            let failed = failed_indexes(sync);
            if sync.finished.is_none() {
                let count = failed.count();
                if sync.spec().max_failed_indexes.is_some_and(|most| count > most) {
                    let message = "Job has exceeded the specified maximal number of failed indexes";
                    sync.finished = failure("MaxFailedIndexesExceeded", message);
                } else if count > 0 && count + sync.succeeded_indexes.count() >= completions {
                    sync.finished = failure("FailedIndexes", "Job has failed indexes");
                }
            }
            sync.failed_indexes = Some(failed);
            sync.kept = kept(sync);
        }
        if sync.finished.is_none() {
            let met = success(sync.spec(), &sync.succeeded_indexes);
            sync.finished = met.map(|rule| conditions::new("SuccessCriteriaMet", "True", "SuccessPolicy", &rule, now));
        }
    }

    /// How long the Job may still be active.
    fn deadline(&self, sync: &Sync) -> Option<Duration> {
        let allowed = sync.spec().active_deadline_seconds.filter(|_| !is_suspended(sync.spec()))?;
        let since = sync.job.status.as_ref()?.start_time.as_ref()?.0;
        let left = SignedDuration::from_secs(allowed).saturating_sub(self.clock.now().duration_since(since));
        Some(Duration::try_from(left).unwrap_or(Duration::ZERO))
    }

    /// Makes and deletes Pods. Answers whether the Job was suspended or resumed.
    async fn act(&self, sync: &mut Sync) -> Result<bool, Failure> {
        if sync.finished.is_some() {
            let active = sync.active.clone();
            let (deleted, failure) = self.delete_pods(sync, &active, false).await;
            if deleted != sync.active.len() {
                // Not until none of its Pods can be at work.
                sync.finished = None;
            }
            return failure.map_or(Ok(false), Err);
        }
        let managed = sync.job.metadata.deletion_timestamp.is_none();
        let mut failure = None;
        if managed {
            failure = self.manage(sync).await.err();
        }
        let idle = sync.active_count == 0;
        let complete = match sync.spec().completions {
            None => sync.succeeded > 0 && idle,
            Some(completions) => sync.succeeded >= completions && idle,
        };
        let now = self.clock.now();
        let mut changed = false;
        if complete {
            let message = "Reached expected number of succeeded pods";
            sync.finished = Some(conditions::new("SuccessCriteriaMet", "True", "CompletionsReached", message, now));
        } else if managed {
            let suspended = is_suspended(sync.spec());
            let condition = if suspended {
                conditions::new("Suspended", "True", "JobSuspended", "Job suspended", now)
            } else {
                conditions::new("Suspended", "False", "JobResumed", "Job resumed", now)
            };
            changed = conditions::ensure(sync.status(), condition);
            if changed && suspended {
                self.recorder.normal(&sync.job, "Suspended", "Job suspended");
                sync.status().start_time = None;
            } else if changed {
                self.recorder.normal(&sync.job, "Resumed", "Job resumed");
                sync.status().start_time = Some(Time(now));
            }
        }
        failure.map_or(Ok(changed), Err)
    }
}

/// Whether the containers of Pods that restart them have been restarted too often.
fn too_many_restarts(sync: &Sync) -> bool {
    let restart = sync.spec().template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    if restart != Some("OnFailure") {
        return false;
    }
    let pods = sync.pods.iter().filter(|pod| matches!(phase(pod), "Running" | "Pending"));
    let statuses = pods.filter_map(|pod| pod.status.as_ref()).flat_map(|status| {
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
    });
    let restarts: i32 = statuses.map(|container| container.restart_count).sum();
    match sync.spec().backoff_limit.unwrap_or(6) {
        0 => restarts > 0,
        limit => restarts >= limit,
    }
}

/// The indexes that failed for good.
fn failed_indexes(sync: &Sync) -> Indexes {
    let completions = sync.spec().completions.unwrap_or(0);
    let known = sync.job.status.as_ref().and_then(|status| status.failed_indexes.as_deref());
    let limit = sync.spec().backoff_limit_per_index.unwrap_or(0);
    let failed = sync.pods.iter().filter(|pod| is_tracked(pod) && sync.is_failed(pod)).filter(|pod| {
        match judge(sync.spec(), pod) {
            Verdict::FailsIndex => true,
            Verdict::Ignored => false,
            Verdict::Counts | Verdict::FailsJob(_) => failures(pod) >= limit,
        }
    });
    Indexes::parse(known.unwrap_or_default(), completions).with(failed.filter_map(|pod| sync.valid_index(pod)))
}

/// The last failed Pod of each index that is to be tried again.
fn kept(sync: &Sync) -> BTreeMap<i32, Arc<Pod>> {
    let active: HashSet<i32> = sync.active.iter().filter_map(|pod| index_of(pod)).collect();
    let mut kept = BTreeMap::<i32, Arc<Pod>>::new();
    for pod in sync.pods.iter().filter(|pod| is_tracked(pod) && sync.is_failed(pod)) {
        let Some(index) = sync.valid_index(pod) else { continue };
        let failed = sync.failed_indexes.as_ref().is_some_and(|failed| failed.has(index));
        // The index of a Pod that is at work knows its failures.
        if sync.succeeded_indexes.has(index) || failed || active.contains(&index) {
            continue;
        }
        let order = |pod: &Pod| (failures(pod) + ignored_failures(pod), backoff::finished(pod));
        let later = kept.get(&index).is_none_or(|known| {
            let ((failures, time), (known_failures, known_time)) = (order(pod), order(known));
            known_failures <= failures && time >= known_time
        });
        if later {
            kept.insert(index, pod.clone());
        }
    }
    kept
}
