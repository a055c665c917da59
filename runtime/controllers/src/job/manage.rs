//! Makes the Pods that a Job lacks, and deletes those that are too many.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use kiln_apimachinery::meta;
use kiln_client::{ClientError, ObjectRef, path};
use serde_json::Value;

use super::backoff;
use super::indexes::{FAILURES, IGNORED_FAILURES, INDEX, Indexes, failures, ignored_failures, index_of};
use super::policy::{Verdict, judge};
use super::sync::{Sync, is_indexed, is_suspended, only_failed_replaced};
use super::{BATCH, Controller, TRACKING, is_tracked, spec};
use crate::owned::{name, namespace, reference};
use crate::pods::{from_template, is_ready, is_terminating, slow_start, sort_by_activity};
use crate::reconcile::{Failure, is_namespace_going};

/// The most Pods that are made or deleted at one look.
const MOST: usize = 500;
/// The longest name that something is added to.
const MAX_PREFIX: usize = 58;
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";

impl Controller {
    /// Brings the number of Pods at work to what the Job wants.
    pub(super) async fn manage(&self, sync: &mut Sync) -> Result<(), Failure> {
        let active = sync.active_count;
        if is_suspended(sync.spec()) {
            let doomed = too_many(sync, sync.active.len());
            let (_, failure) = self.delete_pods(sync, &doomed, true).await;
            return failure.map_or(Ok(()), Err);
        }
        let parallelism = sync.spec().parallelism.unwrap_or(1);
        let wanted = match sync.spec().completions {
            None if sync.succeeded > 0 => active,
            None => parallelism,
            Some(completions) => (completions - sync.succeeded).min(parallelism).max(0),
        };
        let mut doomed = too_many(sync, usize::try_from(active - wanted).unwrap_or(0));
        doomed.truncate(MOST);
        if !doomed.is_empty() {
            let (_, failure) = self.delete_pods(sync, &doomed, true).await;
            return failure.map_or(Ok(()), Err);
        }
        let terminating = if only_failed_replaced(sync.spec()) { sync.terminating } else { 0 };
        let missing = usize::try_from(wanted - terminating - active).unwrap_or(0).min(MOST);
        if missing == 0 {
            return Ok(());
        }
        self.make_pods(sync, missing).await
    }

    async fn make_pods(&self, sync: &mut Sync, missing: usize) -> Result<(), Failure> {
        let now = self.clock.now();
        let per_index = sync.spec().backoff_limit_per_index.is_some();
        if !per_index {
            let wait = sync.record.wait(now);
            if !wait.is_zero() {
                sync.look_again(wait.max(BATCH));
                return Ok(());
            }
        }
        let mut indexes: VecDeque<Option<i32>> = if sync.is_indexed() {
            let mut pending = pending(sync, missing);
            if per_index {
                let wait = |index: &i32| {
                    sync.kept.get(index).map_or(Duration::ZERO, |pod| {
                        let failures = failures(pod) + ignored_failures(pod) + 1;
                        backoff::wait(u32::try_from(failures).unwrap_or(0), backoff::finished(pod), now)
                    })
                };
                let soonest = pending.iter().map(wait).min();
                pending.retain(|index| wait(index).is_zero());
                if let Some(soonest) = soonest.filter(|_| pending.is_empty()) {
                    sync.look_again(soonest.max(BATCH));
                    return Ok(());
                }
            }
            pending.into_iter().map(Some).collect()
        } else {
            std::iter::repeat_n(None, missing).collect()
        };
        let template = template(&sync.job);
        let (made, failure) = slow_start(indexes.len(), || {
            let index = indexes.pop_front().flatten();
            let pod = pod_of(sync, &template, index);
            async {
                let pod = pod;
                match self.control.create(&sync.key.namespace, &pod, &sync.job).await {
                    Ok(made) => self.written_pods.note(&sync.key, &made),
                    Err(error) if is_namespace_going(&error) => {}
                    Err(error) => return Err(error),
                }
                Ok(())
            }
        })
        .await;
        sync.active_count += i32::try_from(made).unwrap_or(i32::MAX);
        failure.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Deletes Pods, with the finalizer taken off before if they are not to be counted. Answers how many are gone or going.
    pub(super) async fn delete_pods(
        &self,
        sync: &mut Sync,
        pods: &[Arc<Pod>],
        uncounted: bool,
    ) -> (usize, Option<Failure>) {
        let done = join_all(pods.iter().map(|pod| self.delete_pod(&sync.key, &sync.job, pod, uncounted))).await;
        let (mut gone, mut failure) = (0, None);
        for (pod, done) in pods.iter().zip(done) {
            match done {
                Err(error) if !error.is_not_found() => failure = Some(Failure::Client(error)),
                _ => {
                    gone += 1;
                    sync.ready -= i32::from(is_ready(pod));
                }
            }
        }
        let count = i32::try_from(gone).unwrap_or(i32::MAX);
        sync.active_count -= count;
        sync.terminating += count;
        (gone, failure)
    }

    async fn delete_pod(&self, key: &ObjectRef, job: &Job, pod: &Pod, uncounted: bool) -> Result<(), ClientError> {
        if uncounted && is_tracked(pod) {
            self.untrack(Some(key), pod).await?;
        }
        match self.client.delete(&path::<Pod>(namespace(pod), name(pod)), &Value::Null).await {
            Ok(going) => {
                self.written_pods.note_revision(key, meta::resource_version(&going));
                self.recorder.normal(job, "SuccessfulDelete", format!("Deleted pod: {}", name(pod)));
                Ok(())
            }
            Err(error) => {
                if !error.is_not_found() {
                    self.recorder.warning(job, "FailedDelete", format!("Error deleting: {error}"));
                }
                Err(error)
            }
        }
    }
}

/// At least so many Pods that are at work for nothing: of an Indexed Job all whose index is none of its own or is another's as
/// well; then those that do least.
fn too_many(sync: &Sync, at_least: usize) -> Vec<Arc<Pod>> {
    let mut left = sync.active.clone();
    sort_by_activity(&mut left);
    let mut doomed = Vec::new();
    if sync.is_indexed() {
        let mut seen = BTreeSet::new();
        // The one that does most stays.
        let (stay, go): (Vec<_>, Vec<_>) =
            left.into_iter().rev().partition(|pod| sync.valid_index(pod).is_some_and(|index| seen.insert(index)));
        left = stay.into_iter().rev().collect();
        doomed = go;
    }
    let more = at_least.saturating_sub(doomed.len()).min(left.len());
    doomed.extend(left.drain(..more));
    doomed
}

/// The first indexes that have no Pod and neither succeeded nor failed.
fn pending(sync: &Sync, count: usize) -> Vec<i32> {
    let mut taken = sync.succeeded_indexes.with(sync.active.iter().filter_map(|pod| index_of(pod)));
    if only_failed_replaced(sync.spec()) {
        taken = taken.with(sync.pods.iter().filter(|pod| is_terminating(pod)).filter_map(|pod| index_of(pod)));
    }
    let failed = Indexes::default();
    let taken = taken.and(sync.failed_indexes.as_ref().unwrap_or(&failed));
    taken.first_missing(count, sync.spec().completions.unwrap_or(0))
}

/// What all Pods of a Job have in common.
fn template(job: &Job) -> Pod {
    let mut pod = from_template(&spec(job).template, reference(job));
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if finalizers.iter().all(|finalizer| finalizer != TRACKING) {
        finalizers.push(TRACKING.to_owned());
    }
    if is_indexed(spec(job))
        && let Some(spec) = &mut pod.spec
    {
        spec.init_containers.iter_mut().flatten().chain(&mut spec.containers).for_each(add_index_variable);
    }
    pod
}

fn add_index_variable(container: &mut Container) {
    let variables = container.env.get_or_insert_default();
    if variables.iter().all(|variable| variable.name != INDEX_VARIABLE) {
        let field =
            ObjectFieldSelector { field_path: format!("metadata.labels['{INDEX}']"), ..ObjectFieldSelector::default() };
        let value_from = Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() });
        variables.push(EnvVar { name: INDEX_VARIABLE.to_owned(), value_from, ..EnvVar::default() });
    }
}

fn pod_of(sync: &Sync, template: &Pod, index: Option<i32>) -> Pod {
    let mut pod = template.clone();
    let Some(index) = index else { return pod };
    let job = name(&sync.job);
    let suffix = format!("-{index}-");
    let room = MAX_PREFIX.saturating_sub(suffix.len());
    pod.metadata.generate_name = Some(format!("{}{suffix}", job.get(..room).unwrap_or(job)));
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.to_owned(), index.to_string());
    if sync.spec().backoff_limit_per_index.is_some() {
        let before = sync.kept.get(&index);
        let (mut counted, mut ignored) = before.map_or((0, 0), |pod| (failures(pod), ignored_failures(pod)));
        match before.map(|pod| judge(sync.spec(), pod)) {
            None => {}
            Some(Verdict::Ignored) => ignored += 1,
            Some(_) => counted += 1,
        }
        annotations.insert(FAILURES.to_owned(), counted.to_string());
        if ignored > 0 {
            annotations.insert(IGNORED_FAILURES.to_owned(), ignored.to_string());
        }
    }
    pod.metadata.labels.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
    if let Some(spec) = &mut pod.spec {
        spec.hostname = Some(format!("{job}-{index}"));
    }
    pod
}
