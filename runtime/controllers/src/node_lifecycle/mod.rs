//! Notices nodes that fell silent, and taints nodes after their conditions.
//!
//! A node is heard when its Lease is renewed or its kubelet writes its conditions. How long ago that was is measured on
//! this machine from the moment the write was seen here, so that a node's wrong clock makes no difference.

mod taints;
mod zones;

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, NodeCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kiln_client::{
    Change, Client, Clock, Informer, Informers, ListParams, Object, ObjectRef, PatchKind, Store, WorkQueue,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use self::zones::{Verdict, Zones, is_ready};
use crate::node_events;
use crate::reconcile::{Failure, Next, work};
use crate::{Context, Recorder};

const NODES: &str = "/api/v1/nodes";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// Conditions that only the kubelet knows; nobody knows them while it is silent.
const CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// Makes the controller. `grace`: how long a node may be silent.
pub fn build(informers: &mut Informers, context: &Context, grace: Duration) -> impl Future<Output = ()> + Send + use<> {
    let Context { client, clock, shutdown, events } = context.clone();
    let leases = Informer::<Value>::new(client.clone(), LEASES, ListParams::default());
    let (queue, nodes) = (WorkQueue::default(), informers.of::<Node>());
    let controller = Arc::new(Controller {
        client,
        clock,
        grace,
        nodes: nodes.store(),
        heard: Mutex::default(),
        zones: Zones::default(),
        recorder: events.recorder("node-controller"),
    });
    nodes.subscribe({
        let (queue, controller) = (queue.clone(), controller.clone());
        move |change| match change {
            Change::Applied { key, object, previous } => {
                if previous.as_ref().is_none_or(|previous| heartbeat(previous) != heartbeat(object)) {
                    controller.hear(&key.name);
                }
                queue.add(key.clone());
                if previous.is_none() {
                    let what = format!("Registered Node {} in Controller", key.name);
                    node_events::happened(&controller.recorder, object, "RegisteredNode", &what);
                }
                // How many nodes are ready says what becomes of those that are not.
                if previous.as_ref().is_none_or(|previous| is_ready(previous) != is_ready(object)) {
                    controller
                        .nodes
                        .list()
                        .iter()
                        .filter(|node| !is_ready(node))
                        .for_each(|node| queue.add(node.key()));
                }
            }
            Change::Deleted { key, object } => {
                controller.forget(&key.name);
                let what = format!("Removing Node {} from Controller", key.name);
                node_events::happened(&controller.recorder, object, "RemovingNode", &what);
            }
            Change::Synced => {}
        }
    });
    async move {
        tokio::join!(
            leases.run(shutdown.clone(), |change| {
                if let Change::Applied { key, .. } = change {
                    controller.hear(&key.name);
                    queue.add(ObjectRef::cluster(key.name.as_str()));
                }
            }),
            work("node-lifecycle", &queue, &shutdown, |key| controller.reconcile(key)),
        );
    }
}

/// When the kubelet last wrote the Ready condition, as it says itself. The controller's own writes leave it alone.
fn heartbeat(node: &Node) -> Option<&Time> {
    condition(node, "Ready")?.last_heartbeat_time.as_ref()
}

fn conditions(node: &Node) -> &[NodeCondition] {
    node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default()
}

fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    conditions(node).iter().find(|condition| condition.type_ == kind)
}

struct Controller {
    client: Client,
    clock: Clock,
    grace: Duration,
    nodes: Store<Node>,
    /// When each node was last heard.
    heard: Mutex<HashMap<String, Instant>>,
    zones: Zones,
    recorder: Recorder,
}

impl Controller {
    fn heard(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, node: &str) {
        self.heard().insert(node.to_owned(), Instant::now());
    }

    fn forget(&self, node: &str) {
        self.heard().remove(node);
    }

    async fn reconcile(&self, key: ObjectRef) -> Result<Next, Failure> {
        let Some(node) = self.nodes.get(&key) else { return Ok(Next::Settled) };
        let heard = *self.heard().entry(key.name.clone()).or_insert_with(Instant::now);
        let left = self.grace.saturating_sub(heard.elapsed());
        let path = format!("{NODES}/{}", key.name);
        if left.is_zero() && condition(&node, "Ready").is_none_or(|ready| ready.status != "Unknown") {
            tracing::warn!(node = key.name, "the node has been silent for {} s", self.grace.as_secs());
            let patch = self.unknown(&node);
            self.client.patch::<Value>(&format!("{path}/status"), PatchKind::Merge, &patch).await?;
            if is_ready(&node) {
                node_events::status(&self.recorder, &node, "NodeNotReady");
            }
            // The taints follow when the mirror shows the new conditions.
            return Ok(Next::Settled);
        }
        let verdict = if taints::is_silent(&node) {
            self.nodes.synced().await;
            self.zones.judge(&node, taints::evicts(&node), &self.nodes.list())
        } else {
            Verdict::No
        };
        if let Some(taints) = taints::corrected(&node, &Time(self.clock.now()), verdict == Verdict::Yes) {
            // Null takes the field away.
            let taints = (!taints.is_empty()).then_some(taints);
            let patch = json!({
                "metadata": {"resourceVersion": node.resource_version()},
                "spec": {"taints": taints},
            });
            self.client.patch::<Value>(&path, PatchKind::Merge, &patch).await?;
        }
        let later = match verdict {
            Verdict::Later(wait) => Some(wait),
            Verdict::Yes | Verdict::No => None,
        };
        let left = Some(left).filter(|left| !left.is_zero());
        Ok(left.into_iter().chain(later).min().map_or(Next::Settled, Next::After))
    }

    /// A patch that makes the kubelet's conditions Unknown and leaves others alone.
    fn unknown(&self, node: &Node) -> Value {
        let mut all = conditions(node).to_vec();
        for kind in CONDITIONS {
            let mut unknown = NodeCondition {
                type_: kind.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusUnknown".to_owned()),
                message: Some("Kubelet stopped posting node status.".to_owned()),
                last_transition_time: Some(Time(self.clock.now())),
                last_heartbeat_time: None,
            };
            match all.iter_mut().find(|condition| condition.type_ == kind) {
                Some(known) => {
                    unknown.last_heartbeat_time = known.last_heartbeat_time.take();
                    *known = unknown;
                }
                None => {
                    unknown.reason = Some("NodeStatusNeverUpdated".to_owned());
                    unknown.message = Some("Kubelet never posted node status.".to_owned());
                    all.push(unknown);
                }
            }
        }
        json!({
            "metadata": {"resourceVersion": node.resource_version()},
            "status": {"conditions": all},
        })
    }
}
