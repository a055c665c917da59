//! The real API server, in memory, for controllers.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part of it, and a failed step fails the test")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use kiln_apiserver::{ApiServer, Config, UserInfo};
use kiln_client::testing::FakeApi;
use kiln_client::{
    Body, BoxFuture, Client, ClientError, Clock, Informers, ListParams, Transport, WatchEvent, full_body,
};
use kiln_controllers::{Context, garbage};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::bad_line::BadLine;
use crate::jumping::Jumps;

pub(crate) const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// The time that paused clocks begin at.
const START: &str = "2026-03-01T12:00:00Z";

/// What answers in place of the server.
#[derive(Default)]
struct Others {
    /// Answers by path.
    documents: HashMap<String, Value>,
    /// Servers of aggregated APIs, by the paths of their groups.
    servers: HashMap<String, FakeApi>,
}

#[derive(Clone)]
struct InProcess {
    server: ApiServer,
    others: Arc<Mutex<Others>>,
}

impl Transport for InProcess {
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Body>, ClientError>> {
        let others = self.others.lock().unwrap();
        let path = request.uri().path();
        let document = others.documents.get(path).cloned();
        let other = others.servers.iter().find(|(root, _)| path.starts_with(root.as_str())).map(|(_, api)| api.clone());
        drop(others);
        Box::pin(async move {
            match (document, other) {
                (Some(document), _) => Ok(http::Response::new(full_body(document.to_string()))),
                (None, Some(other)) => other.send(request).await,
                (None, None) => Ok(self.server.call(UserInfo::system("test"), request).await),
            }
        })
    }
}

/// Longer than anything here takes, on a busy machine or by a paused clock.
const PATIENCE: Duration = Duration::from_secs(3_600);

pub(crate) struct World {
    pub(crate) server: ApiServer,
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    /// Has the clock of one that is paused jump.
    pub(crate) jumps: Jumps,
    pub(crate) shutdown: CancellationToken,
    line: InProcess,
    _end: DropGuard,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with_clock(Clock::system(), Jumps::default()).await
    }

    /// One whose clock is tokio's, for tests that pause it.
    pub(crate) async fn paused() -> Self {
        let jumps = Jumps::default();
        Self::with_clock(jumps.clock(START.parse().unwrap()), jumps).await
    }

    async fn with_clock(clock: Clock, jumps: Jumps) -> Self {
        let time = clock.clone();
        let config = Config { clock: Arc::new(move || time.now()), ..Config::default() };
        let server = ApiServer::build(config, kiln_storage::memory::open()).await.unwrap();
        let shutdown = CancellationToken::new();
        let line = InProcess { server: server.clone(), others: Arc::default() };
        let client = Client::new(line.clone());
        Self { server, client, clock, jumps, _end: shutdown.clone().drop_guard(), line, shutdown }
    }

    /// Answers GETs of a path with this from now on.
    pub(crate) fn serve(&self, path: &str, document: Value) {
        self.line.others.lock().unwrap().documents.insert(path.to_owned(), document);
    }

    /// Has another server answer for a group and version from now on, as an APIService says that is made for it.
    pub(crate) async fn aggregate(&self, group: &str, version: &str) -> FakeApi {
        let other = FakeApi::new();
        self.line.others.lock().unwrap().servers.insert(format!("/apis/{group}/{version}"), other.clone());
        let spec = json!({
            "group": group, "version": version, "groupPriorityMinimum": 1000, "versionPriority": 15,
            "insecureSkipTLSVerify": true, "service": {"namespace": "default", "name": "other"},
        });
        let object = json!({"metadata": {"name": format!("{version}.{group}")}, "spec": spec});
        self.client.create::<Value>("/apis/apiregistration.k8s.io/v1/apiservices", &object).await.unwrap();
        other
    }

    /// Runs controllers.
    pub(crate) fn run<F: Future<Output = ()> + Send + 'static>(
        &self,
        build: impl FnOnce(&mut Informers, &Context) -> F + Send + 'static,
    ) {
        let (client, clock, shutdown) = (self.client.clone(), self.clock.clone(), self.shutdown.clone());
        tokio::spawn(kiln_controllers::alone(client, clock, shutdown, build));
    }

    /// Runs controllers over a bad line until what is returned is dropped.
    pub(crate) fn run_badly<F: Future<Output = ()> + Send + 'static>(
        &self,
        build: impl FnOnce(&mut Informers, &Context) -> F + Send + 'static,
    ) -> DropGuard {
        let stop = self.shutdown.child_token();
        let client = Client::new(BadLine::new(self.line.clone()));
        tokio::spawn(kiln_controllers::alone(client, self.clock.clone(), stop.clone(), build));
        stop.drop_guard()
    }

    pub(crate) async fn with_garbage_collector() -> Self {
        let world = Self::new().await;
        tokio::spawn(garbage::run(world.client.clone(), world.shutdown.clone()));
        world
    }

    /// Makes a ConfigMap in `default`.
    pub(crate) async fn make(&self, name: &str, owners: Value, finalizers: &[&str]) -> Value {
        let object = json!({"metadata": {"name": name, "ownerReferences": owners, "finalizers": finalizers}});
        self.client.create(MAPS, &object).await.unwrap()
    }

    pub(crate) async fn delete(&self, name: &str, policy: &str) {
        self.client.delete(&format!("{MAPS}/{name}"), &json!({"propagationPolicy": policy})).await.unwrap();
    }

    /// Waits until the object of this name is as wanted; with `None` as its last state once it is gone.
    pub(crate) async fn until(
        &self,
        collection: &str,
        name: &str,
        wanted: impl Fn(Option<&Value>) -> bool,
    ) -> Option<Value> {
        let path = format!("{collection}/{name}");
        let by_name = ListParams { fields: format!("metadata.name={name}"), ..ListParams::default() };
        let waiting = async {
            let list = self.client.list::<Value>(collection, &by_name).await.unwrap();
            let mut object = list.items.into_iter().next();
            let mut changes = self.client.watch(collection, &by_name, &list.resource_version, PATIENCE).await.unwrap();
            while !wanted(object.as_ref()) {
                object = match changes.next().await.unwrap().unwrap() {
                    WatchEvent::Added(o) | WatchEvent::Modified(o) => Some(o),
                    WatchEvent::Deleted(_) => None,
                    WatchEvent::Bookmark(_) => object,
                };
            }
            object
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{path} never became what it should"))
    }

    pub(crate) async fn gone(&self, name: &str) {
        self.until(MAPS, name, |object| object.is_none()).await;
    }

    pub(crate) async fn is_there(&self, name: &str) -> bool {
        self.client.find::<Value>(&format!("{MAPS}/{name}")).await.unwrap().is_some()
    }
}
