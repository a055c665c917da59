//! Objects of APIs that other servers answer for. The ownership stream does not tell of them, so each of their collections that
//! can be listed, watched and deleted from is mirrored, in its group's preferred version. In flow APIServices and these objects,
//! out flows what has to be looked at. While a server is away, what it told stays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kiln_client::{Change, ClientError, Informer, ListParams, ObjectRef, Store, WorkQueue};
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Collector;
use super::graph::{Metadata, Object, Task};
use crate::discovery::{self, Collection};
use crate::mapper::root;

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
/// How often the servers are asked what they have.
const RESYNC: Duration = Duration::from_secs(30);

/// An APIService.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Service {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    group: String,
    version: String,
    /// What is behind it, if that is not the API server itself.
    service: Option<IgnoredAny>,
}

macro_rules! mirrored {
    ($($kind:ty),*) => {
        $(impl kiln_client::Object for $kind {
            fn key(&self) -> ObjectRef {
                ObjectRef::namespaced(self.metadata.namespace.as_str(), self.metadata.name.as_str())
            }

            fn uid(&self) -> &str {
                &self.metadata.uid
            }

            fn resource_version(&self) -> &str {
                &self.metadata.resource_version
            }
        })*
    };
}

mirrored!(Object, Service);

/// Mirrors without end.
pub(super) async fn follow(collector: Arc<Collector>, queue: WorkQueue<Task>, shutdown: CancellationToken) {
    let mut services = Informer::<Service>::new(collector.client.clone(), SERVICES, ListParams::default());
    let (store, news) = (services.store(), Arc::new(Notify::new()));
    services.subscribe({
        let news = news.clone();
        move |_| news.notify_one()
    });
    let mut mirrors = Mirrors { collector, queue, running: BTreeMap::new(), shutdown: shutdown.clone() };
    let keep = async {
        loop {
            news.notified().await;
            while mirrors.renew(&store).await {
                // Nobody tells of what a server has besides.
                _ = tokio::time::timeout(RESYNC, news.notified()).await;
            }
        }
    };
    tokio::select! {
        () = services.run(shutdown, |_| {}) => {}
        () = keep => {}
    }
}

/// The mirrors that run.
struct Mirrors {
    collector: Arc<Collector>,
    queue: WorkQueue<Task>,
    /// By the paths of their collections.
    running: BTreeMap<String, DropGuard>,
    shutdown: CancellationToken,
}

impl Mirrors {
    /// Begins and ends mirrors by what is there; answers whether another server has anything.
    async fn renew(&mut self, services: &Store<Service>) -> bool {
        let of_others = services.list().into_iter().filter(|service| service.spec.service.is_some());
        let versions: BTreeSet<String> =
            of_others.map(|service| format!("{}/{}", service.spec.group, service.spec.version)).collect();
        self.collector.others().extend(versions.iter().cloned());
        if let Err(error) = self.begin_and_end(&versions).await {
            tracing::warn!(%error, "cannot discover what other servers have; will try again");
        }
        !versions.is_empty()
    }

    async fn begin_and_end(&mut self, versions: &BTreeSet<String>) -> Result<(), ClientError> {
        if versions.is_empty() {
            self.running.clear();
            return Ok(());
        }
        let found = discovery::discover(&self.collector.client, |version| versions.contains(version)).await?;
        let collected = |c: &Collection| ["list", "watch", "delete"].into_iter().all(|verb| c.can(verb));
        let collections = found.collections.into_iter().filter(collected);
        let wanted: BTreeMap<String, Collection> =
            collections.map(|c| (c.place.collection(&c.api_version), c)).collect();
        let away: Vec<String> = found.failures.iter().map(|(version, _)| format!("{}/", root(version))).collect();
        self.running.retain(|path, _| wanted.contains_key(path) || away.iter().any(|root| path.starts_with(root)));
        for (path, collection) in wanted {
            if !self.running.contains_key(&path) {
                let stop = self.mirror(&path, collection);
                self.running.insert(path, stop);
            }
        }
        Ok(())
    }

    /// Mirrors a collection until what is returned is dropped.
    fn mirror(&self, path: &str, collection: Collection) -> DropGuard {
        let informer = Informer::<Object>::new(self.collector.client.clone(), path, ListParams::default());
        let (collector, queue, stop) = (self.collector.clone(), self.queue.clone(), self.shutdown.child_token());
        let Collection { api_version, kind, .. } = collection;
        tokio::spawn(informer.run(stop.clone(), move |change| {
            let mut graph = collector.graph();
            let tasks = match change {
                Change::Applied { object, previous, .. } => {
                    let replaced = previous.as_ref().filter(|before| before.metadata.uid != object.metadata.uid);
                    let mut tasks = replaced.map(|before| graph.remove(&before.metadata.uid)).unwrap_or_default();
                    // What is in a list does not say its kind.
                    let metadata = object.metadata.clone();
                    tasks.extend(graph.apply(Object {
                        api_version: api_version.clone(),
                        kind: kind.clone(),
                        metadata,
                    }));
                    tasks
                }
                Change::Deleted { object, .. } => graph.remove(&object.metadata.uid),
                Change::Synced => graph.concerned(&api_version, &kind),
            };
            drop(graph);
            tasks.into_iter().for_each(|task| queue.add(task));
        }));
        stop.drop_guard()
    }
}
