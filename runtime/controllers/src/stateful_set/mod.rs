//! StatefulSets: pods with names and claims that stay theirs, made, updated and deleted in their order.
//!
//! A look at a set: its revisions ([`crate::history`]), its pods by their ordinals ([`pass`]), the claims of each ([`claims`]),
//! and one write of the status.

mod claims;
mod identity;
mod pass;
mod spec;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kiln_client::{Change, Client, Clock, Informers, Object as _, ObjectRef, Store, WorkQueue};

use self::pass::Pass;
use crate::children::Workload;
use crate::expectations::{Expectations, LOOK_AGAIN};
use crate::history::{self, History};
use crate::labels::{self, Labels};
use crate::owned::{claim, claimable, index, name};
use crate::pods::{self, subscribe};
use crate::reconcile::{Failure, Next, work};
use crate::{Context, Recorder, status_patch};

/// Sets worked on at the same time.
const WORKERS: usize = 5;
/// Holds the hash in a revision's name.
const HASH_LABEL: &str = "controller.kubernetes.io/hash";

/// Makes the controller.
pub fn build(informers: &mut Informers, context: &Context) -> impl Future<Output = ()> + Send + use<> {
    let Context { client, clock, events, shutdown } = context.clone();
    let (queue, expectations) = (WorkQueue::<ObjectRef>::default(), Arc::new(Expectations::default()));
    let pods = subscribe::<StatefulSet>(informers, &queue, &expectations);
    let sets = informers.of::<StatefulSet>();
    sets.subscribe({
        let (queue, expectations) = (queue.clone(), expectations.clone());
        move |change| {
            let Some(key) = change.key() else { return };
            if let Change::Deleted { .. } = change {
                expectations.forget(key);
            }
            queue.add(key.clone());
        }
    });
    let sets = sets.store();
    let revisions = informers.of::<ControllerRevision>();
    index(revisions);
    let history = History::new(client.clone(), revisions.store(), HASH_LABEL);
    let claims = informers.of::<PersistentVolumeClaim>();
    claims.subscribe({
        let (queue, sets) = (queue.clone(), sets.clone());
        move |change| {
            if let Change::Deleted { key, .. } = change {
                let waiting = sets.in_namespace(&key.namespace);
                let waiting = waiting.iter().filter(|set| identity::may_claim(set, &key.name));
                waiting.for_each(|set| queue.add(set.key()));
            }
        }
    });
    let recorder = events.recorder("statefulset-controller");
    let engine = Engine { client, clock, recorder, sets, pods, claims: claims.store(), history, expectations };
    async move {
        join_all((0..WORKERS).map(|_| work("statefulset", &queue, &shutdown, |key| engine.reconcile(key)))).await;
    }
}

impl Workload for StatefulSet {
    fn would_adopt(&self, labels: Option<&Labels>) -> bool {
        labels::adopts(self.spec.as_ref().map(|spec| &spec.selector), labels)
    }
}

struct Engine {
    client: Client,
    clock: Clock,
    recorder: Recorder,
    sets: Store<StatefulSet>,
    pods: Store<Pod>,
    claims: Store<PersistentVolumeClaim>,
    history: History,
    expectations: Arc<Expectations>,
}

/// The revisions of a set: the one that its pods come from, and the one that they go to.
struct Revisions {
    current: Arc<ControllerRevision>,
    update: Arc<ControllerRevision>,
    collisions: i32,
}

impl Engine {
    async fn reconcile(&self, key: ObjectRef) -> Result<Next, Failure> {
        self.sets.synced().await;
        self.pods.synced().await;
        self.claims.synced().await;
        self.history.synced().await;
        let Some(set) = self.sets.get(&key) else {
            self.expectations.forget(&key);
            return Ok(Next::Settled);
        };
        let Some(spec) = &set.spec else { return Ok(Next::Settled) };
        if !self.expectations.are_met(&key) {
            // What was done is not seen yet; it brings the set here again.
            return Ok(LOOK_AGAIN);
        }
        let selects = |labels: Option<&Labels>| labels::selects(&spec.selector, labels);
        let past = self.history.of(&*set, selects).await?;
        let is_member = |labels: Option<&Labels>, pod: &Pod| selects(labels) && identity::is_member(&set, pod);
        let found = claimable(&self.pods, &*set);
        let members = claim(&self.client, &*set, found, is_member, &[]).await?;
        let revisions = self.revisions(&set, &past).await?;
        let now = self.clock.now();
        let mut pass = Pass::new(self, &set, spec, &revisions, members.clone(), now)?;
        let done = pass.run().await;
        let status = pass.status();
        let written = status_patch::write(&self.client, &*set, set.status.as_ref(), &status).await;
        let kept = self.keep_history(&set, &past, &revisions, &members).await;
        done?;
        written?;
        kept?;
        Ok(next_check(&members, spec.min_ready_seconds.unwrap_or(0), &status, now))
    }

    /// The set's revisions, having noted the present template as the latest.
    async fn revisions(&self, set: &StatefulSet, past: &[Arc<ControllerRevision>]) -> Result<Revisions, Failure> {
        let template = spec::template(set);
        let mut collisions = set.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
        let next = history::next_number(past);
        let update = match past.iter().rev().find(|revision| history::is_of(revision, template)) {
            Some(equal) if past.last().is_some_and(|last| last.metadata.uid == equal.metadata.uid) => equal.clone(),
            // An earlier one is the latest again.
            Some(equal) => Arc::new(self.history.renumber(equal, next).await?),
            None => {
                let revision = self.history.compose(set, template, next, collisions)?;
                Arc::new(self.history.create(set, revision, &mut collisions).await?)
            }
        };
        let current = set.status.as_ref().and_then(|status| status.current_revision.as_deref());
        let current = past.iter().find(|revision| current == Some(name(&***revision))).unwrap_or(&update);
        Ok(Revisions { current: current.clone(), update, collisions })
    }

    async fn keep_history(
        &self,
        set: &StatefulSet,
        past: &[Arc<ControllerRevision>],
        revisions: &Revisions,
        members: &[Arc<Pod>],
    ) -> Result<(), Failure> {
        let is_live = |revision: &ControllerRevision| {
            let name = name(revision);
            [&revisions.current, &revisions.update].iter().any(|live| crate::owned::name(&***live) == name)
                || members.iter().any(|pod| identity::revision(pod) == name)
        };
        let limit = set.spec.as_ref().and_then(|spec| spec.revision_history_limit);
        self.history.truncate(past, is_live, limit).await
    }
}

/// When the next pod will have been ready for long enough.
fn next_check(members: &[Arc<Pod>], min_ready: i32, status: &StatefulSetStatus, now: jiff::Timestamp) -> Next {
    if min_ready == 0 || status.ready_replicas.unwrap_or(0) == status.available_replicas.unwrap_or(0) {
        return Next::Settled;
    }
    let otherwise = Duration::from_secs(min_ready.unsigned_abs().into());
    Next::After(pods::next_available(members, min_ready, now).unwrap_or(otherwise))
}
