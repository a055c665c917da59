//! Deployments: roll a template out by making and scaling ReplicaSets.
//!
//! Each look at a Deployment is one [`rollout::Rollout`]: find the ReplicaSet of the current template and the older ones, scale
//! them a step towards where they are to be, and write what is to be said of it into the status, once.

mod conditions;
mod progress;
mod revisions;
mod rollback;
mod rollout;
mod scale;
mod spec;

use std::future::Future;
use std::sync::Arc;

use futures_util::future::join_all;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kiln_client::{Change, Client, Clock, Informers, ObjectRef, Store, WorkQueue};

use self::rollout::Rollout;
use crate::children::{self, Workload};
use crate::expectations::Expectations;
use crate::labels::{self, Labels};
use crate::owned::{claim, claimable, controller, index};
use crate::reconcile::{Failure, Next, is_namespace_going, keys_to, work};
use crate::{Context, Recorder, status_patch};

/// Deployments worked on at the same time.
const WORKERS: usize = 5;

/// Makes the controller.
pub fn build(informers: &mut Informers, context: &Context) -> impl Future<Output = ()> + Send + use<> {
    let Context { client, clock, events, shutdown } = context.clone();
    let queue = WorkQueue::<ObjectRef>::default();
    let sets = children::subscribe::<Deployment, ReplicaSet>(informers, &queue, &Arc::new(Expectations::default()));
    let deployments = informers.of::<Deployment>();
    deployments.subscribe(keys_to(&queue));
    let deployments = deployments.store();
    let pods = informers.of::<Pod>();
    index(pods);
    pods.subscribe({
        let (queue, sets, deployments) = (queue.clone(), sets.clone(), deployments.clone());
        move |change| {
            if let Change::Deleted { object, .. } = change
                && let Some(waiting) = recreated_by(object, &sets, &deployments)
            {
                queue.add(waiting);
            }
        }
    });
    let recorder = events.recorder("deployment-controller");
    let engine = Engine { client, clock, recorder, deployments, sets, pods: pods.store() };
    async move {
        join_all((0..WORKERS).map(|_| work("deployment", &queue, &shutdown, |key| engine.reconcile(key)))).await;
    }
}

/// The Deployment that waits for all its old pods to be gone, and has lost this one.
fn recreated_by(pod: &Pod, sets: &Store<ReplicaSet>, deployments: &Store<Deployment>) -> Option<ObjectRef> {
    let namespace = pod.metadata.namespace.as_deref()?;
    let owner = controller(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet")?;
    let set = sets.get(&ObjectRef::namespaced(namespace, &owner.name))?;
    let key = ObjectRef::namespaced(namespace, &controller(&set.metadata)?.name);
    deployments.get(&key).filter(|deployment| spec::is_recreate(deployment)).map(|_| key)
}

impl Workload for Deployment {
    fn would_adopt(&self, labels: Option<&Labels>) -> bool {
        labels::adopts(self.spec.as_ref().map(|spec| &spec.selector), labels)
    }
}

struct Engine {
    client: Client,
    clock: Clock,
    recorder: Recorder,
    deployments: Store<Deployment>,
    sets: Store<ReplicaSet>,
    pods: Store<Pod>,
}

impl Engine {
    async fn reconcile(&self, key: ObjectRef) -> Result<Next, Failure> {
        self.deployments.synced().await;
        self.sets.synced().await;
        self.pods.synced().await;
        let Some(deployment) = self.deployments.get(&key) else { return Ok(Next::Settled) };
        let Some(spec) = &deployment.spec else { return Ok(Next::Settled) };
        if labels::is_empty(&spec.selector) {
            return self.refuse(&deployment).await;
        }
        let found = claimable(&self.sets, &*deployment);
        let selects = |labels: Option<&Labels>, _: &ReplicaSet| labels::selects(&spec.selector, labels);
        let sets = claim(&self.client, &*deployment, found, selects, &[]).await?;
        match Rollout::new(self, &deployment, spec, sets).run().await {
            // Nothing can be made there any more.
            Err(Failure::Client(error)) if is_namespace_going(&error) => Ok(Next::Settled),
            done => done,
        }
    }

    async fn refuse(&self, deployment: &Deployment) -> Result<Next, Failure> {
        let text = "This deployment is selecting all pods. A non-empty selector is required.";
        self.recorder.warning(deployment, "SelectingAll", text);
        let mut status = deployment.status.clone().unwrap_or_default();
        status.observed_generation = deployment.metadata.generation;
        status_patch::write(&self.client, deployment, deployment.status.as_ref(), &status).await?;
        Ok(Next::Settled)
    }
}
