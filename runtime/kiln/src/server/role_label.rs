//! Marks the server's node as the control plane, which it may not do itself: `kubectl get nodes` shows it as its role.

use std::sync::Arc;

use kiln_client::{Client, Informer, ListParams, PatchKind};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

const NODES: &str = "/api/v1/nodes";
const LABEL: &str = "node-role.kubernetes.io/control-plane";

/// Keeps the label on the node of this name, whenever there is one, until the shutdown.
pub(super) async fn run(client: Client, name: String, shutdown: CancellationToken) {
    let params = ListParams { fields: format!("metadata.name={name}"), ..ListParams::default() };
    let informer = Informer::new(client.clone(), NODES, params);
    let (store, changed) = (informer.store(), Arc::new(Notify::new()));
    let tell = Arc::clone(&changed);
    tokio::select! {
        () = informer.run(shutdown, move |_| tell.notify_one()) => {}
        () = async {
            loop {
                changed.notified().await;
                for node in store.list() {
                    label(&client, &name, &node).await;
                }
            }
        } => {}
    }
}

async fn label(client: &Client, name: &str, node: &Value) {
    if node["metadata"]["labels"][LABEL].is_string() {
        return;
    }
    let patch = json!({ "metadata": { "labels": { LABEL: "" } } });
    if let Err(error) = client.patch::<Value>(&format!("{NODES}/{name}"), PatchKind::Merge, &patch).await {
        // The node changes often enough for the next attempt to come soon.
        tracing::debug!(%error, "the node can't be labelled");
    }
}
