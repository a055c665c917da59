//! CronJobs: Jobs at set times.
//!
//! In come changes of CronJobs and of their Jobs; a CronJob is looked at again when it is next due. Out go Jobs, each named after
//! its CronJob and the minute it was due, so that none is made twice, deletes of old ones, and the CronJob's status.

mod due;
mod schedule;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::Resource;
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kiln_client::{Change, Client, Clock, Informers, Object as _, ObjectRef, Store, WorkQueue, path};
use serde_json::json;

use self::due::Missed;
use self::schedule::Schedule;
use crate::job::{has_completed, is_finished};
use crate::owned::{controller, index, is_controlled_by, is_going, name, namespace, of_owner, reference};
use crate::reconcile::{Failure, Next, work};
use crate::written::Written;
use crate::{Context, Recorder};

const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// Adds the controller to the mirrors; what is returned runs it until the shutdown.
pub fn build(informers: &mut Informers, context: &Context) -> impl Future<Output = ()> + use<> {
    let queue = WorkQueue::<ObjectRef>::default();
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        clock: context.clock.clone(),
        crons: informers.of::<CronJob>().store(),
        jobs: informers.of::<Job>().store(),
        written: Written::default(),
        recorder: context.events.recorder("cronjob-controller"),
    });
    informers.of::<CronJob>().subscribe({
        let (queue, controller) = (queue.clone(), controller.clone());
        move |change| controller.on_cron(change, &queue)
    });
    let jobs = informers.of::<Job>();
    index(jobs);
    jobs.subscribe({
        let (queue, controller) = (queue.clone(), controller.clone());
        move |change| {
            let (job, previous) = match change {
                Change::Applied { object, previous, .. } => (object, previous.as_ref()),
                Change::Deleted { object, .. } => (object, None),
                Change::Synced => return,
            };
            let owners = previous.into_iter().chain([job]).filter_map(|job| controller.cron_of(job));
            owners.for_each(|cron| queue.add(cron));
        }
    });
    let shutdown = context.shutdown.clone();
    async move {
        work("cron-job", &queue, &shutdown, |key| controller.reconcile(key)).await;
    }
}

struct Controller {
    client: Client,
    clock: Clock,
    crons: Store<CronJob>,
    jobs: Store<Job>,
    written: Written,
    recorder: Recorder,
}

/// A CronJob with the status that is to be.
struct Sync {
    cron: CronJob,
    changed: bool,
}

impl Sync {
    fn status(&mut self) -> &mut CronJobStatus {
        self.cron.status.get_or_insert_default()
    }

    fn active(&self) -> &[ObjectReference] {
        self.cron.status.as_ref().and_then(|status| status.active.as_deref()).unwrap_or_default()
    }

    fn is_active(&self, uid: &str) -> bool {
        self.active().iter().any(|job| job.uid.as_deref() == Some(uid))
    }

    fn drop_active(&mut self, uid: &str) {
        let active = &mut self.status().active;
        if let Some(jobs) = active {
            jobs.retain(|job| job.uid.as_deref() != Some(uid));
        }
        active.take_if(|jobs| jobs.is_empty());
        self.changed = true;
    }
}

/// The zone of a CronJob; `None` if it names one that is not known.
fn zone(spec: &CronJobSpec) -> Option<TimeZone> {
    schedule::zone(spec.time_zone.as_deref().unwrap_or_default())
}

fn job_name(cron: &CronJob, due: Timestamp) -> String {
    format!("{}-{}", name(cron), due.as_second() / 60)
}

impl Controller {
    /// A new schedule is waited for; all else is looked at now.
    fn on_cron(&self, change: &Change<CronJob>, queue: &WorkQueue<ObjectRef>) {
        if let Change::Applied { key, object, previous: Some(previous) } = change {
            let timing = |cron: &CronJob| (cron.spec.schedule.clone(), cron.spec.time_zone.clone());
            if timing(object) != timing(previous) {
                let spec = &object.spec;
                match Schedule::parse(&spec.schedule, zone(spec).unwrap_or(TimeZone::UTC)) {
                    Ok(schedule) => queue.add_after(key.clone(), due::wait(object, &schedule, self.clock.now())),
                    Err(_) => {
                        let message = format!("unparseable schedule for cronjob: {}", spec.schedule);
                        self.recorder.warning(&**object, "UnParseableCronJobSchedule", message);
                    }
                }
                return;
            }
        }
        if let Some(key) = change.key() {
            queue.add(key.clone());
        }
    }

    /// The CronJob that a Job is of.
    fn cron_of(&self, job: &Job) -> Option<ObjectRef> {
        let owner = controller(&job.metadata).filter(|owner| owner.kind == CronJob::KIND)?;
        let key = ObjectRef::namespaced(namespace(job), &owner.name);
        let cron = self.crons.get(&key)?;
        (cron.uid() == owner.uid).then_some(key)
    }

    async fn reconcile(&self, key: ObjectRef) -> Result<Next, Failure> {
        tokio::join!(self.crons.synced(), self.jobs.synced());
        let Some(cron) = self.crons.get(&key) else { return Ok(Next::Settled) };
        if !self.written.shown(&key, &self.crons) {
            return Err(Failure::Stale);
        }
        let jobs = of_owner(&self.jobs, cron.uid());
        let mut sync = Sync { cron: (*cron).clone(), changed: false };
        self.clean_up(&mut sync, &jobs).await;
        let wait = self.sync(&mut sync, &jobs).await;
        if sync.changed {
            let path = format!("{}/status", path::<CronJob>(&key.namespace, &key.name));
            let written: CronJob = self.client.update(&path, &sync.cron).await?;
            self.written.note(&key, &written);
        }
        Ok(wait?.map_or(Next::Settled, Next::After))
    }

    /// Deletes what goes beyond the limits of the history, the oldest first.
    async fn clean_up(&self, sync: &mut Sync, jobs: &[Arc<Job>]) {
        let spec = &sync.cron.spec;
        let limits = [(spec.successful_jobs_history_limit, true), (spec.failed_jobs_history_limit, false)];
        for (limit, succeeded) in limits {
            let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { continue };
            let ended =
                jobs.iter().filter(|job| is_finished(job) && has_completed(job) == succeeded && !is_going(&***job));
            let mut ended: Vec<_> = ended.collect();
            let started =
                |job: &Job| job.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0);
            ended.sort_by_key(|job| (started(job).is_none(), started(job), name(&***job).to_owned()));
            let too_many = ended.len().saturating_sub(limit);
            for job in ended.into_iter().take(too_many) {
                self.delete(sync, job).await;
            }
        }
    }

    /// Deletes a Job; answers whether it goes.
    async fn delete(&self, sync: &mut Sync, job: &Job) -> bool {
        let policy = json!({"propagationPolicy": "Background"});
        match self.client.delete(&path::<Job>(namespace(job), name(job)), &policy).await {
            Err(error) if !error.is_not_found() => {
                self.recorder.warning(&sync.cron, "FailedDelete", format!("Deleted job: {error}"));
                false
            }
            _ => {
                if sync.is_active(job.uid()) {
                    sync.drop_active(job.uid());
                }
                self.recorder.normal(&sync.cron, "SuccessfulDelete", format!("Deleted job {}", name(job)));
                true
            }
        }
    }

    /// Brings the status up to date and starts a Job if one is due. Answers when to look again.
    async fn sync(&self, sync: &mut Sync, jobs: &[Arc<Job>]) -> Result<Option<Duration>, Failure> {
        for job in jobs {
            self.take_in(sync, job);
        }
        for active in sync.active().to_vec() {
            let uid = active.uid.unwrap_or_default();
            if jobs.iter().any(|job| job.uid() == uid) {
                continue;
            }
            // The mirror may be behind: the server knows.
            let name = active.name.unwrap_or_default();
            if self.client.find::<Job>(&path::<Job>(namespace(&sync.cron), &name)).await?.is_none() {
                self.recorder.normal(&sync.cron, "MissingJob", format!("Active job went missing: {name}"));
                sync.drop_active(&uid);
            }
        }
        if is_going(&sync.cron) {
            return Ok(None);
        }
        let spec = sync.cron.spec.clone();
        let Some(zone) = zone(&spec) else {
            let name = spec.time_zone.unwrap_or_default();
            let message = format!("invalid timeZone: {name:?}: unknown time zone {name}");
            self.recorder.warning(&sync.cron, "UnknownTimeZone", message);
            return Ok(None);
        };
        if spec.suspend == Some(true) {
            return Ok(None);
        }
        if spec.schedule.contains("TZ") {
            let message = format!(
                "CRON_TZ or TZ used in schedule {:?} is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details",
                spec.schedule
            );
            self.recorder.warning(&sync.cron, "UnsupportedSchedule", message);
        }
        let schedule = match Schedule::parse(&spec.schedule, zone.clone()) {
            Ok(schedule) => schedule,
            Err(why) => {
                let message = format!("unparseable schedule: {:?} : {why}", spec.schedule);
                self.recorder.warning(&sync.cron, "UnparseableSchedule", message);
                return Ok(None);
            }
        };
        self.start(sync, &spec, &schedule, &zone).await?;
        if due::recent(&sync.cron, &schedule, self.clock.now(), true).is_err() {
            return Ok(None);
        }
        Ok(Some(due::wait(&sync.cron, &schedule, self.clock.now())))
    }

    /// Notes how one of its Jobs is.
    fn take_in(&self, sync: &mut Sync, job: &Job) {
        let active = sync.is_active(job.uid());
        if !is_finished(job) {
            if !active {
                let message = format!("Saw a job that the controller did not create or forgot: {}", name(job));
                self.recorder.warning(&sync.cron, "UnexpectedJob", message);
            }
            return;
        }
        let succeeded = has_completed(job);
        if active {
            sync.drop_active(job.uid());
            let condition = if succeeded { "Complete" } else { "Failed" };
            let message = format!("Saw completed job: {}, condition: {condition}", name(job));
            self.recorder.normal(&sync.cron, "SawCompletedJob", message);
        }
        let completed = job.status.as_ref().and_then(|status| status.completion_time.clone()).filter(|_| succeeded);
        let last = &mut sync.status().last_successful_time;
        if completed.is_some() && (last.is_none() || completed > *last) {
            *last = completed;
            sync.changed = true;
        }
    }

    /// Starts the Job of the last time that was due, unless something speaks against it.
    async fn start(
        &self,
        sync: &mut Sync,
        spec: &CronJobSpec,
        schedule: &Schedule,
        zone: &TimeZone,
    ) -> Result<(), Failure> {
        let now = self.clock.now();
        let recent = match due::recent(&sync.cron, schedule, now, true) {
            Ok(recent) => recent,
            Err(why) => {
                let message = format!("invalid schedule: {} : {why}", spec.schedule);
                self.recorder.warning(&sync.cron, "InvalidSchedule", message);
                return Ok(());
            }
        };
        let Some(due) = recent.due else { return Ok(()) };
        if recent.missed == Missed::Many {
            let message =
                "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.recorder.warning(&sync.cron, "TooManyMissedTimes", message);
        }
        let deadline = spec.starting_deadline_seconds.map(SignedDuration::from_secs);
        if deadline.is_some_and(|deadline| due + deadline < now) {
            let due = due.strftime("%a, %d %b %Y %H:%M:%S +0000");
            self.recorder.warning(&sync.cron, "MissSchedule", format!("Missed scheduled time to start a job: {due}"));
            return Ok(());
        }
        let job_name = job_name(&sync.cron, due);
        let last = sync.cron.status.as_ref().and_then(|status| status.last_schedule_time.as_ref());
        if last.is_some_and(|last| last.0 == due)
            || sync.active().iter().any(|job| job.name.as_ref() == Some(&job_name))
        {
            return Ok(());
        }
        let policy = spec.concurrency_policy.as_deref().unwrap_or("Allow");
        if policy == "Forbid" && !sync.active().is_empty() {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            self.recorder.normal(&sync.cron, "JobAlreadyActive", message);
            return Ok(());
        }
        if policy == "Replace" {
            for active in sync.active().to_vec() {
                let path = path::<Job>(namespace(&sync.cron), active.name.as_deref().unwrap_or_default());
                let job: Job = match self.client.get(&path).await {
                    Ok(job) => job,
                    Err(error) => {
                        self.recorder.warning(&sync.cron, "FailedGet", format!("Get job: {error}"));
                        return Err(error.into());
                    }
                };
                if !self.delete(sync, &job).await {
                    return Err(Failure::Waiting(format!("could not replace job {}/{}", namespace(&job), name(&job))));
                }
            }
        }
        let Some(made) = self.make(sync, spec, job_name, due, zone).await? else { return Ok(()) };
        let made = ObjectReference {
            api_version: Some(Job::API_VERSION.to_owned()),
            kind: Some(Job::KIND.to_owned()),
            name: made.metadata.name,
            namespace: made.metadata.namespace,
            uid: made.metadata.uid,
            resource_version: made.metadata.resource_version,
            field_path: None,
        };
        let status = sync.status();
        status.active.get_or_insert_default().push(made);
        status.last_schedule_time = Some(Time(due));
        sync.changed = true;
        Ok(())
    }

    /// Makes the Job of a time; `None` if it is there and is known or someone else's.
    async fn make(
        &self,
        sync: &Sync,
        spec: &CronJobSpec,
        job_name: String,
        due: Timestamp,
        zone: &TimeZone,
    ) -> Result<Option<Job>, Failure> {
        let template = spec.job_template.metadata.clone().unwrap_or_default();
        let mut annotations = template.annotations.unwrap_or_default();
        annotations.insert(SCHEDULED_AT.to_owned(), schedule::written(due, zone));
        let job = Job {
            metadata: ObjectMeta {
                name: Some(job_name.clone()),
                labels: template.labels,
                annotations: Some(annotations),
                owner_references: Some(vec![reference(&sync.cron)]),
                ..ObjectMeta::default()
            },
            spec: spec.job_template.spec.clone(),
            status: None,
        };
        let namespace = namespace(&sync.cron);
        match self.client.create::<Job>(&path::<Job>(namespace, ""), &job).await {
            Ok(made) => {
                self.recorder.normal(&sync.cron, "SuccessfulCreate", format!("Created job {job_name}"));
                Ok(Some(made))
            }
            // Made before, and the write of the status failed.
            Err(error) if error.is_already_exists() => {
                let there: Job = self.client.get(&path::<Job>(namespace, &job_name)).await?;
                let forgotten = is_controlled_by(&there.metadata, sync.cron.uid()) && !sync.is_active(there.uid());
                Ok(forgotten.then_some(there))
            }
            Err(error) => {
                if !crate::reconcile::is_namespace_going(&error) {
                    self.recorder.warning(&sync.cron, "FailedCreate", format!("Error creating job: {error}"));
                }
                Err(error.into())
            }
        }
    }
}
