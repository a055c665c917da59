//! Removes Pods that nobody else would: those of nodes that are gone, those that are to go and were never on a node, those that are to go
//! from a node that is out of service, and the oldest of very many that have ended.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kiln_client::{Change, Client, Clock, Informers, Object as _, ObjectRef, PatchKind, Store, WorkQueue, path};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::Context;
use crate::node_pods::{self, NODE, is_node_ready};
use crate::owned::{is_going, name, namespace};
use crate::pods::{is_terminal, node_name};
use crate::reconcile::{Failure, Next, work};
use crate::status_patch::unless_gone;

/// How long a node may be unknown before its Pods are given up.
const QUARANTINE: Duration = Duration::from_secs(40);
/// How long Pods that end are gathered before they are counted.
const GATHER: Duration = Duration::from_secs(20);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// What to look at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    /// A node that Pods are said to be on and that is not there.
    Unknown(String),
    /// A node that may be out of service.
    Node(String),
    /// A Pod that is to go and is on no node.
    Pod(ObjectRef),
    /// All that have ended.
    Ended,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(node) | Self::Node(node) => f.write_str(node),
            Self::Pod(pod) => pod.fmt(f),
            Self::Ended => f.write_str("all that have ended"),
        }
    }
}

/// Adds the controller to the mirrors; what is returned runs it until the shutdown. `kept`: so many Pods that have ended are
/// left, or all if that is 0.
pub fn build(informers: &mut Informers, context: &Context, kept: usize) -> impl Future<Output = ()> + use<> {
    let queue = WorkQueue::<Key>::default();
    let nodes = informers.of::<Node>();
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        clock: context.clock.clone(),
        kept,
        nodes: nodes.store(),
        pods: informers.of::<Pod>().store(),
    });
    informers.of::<Node>().subscribe({
        let queue = queue.clone();
        move |change| match change {
            Change::Applied { key, object, .. } if is_out_of_service(object) => queue.add(Key::Node(key.name.clone())),
            Change::Deleted { key, .. } => queue.add_after(Key::Unknown(key.name.clone()), QUARANTINE),
            _ => {}
        }
    });
    let pods = informers.of::<Pod>();
    node_pods::index(pods);
    pods.subscribe({
        let (queue, controller) = (queue.clone(), controller.clone());
        move |change| {
            if let Change::Applied { object, previous, .. } = change {
                controller.on_pod(object, previous.as_deref(), &queue);
            }
        }
    });
    let shutdown = context.shutdown.clone();
    async move {
        work("pod-gc", &queue, &shutdown, |key| controller.reconcile(key)).await;
    }
}

fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    !is_node_ready(node) && taints.into_iter().any(|taint| taint.key == OUT_OF_SERVICE)
}

struct Controller {
    client: Client,
    clock: Clock,
    kept: usize,
    nodes: Store<Node>,
    pods: Store<Pod>,
}

impl Controller {
    fn on_pod(&self, pod: &Pod, previous: Option<&Pod>, queue: &WorkQueue<Key>) {
        if is_terminal(pod) && previous.is_none_or(|previous| !is_terminal(previous)) {
            queue.add_after(Key::Ended, GATHER);
        }
        let node = node_name(pod);
        if node.is_empty() {
            if is_going(pod) {
                queue.add(Key::Pod(pod.key()));
            }
        } else if previous.is_none_or(|previous| node_name(previous).is_empty() || is_going(pod)) {
            match self.nodes.get(&ObjectRef::cluster(node)) {
                None => queue.add_after(Key::Unknown(node.to_owned()), QUARANTINE),
                Some(node) if is_going(pod) && is_out_of_service(&node) => queue.add(Key::Node(node.key().name)),
                Some(_) => {}
            }
        }
    }

    async fn reconcile(&self, key: Key) -> Result<Next, Failure> {
        tokio::join!(self.nodes.synced(), self.pods.synced());
        match key {
            Key::Unknown(node) => self.bury(&node).await?,
            Key::Node(node) => {
                let out = self.nodes.get(&ObjectRef::cluster(&*node)).is_some_and(|node| is_out_of_service(&node));
                for pod in self.pods.by_index(NODE, &node).iter().filter(|pod| out && is_going(&***pod)) {
                    self.remove(pod, None).await?;
                }
            }
            Key::Pod(key) => {
                let pod = self.pods.get(&key).filter(|pod| is_going(&**pod) && node_name(pod).is_empty());
                if let Some(pod) = pod {
                    self.remove(&pod, None).await?;
                }
            }
            Key::Ended if self.kept == 0 => {}
            Key::Ended => {
                let mut ended: Vec<_> = self.pods.list().into_iter().filter(|pod| is_terminal(pod)).collect();
                let too_many = ended.len().saturating_sub(self.kept);
                if too_many > 0 {
                    ended.sort_by_key(|pod| (!is_evicted(pod), pod.metadata.creation_timestamp.clone(), pod.key()));
                }
                for pod in ended.iter().take(too_many) {
                    self.remove(pod, None).await?;
                }
            }
        }
        Ok(Next::Settled)
    }

    /// Removes the Pods of a node, if the server knows of no such node.
    async fn bury(&self, node: &str) -> Result<(), Failure> {
        let here = self.nodes.get(&ObjectRef::cluster(node)).is_some();
        if here || self.client.find::<IgnoredAny>(&path::<Node>("", node)).await?.is_some() {
            return Ok(());
        }
        for pod in self.pods.by_index(NODE, node) {
            let condition = json!({
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "DeletionByPodGC",
                "message": "PodGC: node no longer exists",
                "lastTransitionTime": self.clock.now().to_string(),
            });
            self.remove(&pod, Some(condition)).await?;
        }
        Ok(())
    }

    /// Marks a Pod as failed, if it has not ended, since no kubelet will, and deletes it at once.
    async fn remove(&self, pod: &Pod, condition: Option<Value>) -> Result<(), Failure> {
        let path = path::<Pod>(namespace(pod), name(pod));
        if !is_terminal(pod) {
            let mut patch = json!({"metadata": {"uid": pod.uid()}, "status": {"phase": "Failed"}});
            if let Some(condition) = condition {
                patch["status"]["conditions"] = json!([condition]);
            }
            let status = format!("{path}/status");
            match self.client.patch::<IgnoredAny>(&status, PatchKind::Strategic, &patch).await {
                Err(error) if error.is_not_found() || error.is_conflict() => return Ok(()),
                marked => _ = marked?,
            }
        }
        let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": pod.uid()}});
        unless_gone(self.client.delete(&path, &options).await)
    }
}

fn is_evicted(pod: &Pod) -> bool {
    pod.status
        .as_ref()
        .is_some_and(|status| status.phase.as_deref() == Some("Failed") && status.reason.as_deref() == Some("Evicted"))
}
