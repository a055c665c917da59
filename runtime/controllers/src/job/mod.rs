//! Jobs: Pods that run until so many have succeeded.
//!
//! In come changes of Jobs and of their Pods; a Job is looked at at once when it changes itself, and a second after its Pods
//! did, so that many changes lead to one look. Out go Pods, and the Job's status. Each Pod carries a finalizer until it is counted
//! ([`track`]), so that none is counted twice or not at all, whatever is deleted when. [`policy`], [`indexes`] and [`backoff`] say
//! what Pods that ended mean.

mod backoff;
mod conditions;
mod indexes;
mod manage;
mod policy;
mod sync;
mod track;

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::Pod;
use kiln_client::{
    Change, Client, ClientError, Clock, Informers, Object as _, ObjectRef, PatchKind, RateLimit, Store, WorkQueue, path,
};
use serde_json::json;

use self::backoff::Record;
pub(crate) use self::conditions::{finished_at, has_completed, is_finished};
use crate::owned::{controller, index, name, namespace, of_owner};
use crate::pods::PodControl;
use crate::reconcile::{Failure, Next, work};
use crate::written::Written;
use crate::{Context, Recorder, labels};

/// The finalizer of Pods that are not counted yet.
pub(crate) const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// The `managedBy` of Jobs that this controller is for.
const CONTROLLER: &str = "kubernetes.io/job-controller";
/// How long changes of Pods are gathered.
const BATCH: Duration = Duration::from_secs(1);

/// Adds the controller to the mirrors; what is returned runs it until the shutdown.
pub fn build(informers: &mut Informers, context: &Context) -> impl Future<Output = ()> + use<> {
    let limit = RateLimit { first: Duration::from_secs(1), most: Duration::from_secs(60) };
    let recorder = context.events.recorder("job-controller");
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        clock: context.clock.clone(),
        jobs: informers.of::<Job>().store(),
        pods: informers.of::<Pod>().store(),
        control: PodControl::new(context.client.clone(), recorder.clone()),
        recorder,
        queue: WorkQueue::new(limit.clone()),
        orphans: WorkQueue::new(limit),
        written_jobs: Written::default(),
        written_pods: Written::default(),
        records: Mutex::default(),
    });
    informers.of::<Job>().subscribe({
        let controller = controller.clone();
        move |change| controller.on_job(change)
    });
    let pods = informers.of::<Pod>();
    index(pods);
    pods.subscribe({
        let controller = controller.clone();
        move |change| controller.on_pod(change)
    });
    let shutdown = context.shutdown.clone();
    async move {
        tokio::join!(
            work("job", &controller.queue, &shutdown, |key| controller.reconcile(key)),
            work("job-orphans", &controller.orphans, &shutdown, |key| controller.release(key)),
        );
    }
}

struct Controller {
    client: Client,
    clock: Clock,
    jobs: Store<Job>,
    pods: Store<Pod>,
    control: PodControl,
    recorder: Recorder,
    queue: WorkQueue<ObjectRef>,
    /// Pods that may carry the finalizer for nobody.
    orphans: WorkQueue<ObjectRef>,
    written_jobs: Written,
    written_pods: Written,
    /// The failures of each Job since its last success.
    records: Mutex<HashMap<ObjectRef, Record>>,
}

fn spec(job: &Job) -> &JobSpec {
    static NONE: std::sync::LazyLock<JobSpec> = std::sync::LazyLock::new(JobSpec::default);
    job.spec.as_ref().unwrap_or(&NONE)
}

fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == TRACKING)
}

fn is_elsewhere(job: &Job) -> bool {
    spec(job).managed_by.as_ref().is_some_and(|by| by != CONTROLLER)
}

impl Controller {
    fn records(&self) -> MutexGuard<'_, HashMap<ObjectRef, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on_job(&self, change: &Change<Job>) {
        match change {
            Change::Synced => {}
            Change::Applied { object, .. } if is_finished(object) => self.release_all(object),
            Change::Applied { key, object, previous } => {
                let same = |previous: &Arc<Job>| previous.metadata.generation == object.metadata.generation;
                match previous {
                    Some(previous) if same(previous) => self.queue.add_after(key.clone(), BATCH),
                    _ => self.queue.add(key.clone()),
                }
            }
            Change::Deleted { key, object } => {
                self.queue.add(key.clone());
                self.release_all(object);
            }
        }
    }

    /// Has a look at the Pods of a Job that counts no more.
    fn release_all(&self, job: &Job) {
        for pod in of_owner(&self.pods, job.uid()).iter().filter(|pod| is_tracked(pod)) {
            self.orphans.add(pod.key());
        }
    }

    /// The Job that a Pod is of.
    fn job_of(&self, pod: &Pod) -> Option<Arc<Job>> {
        let owner = controller(&pod.metadata).filter(|owner| owner.kind == "Job")?;
        let job = self.jobs.get(&ObjectRef::namespaced(namespace(pod), &owner.name))?;
        (job.uid() == owner.uid).then_some(job)
    }

    fn on_pod(&self, change: &Change<Pod>) {
        let (pod, previous, gone) = match change {
            Change::Synced => return,
            Change::Applied { object, previous, .. } => (object, previous.as_ref(), false),
            Change::Deleted { object, .. } => (object, None, true),
        };
        let moved = previous.filter(|previous| controller(&previous.metadata) != controller(&pod.metadata));
        if let Some(job) = moved.and_then(|previous| self.job_of(previous)) {
            self.queue.add_after(job.key(), BATCH);
        }
        let going = pod.metadata.deletion_timestamp.is_some();
        let owned = controller(&pod.metadata).is_some();
        match self.job_of(pod) {
            Some(job) => {
                if going && is_finished(&job) && is_tracked(pod) && !gone {
                    self.orphans.add(pod.key());
                }
                self.queue.add_after(job.key(), BATCH);
            }
            None if gone => {}
            None if is_tracked(pod) && (going || !owned) => self.orphans.add(pod.key()),
            None => {}
        }
        let relabelled = previous.is_none_or(|previous| previous.metadata.labels != pod.metadata.labels);
        if !owned && !gone && !going && (relabelled || moved.is_some()) {
            for job in self.jobs.in_namespace(namespace(&**pod)) {
                let selector = spec(&job).selector.as_ref();
                if selector.is_some_and(|selector| labels::selects(selector, pod.metadata.labels.as_ref())) {
                    self.queue.add_after(job.key(), BATCH);
                }
            }
        }
    }

    /// Takes the finalizer off a Pod that no Job will count.
    async fn release(&self, key: ObjectRef) -> Result<Next, Failure> {
        tokio::join!(self.jobs.synced(), self.pods.synced());
        let Some(pod) = self.pods.get(&key).filter(|pod| is_tracked(pod)) else { return Ok(Next::Settled) };
        let foreign =
            controller(&pod.metadata).is_some_and(|owner| owner.kind != "Job" || owner.api_version != "batch/v1");
        let counted = self.job_of(&pod).is_some_and(|job| is_elsewhere(&job) || !is_finished(&job));
        if foreign || counted {
            return Ok(Next::Settled);
        }
        match self.untrack(None, &pod).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(Next::Settled),
        }
    }

    /// Takes the finalizer off a Pod, for the Job of this key.
    async fn untrack(&self, job: Option<&ObjectRef>, pod: &Pod) -> Result<(), ClientError> {
        let patch = json!({"metadata": {"uid": pod.uid(), "$deleteFromPrimitiveList/finalizers": [TRACKING]}});
        let path = path::<Pod>(namespace(pod), name(pod));
        let written: Result<Pod, ClientError> = self.client.patch(&path, PatchKind::Strategic, &patch).await;
        match written {
            // Another of its name.
            Err(error) if error.is_conflict() => Ok(()),
            Err(error) => Err(error),
            Ok(written) => {
                if let Some(job) = job {
                    self.written_pods.note(job, &written);
                }
                Ok(())
            }
        }
    }
}
