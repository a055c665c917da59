//! The real API server, in memory, for controllers.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part of it, and a failed step fails the test")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use kiln_apiserver::{ApiServer, Config, UserInfo};
use kiln_client::{
    Body, BoxFuture, Client, ClientError, Clock, Informers, ListParams, Transport, WatchEvent, full_body,
};
use kiln_controllers::{Context, garbage};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::bad_line::BadLine;

pub(crate) const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// The time that paused clocks begin at.
const START: &str = "2026-03-01T12:00:00Z";

/// Answers by path in place of the server, as APIs that it would pass on to others.
type Documents = Arc<Mutex<HashMap<String, Value>>>;

struct InProcess {
    server: ApiServer,
    documents: Documents,
}

impl Transport for InProcess {
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Body>, ClientError>> {
        let document = self.documents.lock().unwrap().get(request.uri().path()).cloned();
        Box::pin(async move {
            match document {
                Some(document) => Ok(http::Response::new(full_body(document.to_string()))),
                None => Ok(self.server.call(UserInfo::system("test"), request).await),
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
    pub(crate) shutdown: CancellationToken,
    documents: Documents,
    _end: DropGuard,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with_clock(Clock::system()).await
    }

    /// One whose clock is tokio's, for tests that pause it.
    pub(crate) async fn paused() -> Self {
        Self::with_clock(Clock::from_tokio(START.parse().unwrap())).await
    }

    async fn with_clock(clock: Clock) -> Self {
        let time = clock.clone();
        let config = Config { clock: Arc::new(move || time.now()), ..Config::default() };
        let server = ApiServer::build(config, kiln_storage::memory::open()).await.unwrap();
        let shutdown = CancellationToken::new();
        let documents = Documents::default();
        let client = Client::new(InProcess { server: server.clone(), documents: documents.clone() });
        Self { server, client, clock, _end: shutdown.clone().drop_guard(), documents, shutdown }
    }

    /// Answers GETs of a path with this from now on.
    pub(crate) fn serve(&self, path: &str, document: Value) {
        self.documents.lock().unwrap().insert(path.to_owned(), document);
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
        let line = InProcess { server: self.server.clone(), documents: self.documents.clone() };
        let stop = self.shutdown.child_token();
        let client = Client::new(BadLine::new(line));
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
