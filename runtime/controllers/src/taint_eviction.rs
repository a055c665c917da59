//! Evicts Pods from nodes with `NoExecute` taints that they do not tolerate, or tolerate for some time only.
//!
//! In come changes of nodes' taints and of Pods' tolerations and nodes. A Pod's time runs from when the taints were first seen here;
//! it is forgotten when the taints go. Out go a condition that says why, and the delete.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use kiln_client::{Change, Client, Clock, Informers, Object as _, ObjectRef, PatchKind, Store, WorkQueue, path};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::events::regarding;
use crate::node_pods::{self, NODE};
use crate::owned::is_going;
use crate::pods::node_name;
use crate::reconcile::{Failure, Next, work};
use crate::status_patch::unless_gone;
use crate::{Context, EventKind, Recorder};

/// Adds the controller to the mirrors; what is returned runs it until the shutdown.
pub fn build(informers: &mut Informers, context: &Context) -> impl Future<Output = ()> + use<> {
    let queue = WorkQueue::<ObjectRef>::default();
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        clock: context.clock.clone(),
        recorder: context.events.recorder("taint-eviction-controller"),
        nodes: informers.of::<Node>().store(),
        pods: informers.of::<Pod>().store(),
        due: Mutex::default(),
    });
    informers.of::<Node>().subscribe({
        let (queue, pods) = (queue.clone(), controller.pods.clone());
        move |change| {
            let (key, changed) = match change {
                Change::Applied { key, object, previous } => {
                    let before = previous.as_ref().map(|previous| evicting(previous)).unwrap_or_default();
                    (key, evicting(object) != before)
                }
                Change::Deleted { key, object } => (key, !evicting(object).is_empty()),
                Change::Synced => return,
            };
            if changed {
                pods.by_index(NODE, &key.name).iter().for_each(|pod| queue.add(pod.key()));
            }
        }
    });
    let pods = informers.of::<Pod>();
    node_pods::index(pods);
    pods.subscribe({
        let (queue, controller) = (queue.clone(), controller.clone());
        move |change| controller.on_pod(change, &queue)
    });
    let shutdown = context.shutdown.clone();
    async move {
        work("taint-eviction", &queue, &shutdown, |key| controller.reconcile(key)).await;
    }
}

/// The taints of a node that evict.
fn evicting(node: &Node) -> Vec<Taint> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.filter(|taint| taint.effect == "NoExecute").cloned().collect()
}

/// How long Pods with these tolerations may stay.
#[derive(Debug, PartialEq, Eq)]
enum Stay {
    Forever,
    For(Duration),
}

fn stay(taints: &[Taint], tolerations: &[Toleration]) -> Stay {
    let mut least = None;
    for taint in taints {
        let Some(toleration) = tolerations.iter().find(|toleration| tolerates(toleration, taint)) else {
            return Stay::For(Duration::ZERO);
        };
        if let Some(seconds) = toleration.toleration_seconds {
            let time = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            least = Some(least.map_or(time, |known: Duration| known.min(time)));
        }
    }
    least.map_or(Stay::Forever, Stay::For)
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let of = |text: &Option<String>| text.clone().unwrap_or_default();
    let (effect, key) = (of(&toleration.effect), of(&toleration.key));
    if !(effect.is_empty() || effect == taint.effect) || !(key.is_empty() || key == taint.key) {
        return false;
    }
    match of(&toleration.operator).as_str() {
        "" | "Equal" => of(&toleration.value) == of(&taint.value),
        "Exists" => true,
        _ => false,
    }
}

struct Controller {
    client: Client,
    clock: Clock,
    recorder: Recorder,
    nodes: Store<Node>,
    pods: Store<Pod>,
    /// When Pods are evicted that may stay for some time.
    due: Mutex<HashMap<ObjectRef, Instant>>,
}

impl Controller {
    fn due(&self) -> MutexGuard<'_, HashMap<ObjectRef, Instant>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on_pod(&self, change: &Change<Pod>, queue: &WorkQueue<ObjectRef>) {
        match change {
            Change::Synced => {}
            Change::Applied { key, object, previous } => {
                let tolerations = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.tolerations.clone());
                let same = previous.as_ref().is_some_and(|previous| {
                    node_name(previous) == node_name(object) && tolerations(previous) == tolerations(object)
                });
                let node = || self.nodes.get(&ObjectRef::cluster(node_name(object)));
                // Before the first list of nodes is in, nothing is known of any; the node will lead to the Pod.
                if !same && node().is_some_and(|node| !evicting(&node).is_empty()) {
                    queue.add(key.clone());
                }
            }
            Change::Deleted { key, .. } => self.cancel(key),
        }
    }

    async fn reconcile(&self, key: ObjectRef) -> Result<Next, Failure> {
        tokio::join!(self.nodes.synced(), self.pods.synced());
        let Some(pod) = self.pods.get(&key).filter(|pod| !is_going(&**pod)) else {
            self.due().remove(&key);
            return Ok(Next::Settled);
        };
        let node = self.nodes.get(&ObjectRef::cluster(node_name(&pod)));
        let taints = node.map(|node| evicting(&node)).unwrap_or_default();
        let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
        let left = match stay(&taints, tolerations) {
            Stay::Forever => {
                self.cancel(&key);
                return Ok(Next::Settled);
            }
            Stay::For(Duration::ZERO) => Duration::ZERO,
            Stay::For(time) => {
                let now = Instant::now();
                *self.due().entry(key.clone()).or_insert(now + time) - now
            }
        };
        if !left.is_zero() {
            return Ok(Next::After(left));
        }
        self.evict(&key, &pod).await?;
        self.due().remove(&key);
        Ok(Next::Settled)
    }

    /// Forgets that a Pod was to go.
    fn cancel(&self, key: &ObjectRef) {
        if self.due().remove(key).is_some() {
            self.tell(key, format!("Cancelling deletion of Pod {key}"));
        }
    }

    fn tell(&self, key: &ObjectRef, message: String) {
        let mut about = regarding(&Pod::default());
        about.name = Some(key.name.clone());
        about.namespace = Some(key.namespace.clone());
        (about.uid, about.resource_version) = (None, None);
        self.recorder.tell(about, EventKind::Normal, "TaintManagerEviction", message);
    }

    async fn evict(&self, key: &ObjectRef, pod: &Pod) -> Result<(), Failure> {
        self.tell(key, format!("Marking for deletion Pod {key}"));
        let condition = json!({
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": self.clock.now().to_string(),
        });
        let patch = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]}});
        let path = path::<Pod>(&key.namespace, &key.name);
        match self.client.patch::<IgnoredAny>(&format!("{path}/status"), PatchKind::Strategic, &patch).await {
            Err(error) if error.is_not_found() || error.is_conflict() => return Ok(()),
            marked => _ = marked?,
        }
        unless_gone(self.client.delete(&path, &Value::Null).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_stay_as_long_as_they_tolerate_every_taint() {
        let taint = |key: &str, value: &str| json!({"key": key, "value": value, "effect": "NoExecute"});
        let forever = json!({"key": "k", "operator": "Exists", "effect": "NoExecute"});
        let hour =
            json!({"key": "k", "operator": "Equal", "value": "v", "effect": "NoExecute", "tolerationSeconds": 3600});
        let minute = json!({"key": "l", "operator": "Exists", "tolerationSeconds": 60});
        let (no, at_once) = (json!([]), Stay::For(Duration::ZERO));
        let rows = [
            (json!([taint("k", "v")]), no, at_once),
            (json!([taint("k", "v")]), json!([forever]), Stay::Forever),
            (json!([taint("k", "v")]), json!([hour]), Stay::For(Duration::from_secs(3600))),
            (json!([taint("k", "w")]), json!([hour]), Stay::For(Duration::ZERO)),
            (json!([taint("k", "v"), taint("l", "")]), json!([hour, minute]), Stay::For(Duration::from_secs(60))),
            (json!([taint("k", "v"), taint("l", "")]), json!([hour]), Stay::For(Duration::ZERO)),
            (json!([taint("k", "v")]), json!([{"operator": "Exists"}]), Stay::Forever),
            (
                json!([taint("k", "v")]),
                json!([{"key": "k", "operator": "Exists", "effect": "NoSchedule"}]),
                Stay::For(Duration::ZERO),
            ),
            (
                json!([taint("k", "v")]),
                json!([{"key": "k", "operator": "Exists", "tolerationSeconds": -5}]),
                Stay::For(Duration::ZERO),
            ),
        ];
        for (taints, tolerations, expected) in rows {
            let taints: Vec<Taint> = serde_json::from_value(taints).unwrap();
            let parsed: Vec<Toleration> = serde_json::from_value(tolerations.clone()).unwrap();
            assert_eq!(stay(&taints, &parsed), expected, "{tolerations}");
        }
    }
}
