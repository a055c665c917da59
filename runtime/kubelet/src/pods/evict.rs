//! Ends pods when the machine runs short: the hooks by which [`crate::eviction`] sees pods and ends them.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kiln_apimachinery::time;
use kiln_client::{BoxFuture, path};
use serde_json::{Value, json};

use super::events::About;
use super::manager::Node;
use super::slot::{self, Slot, ending};
use super::status::is_terminal;
use super::uid;
use crate::eviction::{EVICTED, Evicted, Hooks};

/// How long a pod that is ended is waited for before the machine is looked at again.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(500);

/// The hooks of this node.
pub(crate) fn hooks(node: &Arc<Node>) -> Hooks {
    let (pods, evict, tell) = (node.clone(), node.clone(), node.clone());
    Hooks {
        pods: Arc::new(move || {
            let current = pods.pods.all().into_iter().map(|slot| slot.current());
            let running = current.filter(|current| {
                let phase = current.status.as_ref().and_then(|status| status.phase.as_deref());
                current.admitted && !ending(current) && !is_terminal(phase)
            });
            running.map(|current| current.pod).collect()
        }),
        evict: Arc::new(move |evicted| {
            let node = evict.clone();
            Box::pin(async move { end(&node, evicted).await }) as BoxFuture<'static, ()>
        }),
        clear_up: Arc::new(|| Box::pin(std::future::ready(()))),
        tell: Arc::new(move |message| {
            let node = tell.clone();
            tokio::spawn(async move { tell_node(&node, &message).await });
        }),
    }
}

async fn end(node: &Node, evicted: Evicted) {
    let Some(slot) = node.pods.slot(uid(&evicted.pod)) else { return };
    tracing::warn!(pod = slot.uid, why = evicted.message, "the pod is ended");
    node.pods.metrics().evicted(evicted.signal);
    node.recorder.warning(&evicted.pod, About::Pod, EVICTED, evicted.message.clone());
    slot.change(|current| {
        current.eviction = Some(slot::Eviction {
            reason: EVICTED.to_owned(),
            disruption: evicted.disruption.then(|| evicted.message.clone()),
            message: evicted.message,
            grace: Some(evicted.grace),
        });
    });
    _ = tokio::time::timeout(PATIENCE, gone(&slot)).await;
}

/// What the runtime has is known by looking at it.
async fn gone(slot: &Slot) {
    while slot.current().view.running().next().is_some() {
        tokio::time::sleep(LOOK).await;
    }
}

async fn tell_node(node: &Node, message: &str) {
    let now = Timestamp::now();
    let event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": format!("{}.{:x}", node.name, now.as_nanosecond()), "namespace": "default"},
        "involvedObject": {"kind": "Node", "name": node.name, "uid": node.name},
        "reason": "EvictionThresholdMet",
        "message": message,
        "source": {"component": "kubelet", "host": node.name},
        "firstTimestamp": time::rfc3339(now),
        "lastTimestamp": time::rfc3339(now),
        "count": 1,
        "type": "Warning",
        "eventTime": null,
        "reportingComponent": "kubelet",
        "reportingInstance": node.name,
    });
    if let Err(error) = node.client.create::<Value>(&path::<Event>("default", ""), &event).await {
        tracing::debug!(%error, "an event was refused");
    }
}
