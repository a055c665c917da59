//! What is wrong with an Ingress, told by Events.
//!
//! All nodes see the same, so an Event's name is made of what it says: the first node to write it does, and the others find it there.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use k8s_openapi::api::networking::v1::Ingress;
use kiln_client::Client;
use serde_json::{Value, json};
use tokio::sync::Mutex;

/// Something wrong.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Problem {
    namespace: String,
    name: String,
    uid: String,
    reason: &'static str,
    message: String,
}

impl Problem {
    pub(super) fn new(ingress: &Ingress, reason: &'static str, message: String) -> Self {
        let meta = &ingress.metadata;
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            reason,
            message,
        }
    }

    fn event(&self, host: &str) -> Value {
        // The same on all nodes of one version; of two versions' nodes each may tell it once.
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"namespace": self.namespace, "name": format!("{}.{:016x}", self.name, hasher.finish())},
            "involvedObject": {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "Ingress",
                "namespace": self.namespace,
                "name": self.name,
                "uid": self.uid,
            },
            "type": "Warning",
            "reason": self.reason,
            "message": self.message,
            "source": {"component": "kiln-ingress", "host": host},
            "firstTimestamp": time,
            "lastTimestamp": time,
            "count": 1,
        })
    }
}

/// Tells problems.
pub(super) struct Events {
    client: Client,
    node: Arc<str>,
    /// What was told and is so still, by where it is found.
    told: Mutex<HashMap<&'static str, HashSet<Problem>>>,
}

impl Events {
    pub(super) fn new(client: Client, node: &str) -> Self {
        Self { client, node: node.into(), told: Mutex::default() }
    }

    /// These are the problems of this kind now: those that are new are told.
    pub(super) async fn tell(&self, kind: &'static str, problems: Vec<Problem>) {
        let problems: HashSet<Problem> = problems.into_iter().collect();
        let known = self.told.lock().await.insert(kind, problems.clone()).unwrap_or_default();
        let new: Vec<_> = problems.difference(&known).cloned().collect();
        if new.is_empty() {
            return;
        }
        let (client, node) = (self.client.clone(), self.node.clone());
        // Routing goes on meanwhile.
        tokio::spawn(async move {
            for problem in new {
                let Problem { namespace, name, message, .. } = &problem;
                tracing::warn!("ingress {namespace}/{name}: {message}");
                let path = format!("/api/v1/namespaces/{namespace}/events");
                match client.create::<Value>(&path, &problem.event(&node)).await {
                    Ok(_) => {}
                    Err(error) if error.is_already_exists() => {}
                    Err(error) => tracing::debug!(%error, "an event is not written"),
                }
            }
        });
    }
}
