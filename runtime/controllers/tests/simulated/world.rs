//! A cluster without nodes: the real API server in memory, and what tests do to it.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use kiln_apiserver::{ApiServer, Config, UserInfo};
use kiln_client::{Body, BoxFuture, Client, ClientError, Clock, Informers, ListParams, PatchKind, Transport};
use kiln_controllers::{Context, alone};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::bad_line::BadLine;
use crate::jumping::Jumps;

/// The time that all tests begin at.
pub(crate) const START: &str = "2026-03-01T12:00:00Z";

struct InProcess(ApiServer);

impl Transport for InProcess {
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Body>, ClientError>> {
        Box::pin(async move { Ok(self.0.call(UserInfo::system("test"), request).await) })
    }
}

pub(crate) struct World {
    server: ApiServer,
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    pub(crate) jumps: Jumps,
    pub(crate) shutdown: CancellationToken,
    _end: DropGuard,
}

impl World {
    pub(crate) async fn new() -> Self {
        let jumps = Jumps::default();
        let clock = jumps.clock(START.parse().unwrap());
        let config = Config {
            service_cidrs: ["10.43.0.0/16", "fd00:43::/112"].iter().map(|cidr| cidr.parse().unwrap()).collect(),
            clock: Arc::new({
                let clock = clock.clone();
                move || clock.now()
            }),
            ..Config::default()
        };
        let server = ApiServer::build(config, kiln_storage::memory::open()).await.unwrap();
        let shutdown = CancellationToken::new();
        let client = Client::new(InProcess(server.clone()));
        Self { server, client, clock, jumps, _end: shutdown.clone().drop_guard(), shutdown }
    }

    /// Runs controllers over one set of mirrors.
    pub(crate) fn run<F: Future<Output = ()> + Send + 'static>(
        &self,
        build: impl FnOnce(&mut Informers, &Context) -> F + Send + 'static,
    ) {
        tokio::spawn(alone(self.client.clone(), self.clock.clone(), self.shutdown.clone(), build));
    }

    /// Runs controllers over a bad line until what is returned is dropped.
    pub(crate) fn run_badly<F: Future<Output = ()> + Send + 'static>(
        &self,
        build: impl FnOnce(&mut Informers, &Context) -> F + Send + 'static,
    ) -> DropGuard {
        let line = BadLine::new(InProcess(self.server.clone()));
        let stop = self.shutdown.child_token();
        tokio::spawn(alone(Client::new(line), self.clock.clone(), stop.clone(), build));
        stop.drop_guard()
    }

    pub(crate) async fn create(&self, collection: &str, object: Value) -> Value {
        let made = self.client.create(collection, &object).await;
        made.unwrap_or_else(|error| panic!("{object}: {error}"))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.client.get(path).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub(crate) async fn find(&self, path: &str) -> Option<Value> {
        self.client.find(path).await.unwrap()
    }

    pub(crate) async fn list(&self, path: &str) -> Vec<Value> {
        self.client.list(path, &ListParams::default()).await.unwrap().items
    }

    pub(crate) async fn labelled(&self, path: &str, labels: &str) -> Vec<Value> {
        let params = ListParams { labels: labels.to_owned(), ..ListParams::default() };
        self.client.list(path, &params).await.unwrap().items
    }

    pub(crate) async fn patch(&self, path: &str, patch: Value) -> Value {
        let done = self.client.patch(path, PatchKind::Merge, &patch).await;
        done.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub(crate) async fn delete(&self, path: &str) {
        self.client.delete(path, &Value::Null).await.unwrap();
    }

    /// A Node that is ready, in a zone.
    pub(crate) async fn node(&self, name: &str, zone: &str) {
        let labels = json!({"topology.kubernetes.io/zone": zone, "kubernetes.io/hostname": name});
        self.create("/api/v1/nodes", json!({"metadata": {"name": name, "labels": labels}})).await;
        let ready = json!({"type": "Ready", "status": "True"});
        let status =
            json!({"status": {"conditions": [ready], "allocatable": {"cpu": "4", "memory": "4Gi", "pods": "110"}}});
        self.patch(&format!("/api/v1/nodes/{name}/status"), status).await;
    }

    /// A Pod that runs on a node.
    pub(crate) async fn pod(&self, name: &str, node: &str, labels: Value, ips: &[&str], ready: bool) -> Value {
        let containers = json!([{"name": "c", "image": "i", "ports": [{"name": "http", "containerPort": 8080}]}]);
        let pod = json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {"nodeName": node, "containers": containers},
        });
        self.create("/api/v1/namespaces/default/pods", pod).await;
        self.run_pod(name, ips, ready).await
    }

    /// Makes a Pod as a kubelet has it that started it.
    pub(crate) async fn run_pod(&self, name: &str, ips: &[&str], ready: bool) -> Value {
        let ready = if ready { "True" } else { "False" };
        let ready = json!({"type": "Ready", "status": ready, "lastTransitionTime": self.clock.now().to_string()});
        let ips: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
        let first = ips.first().map(|ip| ip["ip"].clone());
        let status = json!({"phase": "Running", "podIP": first, "podIPs": ips, "conditions": [ready]});
        self.patch(&pod_path(name, "status"), json!({"status": status})).await
    }

    /// Makes a Pod as a kubelet has it whose container ended.
    pub(crate) async fn end_pod(&self, name: &str, code: i32) {
        let now = self.clock.now().to_string();
        let ended = json!({"exitCode": code, "finishedAt": now});
        let container = json!({"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": ended}});
        let ready = json!({"type": "Ready", "status": "False", "lastTransitionTime": now});
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        let status = json!({"phase": phase, "conditions": [ready], "containerStatuses": [container]});
        self.patch(&pod_path(name, "status"), json!({"status": status})).await;
    }

    /// Makes a Pod go that was deleted, as its kubelet does.
    pub(crate) async fn stop_pod(&self, name: &str) {
        self.client.delete(&pod_path(name, ""), &json!({"gracePeriodSeconds": 0})).await.unwrap();
    }
}

pub(crate) fn pod_path(name: &str, sub: &str) -> String {
    let slash = if sub.is_empty() { "" } else { "/" };
    format!("/api/v1/namespaces/default/pods/{name}{slash}{sub}")
}

/// Lets the paused time pass.
pub(crate) async fn pass(seconds: u64) {
    tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
}
