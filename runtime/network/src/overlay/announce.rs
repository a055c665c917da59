//! What this node tells the cluster about its end of the overlay: annotations for the other nodes, and a condition for the
//! scheduler.

use k8s_openapi::api::core::v1::Node;
use kiln_client::{Client, ClientError, Clock, PatchKind, path};
use serde_json::{Value, json};

use super::peer::Peer;

const CONDITION: &str = "NetworkUnavailable";

/// How the overlay is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// It does what it can.
    Up,
    /// Pods of this node cannot reach others, or not be reached: a reason in one word, and what is wrong.
    Down(&'static str, String),
}

impl State {
    fn condition(&self) -> (&str, &str, &str) {
        match self {
            Self::Up => ("False", "OverlayIsUp", "Kiln's overlay network is running on this node"),
            Self::Down(reason, message) => ("True", reason, message),
        }
    }
}

/// Writes the annotations, if the Node does not have them.
///
/// # Errors
/// When the API does not take them.
pub(super) async fn annotate(client: &Client, node: &Node, own: &Peer) -> Result<(), ClientError> {
    let mut annotations = own.annotations();
    let present = node.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|name, value| present.get(name).map(String::as_str) != value.as_str());
    if annotations.is_empty() {
        return Ok(());
    }
    let patch = json!({"metadata": {"annotations": annotations}});
    client.patch::<Value>(&path::<Node>("", &own.name), PatchKind::Merge, &patch).await.map(|_| ())
}

/// Writes the condition, if the Node does not have it. Answers whether it is news.
///
/// # Errors
/// When the API does not take it.
pub(super) async fn tell(client: &Client, node: &Node, state: &State, clock: &Clock) -> Result<bool, ClientError> {
    let (status, reason, message) = state.condition();
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let present = conditions.iter().find(|condition| condition.type_ == CONDITION);
    let is_so = present.is_some_and(|known| {
        known.status == status && known.reason.as_deref() == Some(reason) && known.message.as_deref() == Some(message)
    });
    if is_so {
        return Ok(false);
    }
    let now = clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut condition = json!({
        "type": CONDITION,
        "status": status,
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": now,
    });
    if present.is_none_or(|known| known.status != status) {
        condition["lastTransitionTime"] = now.into();
    }
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let patch = json!({"status": {"conditions": [condition]}});
    client.patch::<Value>(&format!("{}/status", path::<Node>("", name)), PatchKind::Strategic, &patch).await?;
    Ok(true)
}

/// Writes an event about this node. One that is lost is no loss: the condition says the same.
pub(super) async fn warn(client: &Client, node: &Node, state: &State, clock: &Clock) {
    let State::Down(reason, message) = state else { return };
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let now = clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": format!("{name}."), "namespace": "default"},
        "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": name, "uid": name},
        "type": "Warning",
        "reason": reason,
        "message": message,
        "source": {"component": "kiln-overlay", "host": name},
        "reportingComponent": "kiln-overlay",
        "reportingInstance": name,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    });
    if let Err(error) = client.create::<Value>("/api/v1/namespaces/default/events", &event).await {
        tracing::debug!(%error, "an event is lost");
    }
}
