//! Takes the Pods of a node that is not ready out of service: they are no longer ready, so that no Service leads to them.

use std::future::Future;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use kiln_client::{
    Change, Client, Clock, Informer, Informers, Object as _, ObjectRef, PatchKind, Store, WorkQueue, path,
};
use serde::de::IgnoredAny;
use serde_json::json;

use crate::owned::{name, namespace};
use crate::pods::{is_ready, node_name};
use crate::reconcile::{Failure, Next, work};
use crate::status_patch::unless_gone;
use crate::{Context, Recorder};

/// The index of Pods by the nodes that they are on.
pub(crate) const NODE: &str = "node";

/// Has the mirror of Pods find them by their node.
pub(crate) fn index(pods: &mut Informer<Pod>) {
    pods.index(NODE, |pod| {
        Some(node_name(pod)).filter(|node| !node.is_empty()).map(str::to_owned).into_iter().collect()
    });
}

/// Whether a node says that it is ready.
pub(crate) fn is_node_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Adds the controller to the mirrors; what is returned runs it until the shutdown.
pub fn build(informers: &mut Informers, context: &Context) -> impl Future<Output = ()> + use<> {
    let queue = WorkQueue::<ObjectRef>::default();
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        clock: context.clock.clone(),
        recorder: context.events.recorder("node-controller"),
        nodes: informers.of::<Node>().store(),
        pods: informers.of::<Pod>().store(),
    });
    informers.of::<Node>().subscribe({
        let (queue, controller) = (queue.clone(), controller.clone());
        move |change| {
            if let Change::Applied { key, object, previous } = change {
                let failed =
                    previous.as_ref().is_some_and(|previous| is_node_ready(previous)) && !is_node_ready(object);
                if failed {
                    let message = format!("Node {} status is now: NodeNotReady", key.name);
                    controller.recorder.normal(&**object, "NodeNotReady", message);
                }
                // A node that has never said anything has nothing at work.
                let silent = object.status.as_ref().is_none_or(|status| status.conditions.is_none());
                if failed || (previous.is_none() && !silent && !is_node_ready(object)) {
                    queue.add(key.clone());
                }
            }
        }
    });
    let pods = informers.of::<Pod>();
    index(pods);
    pods.subscribe({
        let (queue, nodes) = (queue.clone(), controller.nodes.clone());
        move |change| {
            if let Change::Applied { object, previous, .. } = change {
                let node = ObjectRef::cluster(node_name(object));
                let came = previous.as_ref().is_none_or(|previous| node_name(previous) != node.name);
                if came && is_ready(object) && nodes.get(&node).is_some_and(|node| !is_node_ready(&node)) {
                    queue.add(node);
                }
            }
        }
    });
    let shutdown = context.shutdown.clone();
    async move {
        work("node-pods", &queue, &shutdown, |key| controller.reconcile(key)).await;
    }
}

struct Controller {
    client: Client,
    clock: Clock,
    recorder: Recorder,
    nodes: Store<Node>,
    pods: Store<Pod>,
}

impl Controller {
    async fn reconcile(&self, key: ObjectRef) -> Result<Next, Failure> {
        self.pods.synced().await;
        if self.nodes.get(&key).is_none_or(|node| is_node_ready(&node)) {
            return Ok(Next::Settled);
        }
        for pod in self.pods.by_index(NODE, &key.name).iter().filter(|pod| is_ready(pod)) {
            let ready = json!({"type": "Ready", "status": "False", "lastTransitionTime": self.clock.now().to_string()});
            let patch = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [ready]}});
            let path = format!("{}/status", path::<Pod>(namespace(&**pod), name(&**pod)));
            unless_gone(self.client.patch::<IgnoredAny>(&path, PatchKind::Strategic, &patch).await)?;
            self.recorder.warning(&**pod, "NodeNotReady", "Node is not ready");
        }
        Ok(Next::Settled)
    }
}
