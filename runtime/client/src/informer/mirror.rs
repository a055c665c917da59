//! The part of an informer that is the same for objects of every type: it is compiled once.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ObjectRef;
use super::object::{Held, Placed};
use super::store::Mirrored;
use crate::backoff::Backoff;
use crate::client::{Client, ListParams};
use crate::error::ClientError;
use crate::transport::BoxFuture;
use crate::watch::{RawEvents, WatchEvent};

/// How long the server is asked to keep a watch open.
const WATCH_LIMIT: Duration = Duration::from_secs(480);
/// How much longer a watch may be silent before its connection counts as dead.
const WATCH_GRACE: Duration = Duration::from_secs(30);
/// A watch that held this long did not fail: the next one begins at once.
const HELD: Duration = Duration::from_secs(10);

/// A [`Change`](super::Change) of an object of whatever type.
pub(super) enum AnyChange {
    /// An object came or changed.
    Applied { key: ObjectRef, object: Held, previous: Option<Held> },
    /// An object is gone.
    Deleted { key: ObjectRef, object: Held },
    /// The whole collection has been told once.
    Synced,
}

/// Is told each change.
type Tell<'a> = dyn FnMut(AnyChange) + Send + 'a;

/// Reads an object of the mirror's type.
type Read = Box<dyn Fn(&[u8]) -> serde_json::Result<Placed> + Send + Sync>;

/// Keeps what is mirrored like a collection on the server.
pub(super) struct Mirror {
    client: Client,
    path: String,
    params: ListParams,
    mirrored: Arc<Mirrored>,
    read: Read,
    backoff: Backoff,
}

/// How following the collection ended.
enum Followed {
    /// The watch can be taken up at the last revision.
    Ended,
    /// Only a list can help.
    Expired,
}

impl Mirror {
    pub(super) fn new(client: Client, path: String, params: ListParams, mirrored: Arc<Mirrored>, read: Read) -> Self {
        let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        Self { client, path, params, mirrored, read, backoff }
    }

    /// Mirrors until the shutdown.
    pub(super) fn run<'a>(mut self, shutdown: &'a CancellationToken, tell: &'a mut Tell<'_>) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.mirror(tell) => {}
            }
        })
    }

    async fn mirror(&mut self, tell: &mut Tell<'_>) {
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
    async fn list(&mut self, tell: &mut Tell<'_>) -> Result<String, ClientError> {
        let mut items = Vec::new();
        let read = &self.read;
        let mut take = |json: &[u8]| read(json).map(|item| items.push(item));
        let revision = self.client.list_each(&self.path, &self.params, &mut take).await?;
        let changes = self.mirrored.replace(items);
        self.mirrored.reached(&revision);
        for change in changes {
            tell(change);
        }
        if self.mirrored.set_synced() {
            tell(AnyChange::Synced);
        }
        Ok(revision)
    }

    /// Takes in changes until only a new list can help.
    async fn follow(&mut self, mut revision: String, tell: &mut Tell<'_>) {
        loop {
            let start = Instant::now();
            let watch = self.client.watch_raw(&self.path, &self.params, &revision, WATCH_LIMIT).await;
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
    async fn take_in(&mut self, mut watch: RawEvents, revision: &mut String, tell: &mut Tell<'_>) -> Followed {
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
            let is_gone = matches!(event, WatchEvent::Deleted(_));
            let json = match event {
                WatchEvent::Bookmark(at) => {
                    self.mirrored.reached(&at);
                    *revision = at;
                    continue;
                }
                WatchEvent::Added(json) | WatchEvent::Modified(json) | WatchEvent::Deleted(json) => json,
            };
            let object = match (self.read)(&json) {
                Ok(object) => object,
                Err(error) => return self.failed(&watch.unreadable(error)),
            };
            object.1.state().1.clone_into(revision);
            let change = if is_gone { self.mirrored.remove(object) } else { self.mirrored.apply(object) };
            self.mirrored.reached(revision);
            if let Some(change) = change {
                tell(change);
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
