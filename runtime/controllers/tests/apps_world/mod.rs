//! A cluster for workloads: the real API server in memory, controllers, and simulated [`kubelets`]. All on a clock that can be
//! paused, so that minutes pass at once.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part of it, and a failed step fails the test")]

mod kubelets;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kiln_client::{ListParams, PatchKind, WatchEvent};
use serde_json::{Value, json};

pub(crate) use crate::real::World;
use kubelets::Kubelets;

pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
pub(crate) const SETS: &str = "/apis/apps/v1/namespaces/default/replicasets";
pub(crate) const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

/// Nodes `n1` and so on, with their scheduler and kubelets.
pub(crate) async fn start_nodes(world: &World, count: usize) {
    for n in 1..=count {
        add_node(world, &format!("n{n}")).await;
    }
    let names = (1..=count).map(|n| format!("n{n}")).collect();
    let kubelets = Kubelets::new(world.client.clone(), world.clock.clone(), names);
    tokio::spawn(kubelets.run(world.shutdown.clone()));
}

pub(crate) async fn add_node(world: &World, name: &str) {
    let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    world.client.create::<Value>("/api/v1/nodes", &node).await.unwrap();
    let status = json!({"status": node["status"]});
    world.client.patch::<Value>(&format!("/api/v1/nodes/{name}/status"), PatchKind::Merge, &status).await.unwrap();
    // A new node is tainted until it is ready; taking that off is another controller's part.
    world.patch(&format!("/api/v1/nodes/{name}"), json!({"spec": {"taints": null}})).await;
}

/// Lets the paused time pass.
pub(crate) async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

impl World {
    pub(crate) async fn create(&self, collection: &str, object: Value) -> Value {
        self.client.create(collection, &object).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.client.get(path).await.unwrap()
    }

    /// Changes an object by a merge patch.
    pub(crate) async fn patch(&self, path: &str, patch: Value) -> Value {
        self.client.patch(path, PatchKind::Merge, &patch).await.unwrap()
    }

    pub(crate) async fn list(&self, collection: &str, labels: &str) -> Vec<Value> {
        let params = ListParams { labels: labels.to_owned(), ..ListParams::default() };
        self.client.list::<Value>(collection, &params).await.unwrap().items
    }

    /// Waits until an object is as wanted, and answers it.
    pub(crate) async fn becomes(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let (collection, name) = path.rsplit_once('/').unwrap();
        self.until(collection, name, |object| object.is_some_and(&wanted)).await.unwrap()
    }

    /// Reasons and messages of the events about objects of a kind, in the order of their reasons and messages.
    pub(crate) async fn events(&self, kind: &str) -> Vec<(String, String)> {
        let fields = format!("involvedObject.kind={kind}");
        let params = ListParams { fields, ..ListParams::default() };
        let events = self.client.list::<Value>("/api/v1/events", &params).await.unwrap().items;
        let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
        let mut told: Vec<_> = events.iter().map(|event| (text(event, "reason"), text(event, "message"))).collect();
        told.sort();
        told
    }

    /// Counts the changes of a collection from now on, until the answer is dropped.
    pub(crate) async fn count_changes(&self, collection: &str) -> Arc<AtomicUsize> {
        let none = ListParams::default();
        let list = self.client.list::<Value>(collection, &none).await.unwrap();
        let mut watch = self
            .client
            .watch::<Value>(collection, &none, &list.resource_version, Duration::from_secs(1_000_000))
            .await
            .unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let counts = count.clone();
        tokio::spawn(async move {
            while let Ok(Some(event)) = watch.next().await {
                if !matches!(event, WatchEvent::Bookmark(_)) {
                    counts.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        count
    }
}
