//! ReplicaSets and ReplicationControllers: as many pods of a template as are asked for.
//!
//! One engine serves both. It counts the pods that are its object's, makes what lacks in batches that grow while all goes well,
//! deletes what is too many in the order of least use, and writes the counts into the status when they have changed.

mod kinds;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use kiln_client::{Change, Client, ClientError, Clock, Informers, ObjectRef, Store, WorkQueue};

use self::kinds::{Counts, Failed, Replicated};
use crate::Context;
use crate::expectations::{Expectations, LOOK_AGAIN};
use crate::labels::{Labels, holds};
use crate::owned::{claim, claimable, controller, index, is_controlled_by, is_going, of_owner, reference};
use crate::pods::{self, PodControl, first_to_go, from_template, slow_start, subscribe};
use crate::reconcile::{Failure, Next, is_namespace_going, work};
use crate::status_patch;

/// Pods made or deleted at once for one object; more follow when these are seen.
const BURST: usize = 500;
/// Objects worked on at the same time.
const WORKERS: usize = 5;

/// Makes the controller of ReplicaSets.
pub fn replica_sets(informers: &mut Informers, context: &Context) -> impl Future<Output = ()> + Send + use<> {
    build::<k8s_openapi::api::apps::v1::ReplicaSet>(informers, context)
}

/// Makes the controller of ReplicationControllers.
pub fn replication_controllers(
    informers: &mut Informers,
    context: &Context,
) -> impl Future<Output = ()> + Send + use<> {
    build::<k8s_openapi::api::core::v1::ReplicationController>(informers, context)
}

fn build<R: Replicated>(informers: &mut Informers, context: &Context) -> impl Future<Output = ()> + Send + use<R> {
    let Context { client, clock, events, shutdown } = context.clone();
    let (queue, expectations) = (WorkQueue::<ObjectRef>::default(), Arc::new(Expectations::default()));
    let pods = subscribe::<R>(informers, &queue, &expectations);
    let sets = informers.of::<R>();
    index(sets);
    sets.subscribe({
        let (queue, expectations) = (queue.clone(), expectations.clone());
        move |change| {
            let Some(key) = change.key() else { return };
            let is_another = match change {
                Change::Applied { object, previous: Some(previous), .. } => object.uid() != previous.uid(),
                Change::Deleted { .. } => true,
                _ => false,
            };
            if is_another {
                expectations.forget(key);
            }
            queue.add(key.clone());
        }
    });
    let control = PodControl::new(client.clone(), events.recorder(R::COMPONENT));
    let engine = Engine { client, clock, control, sets: sets.store(), pods, expectations };
    async move {
        join_all((0..WORKERS).map(|_| work(R::COMPONENT, &queue, &shutdown, |key| engine.reconcile(key)))).await;
    }
}

struct Engine<R> {
    client: Client,
    clock: Clock,
    control: PodControl,
    sets: Store<R>,
    pods: Store<Pod>,
    expectations: Arc<Expectations>,
}

impl<R: Replicated> Engine<R> {
    async fn reconcile(&self, key: ObjectRef) -> Result<Next, Failure> {
        self.sets.synced().await;
        self.pods.synced().await;
        let Some(set) = self.sets.get(&key) else {
            self.expectations.forget(&key);
            return Ok(Next::Settled);
        };
        let all_is_seen = self.expectations.are_met(&key);
        let found = claimable(&self.pods, &*set);
        let ending = found.iter().filter(|pod| {
            let is_ours = is_controlled_by(&pod.metadata, set.uid()) && set.selects(pod.metadata.labels.as_ref());
            is_ours && pods::is_terminating(pod)
        });
        let ending = ending.count();
        let active: Vec<_> = found.into_iter().filter(|pod| pods::is_active(pod)).collect();
        let active = claim(&self.client, &*set, active, |labels, _| set.selects(labels), &[]).await?;
        if !all_is_seen && set.has_been_observed() {
            // The last pod of the batch brings it here again: one status for all of them.
            return Ok(LOOK_AGAIN);
        }
        let failure = if all_is_seen && !is_going(&*set) { self.manage(&key, &set, &active).await.err() } else { None };
        let now = self.clock.now();
        let counts = self.count(&set, &active, ending);
        let failed = failure.as_ref().map(|error| Failed {
            reason: if counts.replicas < set.replicas() { "FailedCreate" } else { "FailedDelete" },
            message: error.to_string(),
        });
        let status = set.next_status(&counts, failed, now);
        status_patch::write(&self.client, &*set, set.status(), &status).await?;
        if let Some(error) = failure {
            return Err(error.into());
        }
        if set.min_ready() > 0 && counts.ready != counts.available {
            let otherwise = Duration::from_secs(set.min_ready().unsigned_abs().into());
            return Ok(Next::After(pods::next_available(&active, set.min_ready(), now).unwrap_or(otherwise)));
        }
        Ok(Next::Settled)
    }

    fn count(&self, set: &R, active: &[Arc<Pod>], ending: usize) -> Counts {
        let now = self.clock.now();
        let wanted = template_labels(set.template());
        let count = |holds: &dyn Fn(&Pod) -> bool| as_count(active.iter().filter(|pod| holds(pod)).count());
        Counts {
            replicas: as_count(active.len()),
            labelled: count(&|pod| wanted.is_none_or(|wanted| holds(pod.metadata.labels.as_ref(), wanted))),
            ready: count(&pods::is_ready),
            available: count(&|pod| pods::is_available(pod, set.min_ready(), now)),
            terminating: as_count(ending),
        }
    }

    /// Makes or deletes pods until there are as many as asked for.
    async fn manage(&self, key: &ObjectRef, set: &R, active: &[Arc<Pod>]) -> Result<(), ClientError> {
        let wanted = usize::try_from(set.replicas()).unwrap_or(0);
        if active.len() < wanted {
            self.make(key, set, (wanted - active.len()).min(BURST)).await
        } else if active.len() > wanted {
            self.shed(key, set, active, (active.len() - wanted).min(BURST)).await
        } else {
            Ok(())
        }
    }

    async fn make(&self, key: &ObjectRef, set: &R, count: usize) -> Result<(), ClientError> {
        let Some(template) = set.template() else { return Ok(()) };
        let pod = from_template(template, reference(set));
        self.expectations.expect(key, count, []);
        let (made, failure) = slow_start(count, || async {
            match self.control.create(&key.namespace, &pod, set).await {
                Err(error) if !is_namespace_going(&error) => Err(error),
                _ => Ok(()),
            }
        })
        .await;
        // No mirror will show those that were not made.
        (made..count).for_each(|_| self.expectations.created(key));
        failure.map_or(Ok(()), Err)
    }

    async fn shed(&self, key: &ObjectRef, set: &R, active: &[Arc<Pod>], count: usize) -> Result<(), ClientError> {
        let related: Vec<_> = match controller(set.metadata()) {
            Some(owner) => {
                let siblings = of_owner(&self.sets, &owner.uid);
                siblings.iter().flat_map(|sibling| of_owner(&self.pods, sibling.uid())).collect()
            }
            None => Vec::new(),
        };
        let going = first_to_go(active.to_vec(), &related, count, self.clock.now());
        let name = |pod: &Pod| pod.metadata.name.clone().unwrap_or_default();
        let names: Vec<_> = going.iter().map(|pod| name(pod)).collect();
        self.expectations.expect(key, 0, names.iter().map(String::as_str));
        let deleted = join_all(going.iter().map(|pod| async {
            let deleted = self.control.delete(pod, set).await;
            if deleted.is_err() {
                self.expectations.deleted(key, &name(pod));
            }
            deleted
        }));
        let failures = deleted.await.into_iter().filter_map(Result::err);
        failures.into_iter().find(|error| !error.is_not_found()).map_or(Ok(()), Err)
    }
}

fn template_labels(template: Option<&PodTemplateSpec>) -> Option<&Labels> {
    template?.metadata.as_ref()?.labels.as_ref()
}

fn as_count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
