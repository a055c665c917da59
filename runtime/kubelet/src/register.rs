//! Makes the machine a Node, or takes its Node over again.

use std::time::Duration;

use kiln_apimachinery::meta;
use kiln_client::{Backoff, ClientError, PatchKind};
use serde_json::{Value, json};

use crate::{Kubelet, NODES, Progress, node};

impl<T: Fn(Progress) + Send + Sync> Kubelet<T> {
    /// Tries until it succeeds; answers the Node's uid.
    pub(super) async fn register(&self) -> String {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(7));
        loop {
            match self.try_register().await {
                Ok(node) => return meta::uid(&node).to_owned(),
                Err(error) => {
                    tracing::warn!(node = self.config.node_name, %error, "cannot register; will try again");
                    (self.tell)(Progress::Failing(error.to_string()));
                    tokio::time::sleep(backoff.next_wait()).await;
                }
            }
        }
    }

    /// A Node of this name may be there: the board was restarted or flashed again. It is kept, with its pod network
    /// and what others have set on it.
    async fn try_register(&self) -> Result<Value, ClientError> {
        let path = format!("{NODES}/{}", self.config.node_name);
        let labels = node::labels(&self.config);
        let Some(known) = self.client.find::<Value>(&path).await? else {
            let status = self.status(&Value::Null);
            let taints = &self.config.taints;
            let spec = if taints.is_empty() { json!({}) } else { json!({ "taints": taints }) };
            let node = json!({
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": self.config.node_name, "labels": labels},
                "spec": spec,
                "status": status,
            });
            return self.client.create(NODES, &node).await;
        };
        let current = meta::labels(&known);
        if labels.iter().all(|(name, value)| current.get(name.as_str()) == Some(&value.as_str())) {
            return Ok(known);
        }
        self.client.patch(&path, PatchKind::Merge, &json!({"metadata": {"labels": labels}})).await
    }
}
