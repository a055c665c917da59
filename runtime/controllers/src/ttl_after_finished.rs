//! Deletes Jobs some time after they ended, where their `ttlSecondsAfterFinished` says so, with all that is theirs.

use std::future::Future;
use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::batch::v1::Job;
use kiln_client::{Change, Client, Clock, Informers, Object as _, ObjectRef, Store, WorkQueue, path};
use serde_json::json;

use crate::Context;
use crate::job::{finished_at, is_finished};
use crate::owned::is_going;
use crate::reconcile::{Failure, Next, work};

/// Adds the controller to the mirrors; what is returned runs it until the shutdown.
pub fn build(informers: &mut Informers, context: &Context) -> impl Future<Output = ()> + use<> {
    let queue = WorkQueue::<ObjectRef>::default();
    let jobs = informers.of::<Job>();
    let store = jobs.store();
    jobs.subscribe({
        let queue = queue.clone();
        move |change| {
            if let Change::Applied { key, object, .. } = change
                && is_finished(object)
            {
                queue.add(key.clone());
            }
        }
    });
    let (client, clock, shutdown) = (context.client.clone(), context.clock.clone(), context.shutdown.clone());
    async move {
        work("ttl-after-finished", &queue, &shutdown, |key| reconcile(&client, &clock, &store, key)).await;
    }
}

async fn reconcile(client: &Client, clock: &Clock, store: &Store<Job>, key: ObjectRef) -> Result<Next, Failure> {
    let Some(left) = store.get(&key).and_then(|job| left(&job, clock)) else { return Ok(Next::Settled) };
    if !left.is_zero() {
        return Ok(Next::After(left));
    }
    // The time may have been prolonged since: the server knows.
    let path = path::<Job>(&key.namespace, &key.name);
    let Some(job) = client.find::<Job>(&path).await? else { return Ok(Next::Settled) };
    let Some(left) = self::left(&job, clock) else { return Ok(Next::Settled) };
    if !left.is_zero() {
        return Ok(Next::After(left));
    }
    let options = json!({"propagationPolicy": "Foreground", "preconditions": {"uid": job.uid()}});
    match client.delete(&path, &options).await {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(Next::Settled),
    }
}

/// How long a Job is still to be kept, if it is not kept for good.
fn left(job: &Job, clock: &Clock) -> Option<Duration> {
    let ttl = job.spec.as_ref()?.ttl_seconds_after_finished.filter(|_| !is_going(job))?;
    let left = (finished_at(job)? + SignedDuration::from_secs(ttl.into())).duration_since(clock.now());
    Some(Duration::try_from(left).unwrap_or(Duration::ZERO))
}
