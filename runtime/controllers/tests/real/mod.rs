//! The real API server, in memory, for controllers.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part of it, and a failed step fails the test")]

use std::time::Duration;

use bytes::Bytes;
use kiln_apiserver::{ApiServer, Config, UserInfo};
use kiln_client::{Body, BoxFuture, Client, ClientError, ListParams, Transport, WatchEvent};
use kiln_controllers::garbage;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const MAPS: &str = "/api/v1/namespaces/default/configmaps";

struct InProcess(ApiServer);

impl Transport for InProcess {
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Body>, ClientError>> {
        Box::pin(async move { Ok(self.0.call(UserInfo::system("test"), request).await) })
    }
}

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) server: ApiServer,
    pub(crate) client: Client,
    pub(crate) shutdown: CancellationToken,
    _end: DropGuard,
}

impl World {
    pub(crate) async fn new() -> Self {
        let server = ApiServer::build(Config::default(), kiln_storage::memory::open()).await.unwrap();
        let shutdown = CancellationToken::new();
        let client = Client::new(InProcess(server.clone()));
        Self { server, client, _end: shutdown.clone().drop_guard(), shutdown }
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
