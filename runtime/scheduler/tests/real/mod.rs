//! The real API server, in memory, with the scheduler; nodes are made by hand, and nobody runs pods.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part of it, and a failed step fails the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kiln_apiserver::{ApiServer, UserInfo};
use kiln_client::{
    Body, BoxFuture, Client, ClientError, Clock, Informers, ListParams, PatchKind, Transport, WatchEvent,
};
use kiln_scheduler::{Config, Scheduler};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/default/events";

struct InProcess {
    server: ApiServer,
    user: UserInfo,
    /// How many bindings are lost on their way.
    lost_bindings: Arc<AtomicUsize>,
    /// How many requests were no GET.
    writes: Arc<AtomicUsize>,
}

impl Transport for InProcess {
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Body>, ClientError>> {
        Box::pin(async move {
            if request.method() != http::Method::GET {
                self.writes.fetch_add(1, Ordering::SeqCst);
            }
            let is_binding = request.uri().path().ends_with("/binding");
            let fewer = |left: usize| left.checked_sub(1);
            if is_binding && self.lost_bindings.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer).is_ok() {
                return Err(ClientError::Connect { server: "the API".to_owned(), why: "broken pipe".to_owned() });
            }
            Ok(self.server.call(self.user.clone(), request).await)
        })
    }
}

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) client: Client,
    /// How many of the scheduler's next bindings are lost on their way.
    pub(crate) lost_bindings: Arc<AtomicUsize>,
    /// How many writes the scheduler has asked for.
    pub(crate) writes: Arc<AtomicUsize>,
    shutdown: CancellationToken,
    _end: DropGuard,
}

impl World {
    /// With the default profile.
    pub(crate) async fn new() -> Self {
        Self::with(&Config::new()).await
    }

    pub(crate) async fn with(config: &Config) -> Self {
        let server = ApiServer::build(kiln_apiserver::Config::default(), kiln_storage::memory::open()).await.unwrap();
        let shutdown = CancellationToken::new();
        let lost_bindings = Arc::new(AtomicUsize::new(0));
        let writes = Arc::new(AtomicUsize::new(0));
        let as_user = |user, writes: &Arc<AtomicUsize>| {
            let (lost_bindings, writes) = (Arc::clone(&lost_bindings), Arc::clone(writes));
            Client::new(InProcess { server: server.clone(), user, lost_bindings, writes })
        };
        let client = as_user(UserInfo::system("test"), &Arc::default());
        // The scheduler has the rights that Kubernetes gives it, and no others.
        let own = as_user(UserInfo::new("system:kube-scheduler", &[]), &writes);
        let mut informers = Informers::new(own.clone());
        let scheduler = Scheduler::new(own, config, &mut informers, Clock::system());
        tokio::spawn(informers.run(shutdown.clone()));
        tokio::spawn(scheduler.run(shutdown.clone()));
        Self { client, lost_bindings, writes, _end: shutdown.clone().drop_guard(), shutdown }
    }

    /// Makes a node with so much, ready for pods.
    pub(crate) async fn node(&self, name: &str, labels: Value, has: Value) {
        let mut labels = labels;
        labels["kubernetes.io/hostname"] = json!(name);
        let mut has = has;
        has["pods"] = json!("110");
        let node = json!({
            "metadata": {"name": name, "labels": labels},
            "status": {"allocatable": has, "capacity": has},
        });
        self.client.create::<Value>("/api/v1/nodes", &node).await.unwrap();
        // What a new node has until its kubelet is ready.
        let bare = json!({"spec": {"taints": null}});
        self.client.patch::<Value>(&format!("/api/v1/nodes/{name}"), PatchKind::Merge, &bare).await.unwrap();
    }

    /// A node with four processors.
    pub(crate) async fn four(&self, name: &str) {
        self.node(name, json!({}), json!({"cpu": "4", "memory": "8Gi"})).await;
    }

    pub(crate) async fn make(&self, collection: &str, object: Value) -> Value {
        self.client.create(collection, &object).await.unwrap()
    }

    /// Makes a pod of one container that asks for this, with further fields of the spec.
    pub(crate) async fn pod(&self, name: &str, requests: Value, further: Value) -> Value {
        self.make(PODS, pod(name, requests, further)).await
    }

    pub(crate) async fn change(&self, path: &str, patch: Value) {
        self.client.patch::<Value>(path, PatchKind::Merge, &patch).await.unwrap();
    }

    pub(crate) async fn delete(&self, path: &str) {
        self.client.delete(path, &json!({"gracePeriodSeconds": 0})).await.unwrap();
    }

    /// Waits until the object of this name is as wanted; with `None` once it is gone.
    pub(crate) async fn until(
        &self,
        collection: &str,
        name: &str,
        wanted: impl Fn(Option<&Value>) -> bool,
    ) -> Option<Value> {
        let by_name = ListParams { fields: format!("metadata.name={name}"), ..ListParams::default() };
        self.until_any(collection, &by_name, wanted).await
    }

    async fn until_any(
        &self,
        collection: &str,
        params: &ListParams,
        wanted: impl Fn(Option<&Value>) -> bool,
    ) -> Option<Value> {
        let mut seen = Value::Null;
        let waiting = async {
            let list = self.client.list::<Value>(collection, params).await.unwrap();
            let mut objects = list.items.into_iter();
            let mut object = objects.next();
            let mut changes = self.client.watch(collection, params, &list.resource_version, PATIENCE).await.unwrap();
            while !wanted(object.as_ref()) {
                object = match objects.next() {
                    Some(object) => Some(object),
                    None => match changes.next().await.unwrap().unwrap() {
                        WatchEvent::Added(o) | WatchEvent::Modified(o) => Some(o),
                        WatchEvent::Deleted(_) => None,
                        WatchEvent::Bookmark(_) => object,
                    },
                };
                seen = object.clone().unwrap_or_default();
            }
            object
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        waited.unwrap_or_else(|_| panic!("{collection} {params:?} never became what it should, but {seen}"))
    }

    /// Waits until a pod has a node; answers its name.
    pub(crate) async fn node_of(&self, pod: &str) -> String {
        let has_node = |pod: Option<&Value>| pod.is_some_and(|pod| pod["spec"]["nodeName"].is_string());
        let pod = self.until(PODS, pod, has_node).await.unwrap();
        pod["spec"]["nodeName"].as_str().unwrap().to_owned()
    }

    /// Waits until a pod is told why it has no node; answers what.
    pub(crate) async fn refusal_of(&self, pod: &str) -> String {
        let told = |pod: Option<&Value>| pod.is_some_and(|pod| condition(pod, "PodScheduled")["status"] == "False");
        let pod = self.until(PODS, pod, told).await.unwrap();
        condition(&pod, "PodScheduled")["message"].as_str().unwrap().to_owned()
    }

    /// Waits until a pod's refusal is just this.
    pub(crate) async fn refused_with(&self, pod: &str, message: &str) {
        let told = |pod: Option<&Value>| pod.is_some_and(|pod| condition(pod, "PodScheduled")["message"] == message);
        self.until(PODS, pod, told).await;
    }

    /// Waits for an event of this reason about a pod; answers what it says.
    pub(crate) async fn event(&self, pod: &str, reason: &str) -> Value {
        let about = |event: Option<&Value>| {
            event.is_some_and(|event| event["regarding"]["name"] == pod && event["reason"] == reason)
        };
        self.until_any(EVENTS, &ListParams::default(), about).await.unwrap()
    }
}

/// A pod of one container that asks for this, with further fields of the spec.
pub(crate) fn pod(name: &str, requests: Value, further: Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": name, "labels": {"name": name}},
        "spec": {"containers": [{"name": "c", "image": "pause", "resources": {"requests": requests}}]},
    });
    for (key, value) in further.as_object().into_iter().flatten() {
        pod["spec"][key] = value.clone();
    }
    pod
}

pub(crate) fn condition<'a>(pod: &'a Value, kind: &str) -> &'a Value {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}
