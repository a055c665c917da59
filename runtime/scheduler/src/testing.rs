//! Nodes and pods for the tests.

#![allow(clippy::unwrap_used, reason = "a test that can't make its objects fails")]

use std::cell::RefCell;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::model::{Node, Pod, Projector};

thread_local! {
    static PROJECTOR: RefCell<Projector> = RefCell::new(Projector::new());
}

/// A Node in the making.
pub(crate) struct NodeMaker(pub(crate) Value);

/// A node without anything.
pub(crate) fn node(name: &str) -> NodeMaker {
    NodeMaker(json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {"taints": []},
        "status": {"allocatable": {"pods": "110"}},
    }))
}

impl NodeMaker {
    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["labels"][key] = json!(value);
        self
    }

    pub(crate) fn has(mut self, resource: &str, amount: &str) -> Self {
        self.0["status"]["allocatable"][resource] = json!(amount);
        self
    }

    pub(crate) fn cpu(self, amount: &str) -> Self {
        self.has("cpu", amount)
    }

    pub(crate) fn memory(self, amount: &str) -> Self {
        self.has("memory", amount)
    }

    pub(crate) fn taint(mut self, key: &str, value: &str, effect: &str) -> Self {
        let taint = json!({"key": key, "value": value, "effect": effect});
        self.0["spec"]["taints"].as_array_mut().unwrap().push(taint);
        self
    }

    pub(crate) fn unschedulable(mut self) -> Self {
        self.0["spec"]["unschedulable"] = json!(true);
        self
    }

    pub(crate) fn image(mut self, name: &str, bytes: i64) -> Self {
        let images = &mut self.0["status"]["images"];
        if images.is_null() {
            *images = json!([]);
        }
        images.as_array_mut().unwrap().push(json!({"names": [name], "sizeBytes": bytes}));
        self
    }

    pub(crate) fn build(self) -> Arc<Node> {
        let node = serde_json::from_value(self.0).unwrap();
        Arc::new(PROJECTOR.with_borrow_mut(|projector| projector.node(&node)))
    }
}

/// A Pod in the making.
pub(crate) struct PodMaker(pub(crate) Value);

/// A pod with one container that asks for nothing, in the namespace `default`.
pub(crate) fn pod(name: &str) -> PodMaker {
    PodMaker(json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "labels": {}},
        "spec": {"schedulerName": "default-scheduler", "containers": [{"name": "c", "image": "pause"}]},
        "status": {},
    }))
}

impl PodMaker {
    /// Sets a field of the spec.
    pub(crate) fn spec(mut self, field: &str, value: Value) -> Self {
        self.0["spec"][field] = value;
        self
    }

    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["labels"][key] = json!(value);
        self
    }

    pub(crate) fn asks(mut self, resource: &str, amount: &str) -> Self {
        self.0["spec"]["containers"][0]["resources"]["requests"][resource] = json!(amount);
        self
    }

    pub(crate) fn cpu(self, amount: &str) -> Self {
        self.asks("cpu", amount)
    }

    pub(crate) fn memory(self, amount: &str) -> Self {
        self.asks("memory", amount)
    }

    pub(crate) fn on(self, node: &str) -> Self {
        self.spec("nodeName", json!(node))
    }

    pub(crate) fn priority(self, priority: i32) -> Self {
        self.spec("priority", json!(priority))
    }

    /// In another namespace.
    pub(crate) fn within(mut self, namespace: &str) -> Self {
        self.0["metadata"]["namespace"] = json!(namespace);
        self
    }

    pub(crate) fn terminating(mut self) -> Self {
        self.0["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        self
    }

    pub(crate) fn build(self) -> Arc<Pod> {
        let pod = serde_json::from_value(self.0).unwrap();
        Arc::new(PROJECTOR.with_borrow_mut(|projector| projector.pod(&pod)))
    }
}
