//! What is told of Nodes, in the words of Kubernetes.

use k8s_openapi::api::core::v1::Node;
use kiln_client::Object as _;

use crate::events::regarding;
use crate::{EventKind, Recorder};

/// Tells that something happened to a Node.
pub(crate) fn happened(recorder: &Recorder, node: &Node, reason: &str, what: &str) {
    tell(recorder, node, reason, format!("Node {} event: {what}", node.key().name));
}

/// Tells what a Node's status is now.
pub(crate) fn status(recorder: &Recorder, node: &Node, status: &str) {
    tell(recorder, node, status, format!("Node {} status is now: {status}", node.key().name));
}

fn tell(recorder: &Recorder, node: &Node, reason: &str, text: String) {
    let mut about = regarding(node);
    // It is about the Node in whatever state; so each telling counts as one of the same.
    about.resource_version = None;
    recorder.tell(about, EventKind::Normal, reason, text);
}
