//! Notices nodes that fell silent, and taints nodes after their conditions.
//!
//! A node is heard when its Lease is renewed or its kubelet writes its conditions. How long ago that was is measured on
//! this machine from the moment the write was seen here, so that a node's wrong clock makes no difference.

mod taints;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kiln_apimachinery::{meta, time};
use kiln_client::{Change, Client, Clock, Informer, ListParams, ObjectRef, PatchKind, Store, WorkQueue};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::reconcile::{Failure, Next, work};

/// How long a node may be silent.
pub const GRACE: Duration = Duration::from_secs(40);

const NODES: &str = "/api/v1/nodes";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// Conditions that only the kubelet knows; nobody knows them while it is silent.
const CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// Runs the controller until the shutdown.
pub async fn run(client: Client, clock: Clock, shutdown: CancellationToken) {
    let leases = Informer::new(client.clone(), LEASES, ListParams::default());
    let nodes = Informer::new(client.clone(), NODES, ListParams::default());
    let queue = WorkQueue::default();
    let controller = Controller { client, clock, nodes: nodes.store(), heard: Mutex::default() };
    tokio::join!(
        leases.run(shutdown.clone(), |change| {
            if let Change::Applied { key, .. } = change {
                controller.hear(&key.name);
                queue.add(ObjectRef::cluster(key.name.as_str()));
            }
        }),
        nodes.run(shutdown.clone(), |change| match change {
            Change::Applied { key, object, previous } => {
                if previous.as_ref().is_none_or(|previous| heartbeat(previous) != heartbeat(object)) {
                    controller.hear(&key.name);
                }
                queue.add(key.clone());
            }
            Change::Deleted { key, .. } => controller.forget(&key.name),
            Change::Synced => {}
        }),
        work("node-lifecycle", &queue, &shutdown, |key| controller.reconcile(key)),
    );
}

/// When the kubelet last wrote the Ready condition, as it says itself. The controller's own writes leave it alone.
fn heartbeat(node: &Value) -> &str {
    condition(node, "Ready").map_or("", |ready| meta::text(ready, &["lastHeartbeatTime"]))
}

fn condition<'a>(node: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = meta::at(node, &["status", "conditions"]).and_then(Value::as_array)?;
    conditions.iter().find(|condition| condition["type"] == kind)
}

struct Controller {
    client: Client,
    clock: Clock,
    nodes: Store,
    /// When each node was last heard.
    heard: Mutex<HashMap<String, Instant>>,
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
        let left = GRACE.saturating_sub(heard.elapsed());
        let path = format!("{NODES}/{}", key.name);
        if left.is_zero() && condition(&node, "Ready").is_none_or(|ready| ready["status"] != "Unknown") {
            tracing::warn!(node = key.name, "the node has been silent for {} s", GRACE.as_secs());
            let patch = self.unknown(&node);
            self.client.patch::<Value>(&format!("{path}/status"), PatchKind::Merge, &patch).await?;
            // The taints follow when the mirror shows the new conditions.
            return Ok(Next::Settled);
        }
        if let Some(taints) = taints::corrected(&node, &time::rfc3339(self.clock.now())) {
            // Null takes the field away.
            let taints = if taints.is_empty() { Value::Null } else { Value::Array(taints) };
            let patch = json!({
                "metadata": {"resourceVersion": meta::resource_version(&node)},
                "spec": {"taints": taints},
            });
            self.client.patch::<Value>(&path, PatchKind::Merge, &patch).await?;
        }
        Ok(if left.is_zero() { Next::Settled } else { Next::After(left) })
    }

    /// A patch that makes the kubelet's conditions Unknown and leaves others alone.
    fn unknown(&self, node: &Value) -> Value {
        let now = time::rfc3339(self.clock.now());
        let conditions = meta::at(node, &["status", "conditions"]).and_then(Value::as_array).cloned();
        let mut conditions = conditions.unwrap_or_default();
        for kind in CONDITIONS {
            let unknown = json!({
                "type": kind,
                "status": "Unknown",
                "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.",
                "lastTransitionTime": now,
            });
            match conditions.iter_mut().find(|condition| condition["type"] == kind) {
                Some(known) => {
                    let heartbeat = known.get("lastHeartbeatTime").cloned();
                    *known = unknown;
                    if let Some(heartbeat) = heartbeat {
                        known["lastHeartbeatTime"] = heartbeat;
                    }
                }
                None => {
                    let mut never = unknown;
                    never["reason"] = json!("NodeStatusNeverUpdated");
                    never["message"] = json!("Kubelet never posted node status.");
                    conditions.push(never);
                }
            }
        }
        json!({
            "metadata": {"resourceVersion": meta::resource_version(node)},
            "status": {"conditions": conditions},
        })
    }
}
