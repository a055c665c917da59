//! Nodes that are not there: pods are bound and said to be as kubelets would say it.
//!
//! How a pod does is told by its first container's image: `slow:N` is ready after N seconds, `stuck` never is, `crash` fails,
//! `done` succeeds; any other is ready at once. Pods that are deleted go after the annotation `test/grace` in seconds.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kiln_apimachinery::{meta, time};
use kiln_client::{Change, Client, ClientError, Clock, Informer, ListParams, ObjectRef, PatchKind, WorkQueue};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// How long a kubelet waits before it tries again.
const AGAIN: Duration = Duration::from_secs(1);

/// A scheduler that binds each pod to the next node, and kubelets that only say what kubelets say.
pub(crate) struct Kubelets {
    client: Client,
    clock: Clock,
    nodes: Vec<String>,
    next: AtomicUsize,
}

impl Kubelets {
    pub(crate) fn new(client: Client, clock: Clock, nodes: Vec<String>) -> Self {
        Self { client, clock, nodes, next: AtomicUsize::new(0) }
    }

    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let informer = Informer::<Value>::new(self.client.clone(), "/api/v1/pods", ListParams::default());
        let (queue, store) = (WorkQueue::<ObjectRef>::default(), informer.store());
        let tell = queue.clone();
        let mirror = informer.run(shutdown.clone(), move |change| {
            if let Change::Applied { key, .. } = change {
                tell.add(key.clone());
            }
        });
        let works = async {
            while let Some(key) = queue.next().await {
                if let Some(pod) = store.get(&key)
                    && let Some(again) = self.look(&pod).await
                {
                    queue.add_after(key.clone(), again);
                }
            }
        };
        tokio::select! {
            () = mirror => {}
            () = works => {}
        }
    }

    /// Does the next thing for a pod, or says when there will be one.
    async fn look(&self, pod: &Value) -> Option<Duration> {
        let path = format!("/api/v1/namespaces/{}/pods/{}", meta::namespace(pod), meta::name(pod));
        if meta::is_terminating(pod) {
            let grace = meta::annotation(pod, "test/grace").and_then(|text| text.parse().ok()).unwrap_or(0);
            if let Some(wait) = self.left(meta::text(pod, &["metadata", "deletionTimestamp"]), grace - 30) {
                return Some(wait);
            }
            let now = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": meta::uid(pod)}});
            return retry(self.client.delete(&path, &now).await);
        }
        if meta::text(pod, &["spec", "nodeName"]).is_empty() {
            let Some(node) = self.node_for(pod).await else {
                return (!self.nodes.is_empty()).then_some(AGAIN);
            };
            let binding = json!({"metadata": {"name": meta::name(pod)}, "target": {"kind": "Node", "name": node}});
            return retry(self.client.create::<Value>(&format!("{path}/binding"), &binding).await);
        }
        if meta::text(pod, &["status", "phase"]) != "Pending" && is_ready(pod) != Some(false) {
            return None;
        }
        let image = pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
        let started = meta::text(pod, &["status", "startTime"]);
        let now = time::rfc3339(self.clock.now());
        let since = if started.is_empty() { now.clone() } else { started.to_owned() };
        let (phase, ready, again) = match image.split_once(':') {
            Some(("slow", seconds)) => {
                let left = self.left(&since, seconds.parse().unwrap_or_default());
                ("Running", left.is_none(), left)
            }
            _ if image == "stuck" => ("Running", false, None),
            _ if image == "crash" => ("Failed", false, None),
            _ if image == "done" => ("Succeeded", false, None),
            _ => ("Running", true, None),
        };
        if meta::text(pod, &["status", "phase"]) == phase && is_ready(pod) == Some(ready) {
            return again;
        }
        let ready = json!({"type": "Ready", "status": if ready { "True" } else { "False" }, "lastTransitionTime": now});
        let status = json!({"phase": phase, "startTime": since, "conditions": [ready]});
        let path = format!("{path}/status");
        let told = self.client.patch::<Value>(&path, PatchKind::Strategic, &json!({"status": status})).await;
        retry(told).or(again)
    }

    /// The node that a pod asks for by its name, or the next one that is not cordoned.
    async fn node_for(&self, pod: &Value) -> Option<String> {
        let terms = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
        let named = pod.pointer(&format!("{terms}/0/matchFields/0/values/0")).and_then(Value::as_str);
        if let Some(name) = named {
            return Some(name.to_owned());
        }
        for _ in 0..self.nodes.len() {
            let next = self.next.fetch_add(1, Ordering::Relaxed);
            let name = &self.nodes[next % self.nodes.len()];
            let node = self.client.get::<Value>(&format!("/api/v1/nodes/{name}")).await.ok()?;
            if node["spec"]["unschedulable"] != true {
                return Some(name.clone());
            }
        }
        None
    }

    /// How long until so many seconds after a time.
    fn left(&self, since: &str, seconds: i64) -> Option<Duration> {
        let at = time::parse(since)? + jiff::SignedDuration::from_secs(seconds);
        let left = at.duration_since(self.clock.now());
        left.is_positive().then(|| left.unsigned_abs())
    }
}

/// When to try again what failed for a reason that may pass.
fn retry<T>(done: Result<T, ClientError>) -> Option<Duration> {
    done.is_err_and(|error| error.is_transient()).then_some(AGAIN)
}

fn is_ready(pod: &Value) -> Option<bool> {
    let conditions = pod["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == "Ready").map(|ready| ready["status"] == "True")
}
