//! DaemonSets: a pod on each node that is fit for it.
//!
//! A look at a set: its revisions ([`revisions`]), what lacks and what is too much on each node ([`manage`]), a step of a rolling
//! update if nothing of that was to do ([`update`]), and the counts of the status ([`status`]). The scheduler binds the pods: each
//! is made with an affinity to its node.

mod failed;
mod manage;
mod pod;
mod revisions;
mod status;
mod update;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use futures_util::future::join_all;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetSpec};
use k8s_openapi::api::core::v1::{Node, Pod};
use kiln_client::{Change, Client, Clock, Informers, Object as _, ObjectRef, Store, WorkQueue};

use self::failed::FailedPods;
use crate::children::{self, Workload};
use crate::expectations::{Expectations, LOOK_AGAIN};
use crate::history::History;
use crate::labels::{self, Labels};
use crate::owned::{claim, claimable, is_going};
use crate::pods::{PodControl, is_terminal, subscribe};
use crate::reconcile::{Failure, Next, work};
use crate::{Context, Recorder};

/// Sets worked on at the same time.
const WORKERS: usize = 2;
/// Labels pods and revisions with the hash of their template.
const HASH_LABEL: &str = "controller-revision-hash";

/// Makes the controller.
pub fn build(informers: &mut Informers, context: &Context) -> impl Future<Output = ()> + Send + use<> {
    let Context { client, clock, events, shutdown } = context.clone();
    let (queue, expectations) = (WorkQueue::<ObjectRef>::default(), Arc::new(Expectations::default()));
    let pods = subscribe::<DaemonSet>(informers, &queue, &expectations);
    // A revision that someone removes is made again.
    let revisions = children::subscribe_to_changes::<DaemonSet, ControllerRevision>(informers, &queue);
    let sets = informers.of::<DaemonSet>();
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
    let nodes = informers.of::<Node>();
    nodes.subscribe({
        let (queue, sets) = (queue.clone(), sets.clone());
        move |change| {
            let concerned: Vec<_> = match change {
                Change::Synced => return,
                Change::Applied { object, previous: Some(previous), .. } if is_alike(object, previous) => return,
                Change::Applied { object, previous: Some(previous), .. } => {
                    let all = sets.list().into_iter();
                    all.filter(|set| pod::is_for(set, object) != pod::is_for(set, previous)).collect()
                }
                _ => sets.list(),
            };
            concerned.iter().for_each(|set| queue.add(set.key()));
        }
    });
    let nodes = nodes.store();
    let recorder = events.recorder("daemonset-controller");
    let control = PodControl::new(client.clone(), recorder.clone());
    let history = History::new(client.clone(), revisions, HASH_LABEL);
    let failed = FailedPods::default();
    let engine = Engine { client, clock, recorder, control, sets, nodes, pods, history, expectations, failed };
    async move {
        join_all((0..WORKERS).map(|_| work("daemonset", &queue, &shutdown, |key| engine.reconcile(key)))).await;
    }
}

/// Whether nothing has changed of what makes a node fit for pods.
fn is_alike(a: &Node, b: &Node) -> bool {
    let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    a.metadata.uid == b.metadata.uid && a.metadata.labels == b.metadata.labels && taints(a) == taints(b)
}

impl Workload for DaemonSet {
    fn would_adopt(&self, labels: Option<&Labels>) -> bool {
        labels::adopts(self.spec.as_ref().map(|spec| &spec.selector), labels)
    }
}

struct Engine {
    client: Client,
    clock: Clock,
    recorder: Recorder,
    control: PodControl,
    sets: Store<DaemonSet>,
    nodes: Store<Node>,
    pods: Store<Pod>,
    history: History,
    expectations: Arc<Expectations>,
    failed: FailedPods,
}

/// A set's pods by the nodes that they are for.
type ByNode = BTreeMap<String, Vec<Arc<Pod>>>;

/// What one look at a set knows.
struct Look<'a> {
    key: &'a ObjectRef,
    set: &'a DaemonSet,
    spec: &'a DaemonSetSpec,
    nodes: Vec<Arc<Node>>,
    pods: ByNode,
    /// Of the present template.
    hash: String,
    now: jiff::Timestamp,
}

impl Engine {
    async fn reconcile(&self, key: ObjectRef) -> Result<Next, Failure> {
        self.sets.synced().await;
        self.nodes.synced().await;
        self.pods.synced().await;
        self.history.synced().await;
        let Some(set) = self.sets.get(&key) else {
            self.expectations.forget(&key);
            return Ok(Next::Settled);
        };
        let Some(spec) = &set.spec else { return Ok(Next::Settled) };
        if labels::is_empty(&spec.selector) {
            let text = "This daemon set is selecting all pods. A non-empty selector is required.";
            self.recorder.warning(&*set, "SelectingAll", text);
            return Ok(Next::Settled);
        }
        // The pods and the history of one that goes are the garbage collector's.
        if is_going(&*set) {
            return Ok(Next::Settled);
        }
        if !self.expectations.are_met(&key) {
            return Ok(LOOK_AGAIN);
        }
        let selects = |labels: Option<&Labels>, _: &Pod| labels::selects(&spec.selector, labels);
        let mine = claim(&self.client, &*set, claimable(&self.pods, &*set), selects, &[]).await?;
        let revisions = self.revisions(&set, spec, &mine).await?;
        let now = self.clock.now();
        let pods = by_node(&mine);
        let look = Look { key: &key, set: &set, spec, nodes: self.nodes.list(), pods, hash: revisions.hash, now };
        let managed = self.manage(&look).await;
        let updated = match &managed {
            // Only on what is seen to be as it was left.
            Ok(_) if self.expectations.are_met(&key) && is_rolling(spec) => self.update(&look).await,
            _ => Ok(()),
        };
        let kept = self.keep_history(spec, &revisions.old, &mine).await;
        let checked = self.write_status(&look, revisions.collisions).await;
        let retry = managed?;
        updated?;
        kept?;
        Ok(sooner(retry, checked?))
    }
}

fn is_rolling(spec: &DaemonSetSpec) -> bool {
    spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete")
}

/// Pods by the nodes that they are for. Those that have ended and are being deleted do not count any more.
fn by_node(mine: &[Arc<Pod>]) -> ByNode {
    let mut by_node = ByNode::new();
    for pod in mine.iter().filter(|pod| !(is_terminal(pod) && is_going(&***pod))) {
        if let Some(node) = pod::target(pod) {
            by_node.entry(node.to_owned()).or_default().push(pod.clone());
        }
    }
    by_node
}

fn sooner(a: Next, b: Next) -> Next {
    match (a, b) {
        (Next::After(a), Next::After(b)) => Next::After(a.min(b)),
        (Next::Settled, next) | (next, Next::Settled) => next,
    }
}
