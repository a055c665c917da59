//! A mirror of one collection.
//!
//! `list -> follow -> (list | follow) ...`: the collection is listed once, then watched. A watch that ends is taken up at
//! the last revision seen; one whose revision has expired leads to a new list, of which only the differences are told.

mod object;
mod shared;
mod store;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use object::{Object, readers, typed};
pub use shared::{Informers, collection, path};
pub use store::{ObjectRef, Store};

use crate::backoff::Backoff;
use crate::client::{Client, ListParams};
use crate::error::ClientError;
use crate::watch::{WatchEvent, WatchStream};

/// How long the server is asked to keep a watch open.
const WATCH_LIMIT: Duration = Duration::from_secs(480);
/// How much longer a watch may be silent before its connection counts as dead.
const WATCH_GRACE: Duration = Duration::from_secs(30);
/// A watch that held this long did not fail: the next one begins at once.
const HELD: Duration = Duration::from_secs(10);

/// Something that changed in the mirrored collection. The store has changed before it is told.
#[derive(Debug, Clone)]
pub enum Change<T = Value> {
    /// An object came or changed.
    Applied {
        /// Which.
        key: ObjectRef,
        /// As it is now.
        object: Arc<T>,
        /// As it was last seen.
        previous: Option<Arc<T>>,
    },
    /// An object is gone.
    Deleted {
        /// Which.
        key: ObjectRef,
        /// As it was last seen.
        object: Arc<T>,
    },
    /// The whole collection has been told once.
    Synced,
}

impl<T> Change<T> {
    /// The object that changed; none for [`Change::Synced`].
    pub fn key(&self) -> Option<&ObjectRef> {
        match self {
            Self::Applied { key, .. } | Self::Deleted { key, .. } => Some(key),
            Self::Synced => None,
        }
    }
}

/// Is told each change of a mirror.
type Handler<T> = Box<dyn FnMut(&Change<T>) + Send>;

/// Keeps a [`Store`] like a collection on the server. One mirror can serve any number of readers: those who
/// [`Informer::subscribe`] before it runs are told of each change, in that order.
pub struct Informer<T = Value> {
    client: Client,
    path: String,
    params: ListParams,
    store: Store<T>,
    handlers: Vec<Handler<T>>,
    backoff: Backoff,
}

/// How following the collection ended.
enum Followed {
    /// The watch can be taken up at the last revision.
    Ended,
    /// Only a list can help.
    Expired,
}

impl<T: Object> Informer<T> {
    /// A mirror, empty yet, of the collection at a path.
    pub fn new(client: Client, path: impl Into<String>, params: ListParams) -> Self {
        let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        Self { client, path: path.into(), params, store: Store::default(), handlers: Vec::new(), backoff }
    }

    /// The mirror's contents, for any number of readers.
    pub fn store(&self) -> Store<T> {
        self.store.clone()
    }

    /// Adds an index: [`Store::by_index`] then finds objects by the keys that `keys` gives for each. An index of that name that
    /// is there already stays.
    pub fn index(&mut self, name: &'static str, keys: fn(&T) -> Vec<String>) {
        self.store.add_index(name, keys);
    }

    /// Has each change told to one more.
    pub fn subscribe(&mut self, handler: impl FnMut(&Change<T>) + Send + 'static) {
        self.handlers.push(Box::new(handler));
    }

    /// Mirrors until the shutdown, telling each change. Failures are logged and tried again without end.
    pub async fn run(mut self, shutdown: CancellationToken, mut tell: impl FnMut(&Change<T>) + Send) {
        let mut handlers = std::mem::take(&mut self.handlers);
        let mut tell = |change: &Change<T>| {
            handlers.iter_mut().for_each(|handler| handler(change));
            tell(change);
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.mirror(&mut tell) => {}
        }
    }

    async fn mirror(&mut self, tell: &mut (impl FnMut(&Change<T>) + Send)) {
        loop {
            match self.list(tell).await {
                Ok(revision) => self.follow(revision, tell).await,
                Err(error) => {
                    tracing::warn!(path = self.path, %error, "cannot list; will try again");
                    tokio::time::sleep(self.backoff.next_wait()).await;
                }
            }
        }
    }

    /// Takes in the whole collection; answers its revision.
    async fn list(&mut self, tell: &mut impl FnMut(&Change<T>)) -> Result<String, ClientError> {
        let list = self.client.list::<T>(&self.path, &self.params).await?;
        let changes = self.store.replace(list.items);
        self.store.reached(&list.resource_version);
        for change in changes {
            tell(&change);
        }
        if self.store.set_synced() {
            tell(&Change::Synced);
        }
        Ok(list.resource_version)
    }

    /// Takes in changes until only a new list can help.
    async fn follow(&mut self, mut revision: String, tell: &mut impl FnMut(&Change<T>)) {
        loop {
            let start = Instant::now();
            let watch = self.client.watch(&self.path, &self.params, &revision, WATCH_LIMIT).await;
            let followed = match watch {
                Ok(watch) => self.take_in(watch, &mut revision, tell).await,
                Err(error) => self.failed(&error),
            };
            if start.elapsed() >= HELD {
                self.backoff.reset();
            } else {
                tokio::time::sleep(self.backoff.next_wait()).await;
            }
            if let Followed::Expired = followed {
                return;
            }
        }
    }

    /// Takes in one watch.
    async fn take_in(
        &mut self,
        mut watch: WatchStream<T>,
        revision: &mut String,
        tell: &mut impl FnMut(&Change<T>),
    ) -> Followed {
        loop {
            let event = match tokio::time::timeout(WATCH_LIMIT + WATCH_GRACE, watch.next()).await {
                Ok(Ok(Some(event))) => {
                    // A server that tells something is there: what fails next is another failure.
                    self.backoff.reset();
                    event
                }
                Ok(Ok(None)) => return Followed::Ended,
                Ok(Err(error)) => return self.failed(&error),
                Err(_) => {
                    tracing::warn!(path = self.path, "the watch went silent; will take it up again");
                    return Followed::Ended;
                }
            };
            let change = match event {
                WatchEvent::Bookmark(at) => {
                    self.store.reached(&at);
                    *revision = at;
                    continue;
                }
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    object.resource_version().clone_into(revision);
                    self.store.apply(object)
                }
                WatchEvent::Deleted(object) => {
                    object.resource_version().clone_into(revision);
                    self.store.remove(object)
                }
            };
            self.store.reached(revision);
            if let Some(change) = change {
                tell(&change);
            }
        }
    }

    fn failed(&self, error: &ClientError) -> Followed {
        if error.is_expired() {
            return Followed::Expired;
        }
        tracing::warn!(path = self.path, %error, "the watch failed; will take it up again");
        Followed::Ended
    }
}

impl<T> std::fmt::Debug for Informer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Informer").field("path", &self.path).field("params", &self.params).finish_non_exhaustive()
    }
}
