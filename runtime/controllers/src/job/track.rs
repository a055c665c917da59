//! Counts Pods that ended, each once (KEP-2307): their uids are written into the status, then their finalizers are taken off, then
//! the counters go up as the uids go. Whatever happens in between, the next look finds where it stood.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use kiln_client::{Object as _, path};

use super::conditions;
use super::indexes::index_of;
use super::policy::{Verdict, judge};
use super::sync::{Sync, listed};
use super::{Controller, is_tracked};
use crate::owned::{name, namespace};
use crate::pods::phase;
use crate::reconcile::Failure;
use crate::status_patch::shown;

/// The most uids in a status.
const MOST: usize = 500;

impl Controller {
    /// Counts what ended and writes the status; answers when to look again.
    pub(super) async fn count(&self, mut sync: Sync, suspension_changed: bool) -> Result<Option<Duration>, Failure> {
        let (active, ready, terminating) = (shown(sync.active_count), Some(sync.ready), Some(sync.terminating));
        let status = sync.status();
        let mut flush = suspension_changed
            || status.active.unwrap_or(0) != active.unwrap_or(0)
            || status.ready != ready
            || status.terminating != terminating;
        (status.active, status.ready, status.terminating) = (active, ready, terminating);

        let mut tracked: HashSet<String> =
            sync.pods.iter().filter(|pod| is_tracked(pod)).map(|pod| pod.uid().to_owned()).collect();
        flush |= count_untracked(sync.status(), &tracked);
        let (ended, full, listed_more) = list_ended(&mut sync);
        flush |= listed_more;
        flush |= self.write_indexes(&mut sync);
        flush |= self.announce(&mut sync);

        if flush {
            sync.job = self.write_status(&sync).await?;
            self.records().insert(sync.key.clone(), sync.record);
            flush = false;
        }
        let done = join_all(ended.iter().map(|pod| self.untrack(Some(&sync.key), pod))).await;
        let mut failure = None;
        for (pod, done) in ended.iter().zip(done) {
            match done {
                Err(error) if !error.is_not_found() => failure = Some(Failure::Client(error)),
                _ => _ = tracked.remove(pod.uid()),
            }
        }
        flush |= count_untracked(sync.status(), &tracked);
        if let Some(failure) = failure {
            if flush {
                self.write_status(&sync).await?;
            }
            return Err(failure);
        }
        let ends = !full && self.end(&mut sync);
        if ends || flush {
            sync.job = self.write_status(&sync).await?;
            if ends {
                self.tell_end(&sync);
            }
        }
        Ok(sync.wait)
    }

    /// Brings the indexes in the status up to date.
    fn write_indexes(&self, sync: &mut Sync) -> bool {
        if !sync.is_indexed() {
            return false;
        }
        let completed = Some(sync.succeeded_indexes.to_string()).filter(|text| !text.is_empty());
        let failed = sync.failed_indexes.as_ref().map(ToString::to_string);
        let succeeded = shown(sync.succeeded_indexes.count());
        let status = sync.status();
        let changed = status.completed_indexes != completed || status.failed_indexes != failed;
        (status.succeeded, status.completed_indexes, status.failed_indexes) = (succeeded, completed, failed);
        changed
    }

    /// Writes that the Job is about to end, before any Pod may go.
    fn announce(&self, sync: &mut Sync) -> bool {
        let now = self.clock.now();
        let Some(finished) = sync.finished.clone() else { return false };
        let last = match finished.type_.as_str() {
            "FailureTarget" => "Failed",
            "SuccessCriteriaMet" => "Complete",
            _ => return false,
        };
        sync.finished = Some(conditions::renamed(&finished, last, now));
        let known = conditions::find(sync.job.status.as_ref(), &finished.type_).is_some();
        if !known {
            sync.status().conditions.get_or_insert_default().push(finished);
        }
        !known
    }

    /// Ends the Job, if all its Pods are counted and gone.
    fn end(&self, sync: &mut Sync) -> bool {
        let Some(finished) = sync.finished.clone() else { return false };
        let (succeeded, failed) = listed(sync.status());
        if !succeeded.is_empty() || !failed.is_empty() || sync.terminating > 0 {
            return false;
        }
        if finished.type_ == "Complete" {
            sync.status().completion_time.clone_from(&finished.last_transition_time);
        }
        conditions::ensure(sync.status(), finished)
    }

    fn tell_end(&self, sync: &Sync) {
        let Some(finished) = &sync.finished else { return };
        if finished.type_ == "Complete" {
            let succeeded = sync.job.status.as_ref().and_then(|status| status.succeeded).unwrap_or(0);
            if sync.spec().completions.is_some_and(|completions| succeeded > completions) {
                let message = "Too many succeeded pods running after completion count reached";
                self.recorder.warning(&sync.job, "TooManySucceededPods", message);
            }
            self.recorder.normal(&sync.job, "Completed", "Job completed");
        } else {
            let message = finished.message.clone().unwrap_or_default();
            self.recorder.warning(&sync.job, finished.reason.as_deref().unwrap_or_default(), message);
        }
    }

    async fn write_status(&self, sync: &Sync) -> Result<Job, Failure> {
        let path = format!("{}/status", path::<Job>(namespace(&sync.job), name(&sync.job)));
        let written: Job = self.client.update(&path, &sync.job).await?;
        self.written_jobs.note(&sync.key, &written);
        Ok(written)
    }
}

/// Takes the uids of Pods whose finalizers are gone out of the status, and counts them.
fn count_untracked(status: &mut JobStatus, tracked: &HashSet<String>) -> bool {
    let uncounted = status.uncounted_terminated_pods.get_or_insert_default();
    let settle = |list: &mut Option<Vec<String>>, count: &mut Option<i32>| {
        let had = list.as_ref().map_or(0, Vec::len);
        if let Some(list) = list {
            list.retain(|uid| tracked.contains(uid));
        }
        let settled = had - list.as_ref().map_or(0, Vec::len);
        list.take_if(|list| list.is_empty());
        *count = shown(count.unwrap_or(0) + i32::try_from(settled).unwrap_or(i32::MAX));
        settled > 0
    };
    let succeeded = settle(&mut uncounted.succeeded, &mut status.succeeded);
    settle(&mut uncounted.failed, &mut status.failed) || succeeded
}

/// Lists Pods that ended in the status. Answers those whose finalizers can go, whether there are more for another time, and whether
/// the status changed.
fn list_ended(sync: &mut Sync) -> (Vec<Arc<Pod>>, bool, bool) {
    let (listed_succeeded, listed_failed) = listed(sync.status());
    let mut pods = sync.pods.clone();
    if sync.is_indexed() {
        pods.sort_by_key(|pod| index_of(pod).unwrap_or(-1));
    }
    let (mut ended, mut succeeded, mut failed, mut new_indexes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut full = false;
    let fails = sync.finished.as_ref().is_some_and(|finished| finished.type_ != "SuccessCriteriaMet");
    for pod in pods.iter().filter(|pod| is_tracked(pod)) {
        let is_failed = sync.is_failed(pod);
        if !may_untrack(sync, pod, is_failed) {
            continue;
        }
        ended.push(pod.clone());
        let index = sync.valid_index(pod);
        if phase(pod) == "Succeeded" && !listed_failed.contains(pod.uid()) {
            if sync.is_indexed() {
                new_indexes.extend(index.filter(|index| !sync.before.has(*index)));
            } else if !listed_succeeded.contains(pod.uid()) {
                succeeded.push(pod.uid().to_owned());
            }
        } else if (is_failed || fails)
            && !listed_failed.contains(pod.uid())
            && (!sync.is_indexed() || index.is_some())
            && judge(sync.spec(), pod) != Verdict::Ignored
        {
            failed.push(pod.uid().to_owned());
        }
        let waiting = new_indexes.len() + succeeded.len() + failed.len() + listed_succeeded.len() + listed_failed.len();
        if waiting >= MOST {
            full = true;
            break;
        }
    }
    let changed = !(succeeded.is_empty() && failed.is_empty() && new_indexes.is_empty());
    sync.succeeded_indexes = sync.before.with(new_indexes);
    let uncounted = sync.status().uncounted_terminated_pods.get_or_insert_default();
    if !succeeded.is_empty() {
        uncounted.succeeded.get_or_insert_default().extend(succeeded);
    }
    if !failed.is_empty() {
        uncounted.failed.get_or_insert_default().extend(failed);
    }
    (ended, full, changed)
}

/// Whether a Pod need not be kept for the Job's sake.
fn may_untrack(sync: &Sync, pod: &Pod, is_failed: bool) -> bool {
    if sync.job.metadata.deletion_timestamp.is_some() || sync.finished.is_some() || phase(pod) == "Succeeded" {
        return true;
    }
    let is_kept = || {
        let kept = sync.valid_index(pod).and_then(|index| sync.kept.get(&index));
        kept.is_some_and(|kept| kept.uid() == pod.uid())
    };
    is_failed && !is_kept()
}
