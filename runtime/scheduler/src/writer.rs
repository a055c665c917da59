//! What the scheduler writes of a pod: one write at a time for each, the newest only, many pods at once.
//!
//! So a condition that says "no node" never overtakes the binding that came after it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kiln_client::{Client, ClientError, PatchKind, WorkQueue, path};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::model::{Name, Pod};

/// How many requests are under way at once.
const WORKERS: usize = 64;

/// Something to write of a pod.
pub(crate) enum Job {
    /// Changes its status.
    Status { namespace: String, name: String, status: Value },
    /// Binds it to its node.
    Bind(Arc<Pod>),
}

/// A binding that was carried out, or not.
pub(crate) struct Bound {
    pub(crate) pod: Arc<Pod>,
    /// Or why not.
    pub(crate) result: Result<(), String>,
}

/// Takes what is to be written. Cloning it is cheap.
#[derive(Clone)]
pub(crate) struct PodWriter {
    queue: WorkQueue<Name>,
    jobs: Arc<Mutex<HashMap<Name, Job>>>,
}

impl PodWriter {
    pub(crate) fn new() -> Self {
        Self { queue: WorkQueue::default(), jobs: Arc::default() }
    }

    /// Has something written of the pod of this uid, in place of what was to be written and is not yet under way.
    pub(crate) fn write(&self, uid: &Name, job: Job) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.clone(), job);
        self.queue.add(uid.clone());
    }

    /// Writes until the shutdown, telling of each binding. A write that is under way then is carried out.
    pub(crate) async fn run(self, client: Client, bound: mpsc::UnboundedSender<Bound>, shutdown: CancellationToken) {
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            workers.spawn(self.clone().work(client.clone(), bound.clone()));
        }
        shutdown.cancelled().await;
        self.queue.close();
        while workers.join_next().await.is_some() {}
    }

    async fn work(self, client: Client, bound: mpsc::UnboundedSender<Bound>) {
        while let Some(item) = self.queue.next().await {
            let job = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).remove(&*item);
            match job {
                None => {}
                Some(Job::Status { namespace, name, status }) => {
                    let path = format!("{}/status", path::<k8s_openapi::api::core::v1::Pod>(&namespace, &name));
                    let patch = json!({"metadata": {"uid": &**item}, "status": status});
                    match client.patch::<Value>(&path, PatchKind::Strategic, &patch).await {
                        Ok(_) => {}
                        Err(error) if error.is_not_found() || error.is_conflict() => {
                            tracing::debug!(namespace, name, %error, "the pod is gone");
                        }
                        Err(error) => tracing::warn!(namespace, name, %error, "a pod's status is not written"),
                    }
                }
                Some(Job::Bind(pod)) => {
                    let result = bind(&client, &pod)
                        .await
                        .map_err(|error| format!("running Bind plugin \"DefaultBinder\": {error}"));
                    // Without a listener the scheduler is at its end.
                    _ = bound.send(Bound { pod, result });
                }
            }
        }
    }
}

async fn bind(client: &Client, pod: &Pod) -> Result<(), ClientError> {
    let path = format!("{}/binding", path::<k8s_openapi::api::core::v1::Pod>(&pod.namespace, &pod.name));
    let binding = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"namespace": &*pod.namespace, "name": &*pod.name, "uid": &*pod.uid},
        "target": {"kind": "Node", "name": pod.node.as_deref()},
    });
    client.create::<serde::de::IgnoredAny>(&path, &binding).await.map(|_| ())
}
