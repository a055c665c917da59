//! The words that every implementation and every caller of the store share.

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::engine::Watch;

/// A point in the store's history. Every write, of whatever key, takes the next one; the empty store is at 1.
pub type Revision = i64;

/// A future that is allocated, so that [`Storage`] can be used as a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One key with its value at some revision. Cloning it copies no value bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The whole key, beginning with `/registry/`.
    pub key: Arc<str>,
    /// The value as it was written, the revision's digits included.
    pub value: Bytes,
    /// The revision at which the key came into being (anew, if it was deleted before).
    pub create_revision: Revision,
    /// The revision of the write that made this value.
    pub mod_revision: Revision,
}

/// A value to write.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewValue {
    /// The value's bytes.
    pub bytes: Vec<u8>,
    /// Offset in `bytes` at which the store inserts the decimal digits of the write's revision, so that the stored
    /// bytes are final. An offset past the end counts as the end.
    pub revision_at: Option<usize>,
}

impl NewValue {
    /// A value that is stored exactly as it is.
    pub fn plain(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), revision_at: None }
    }

    /// The bytes as stored by the write with this revision.
    pub(crate) fn finish(&self, revision: Revision) -> Bytes {
        finish(&self.bytes, self.revision_at, revision)
    }
}

/// Bytes with a revision's digits in their place, in an allocation of exactly their size.
pub(crate) fn finish(bytes: &[u8], revision_at: Option<usize>, revision: Revision) -> Bytes {
    let Some(at) = revision_at else { return Bytes::copy_from_slice(bytes) };
    let digits = revision.to_string();
    let (head, tail) = bytes.split_at(at.min(bytes.len()));
    let mut whole = Vec::with_capacity(bytes.len() + digits.len());
    whole.extend_from_slice(head);
    whole.extend_from_slice(digits.as_bytes());
    whole.extend_from_slice(tail);
    Bytes::from(whole)
}

/// What part of a prefix to list, and as of when.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// The most records to return; 0 means all.
    pub limit: usize,
    /// Only keys that sort after this one: the last key of the page before.
    pub start_after: Option<String>,
    /// The state as of this revision; the current one if absent.
    pub at: Option<Revision>,
    /// Count what follows the page, which costs a walk over its keys.
    pub count: bool,
}

/// The answer to a list: records in the order of their keys.
#[derive(Debug, Clone)]
pub struct Page {
    /// The records found.
    pub records: Vec<Record>,
    /// The revision whose state the page shows; give it as [`ListOptions::at`] for the next page.
    pub revision: Revision,
    /// Whether records with the prefix follow this page.
    pub more: bool,
    /// How many follow, if that was asked for.
    pub remaining: u64,
}

/// What happened to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// It was written; `previous` is the state that the write replaced, absent for a creation.
    Put {
        /// The state before.
        previous: Option<Record>,
    },
    /// It was deleted.
    Delete,
}

/// One write, as a watch sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The state after a put, or the last state before a delete.
    pub record: Record,
    /// The write's revision. For a delete it is later than `record.mod_revision`.
    pub revision: Revision,
}

/// Keys that live in RAM only: a restart loses them, but never reuses their revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volatile {
    /// What the keys begin with.
    pub prefix: String,
    /// How long after its last write a key is deleted; watches see that as any delete. `None`: never.
    pub lifetime: Option<Duration>,
}

/// Where the store takes the time from that lifetimes and the age of history are measured by.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Instant + Send + Sync>);

impl Clock {
    /// A clock for tests. The store looks at it at every request, and when as much real time has passed as was left.
    pub fn new(now: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time.
    pub fn now(&self) -> Instant {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(Instant::now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// What the store has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Bytes that the store wrote to the disk (log and database pages), before the file system adds its own.
    pub bytes_written: u64,
    /// Commits, each of which waited for the disk once, however many writes it carried.
    pub commits: u64,
    /// Writes that succeeded, in RAM or on disk.
    pub writes: u64,
}

/// Why the store did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StorageError {
    /// A create found the key taken. The caller reports it as already existing.
    #[error("the key already exists")]
    Exists,
    /// The key is at another revision than the caller expected. Read it again and retry.
    #[error("the key was changed since it was read")]
    Conflict {
        /// The state found.
        current: Option<Record>,
    },
    /// An update or delete found no such key.
    #[error("the key does not exist")]
    NotFound,
    /// The revision asked for is no longer kept. List anew, and watch from the list's revision.
    #[error("the revision has been compacted; the oldest that can be read is {oldest}")]
    Compacted {
        /// The oldest revision that can still be listed, and watched from.
        oldest: Revision,
    },
    /// The revision asked for has not happened yet, as after a restore of an older snapshot. List anew.
    #[error("the revision is in the future; the store is at {current}")]
    FutureRevision {
        /// The revision that the store is at.
        current: Revision,
    },
    /// The disk is full or read-only: nothing was written, reads and watches go on. Free some space.
    #[error("cannot write to the store: {0}; free some space on its disk")]
    Full(String),
    /// The value is larger than the store takes, which is etcd's limit for a request.
    #[error("etcdserver: request is too large")]
    TooLarge,
    /// What is stored is damaged; the text says what, and what to do.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// The database or its file could not be used; the text names the file.
    #[error("the store's database failed: {0}")]
    Sqlite(String),
    /// etcd could not be reached or did not answer in time. A write may have been carried out or not. Ask again.
    #[error("the store's etcd does not answer: {0}")]
    Unavailable(String),
    /// etcd, or what is needed to speak to it, said no; the text says what.
    #[error("the store's etcd can't be used: {0}")]
    Etcd(String),
    /// This kind of store does not do that; the text says what does.
    #[error("{0}")]
    Unsupported(String),
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
}

/// A store of keys and values with one history.
///
/// A write that has been answered survives a power cut (except of a volatile key) and is seen by every read and watch
/// that starts after the answer. Dropping a write's future does not undo the write. Dropping the last handle closes
/// the store and ends its watches.
pub trait Storage: Send + Sync + 'static {
    /// The revision of the latest write.
    fn current_revision(&self) -> Revision;

    /// Waits until reads and watches show this revision, which another server of the cluster may have answered with.
    /// Fails with [`StorageError::FutureRevision`] if it has not happened yet.
    fn reach(&self, revision: Revision) -> BoxFuture<'_, Result<(), StorageError>> {
        let current = self.current_revision();
        let reached = if revision <= current { Ok(()) } else { Err(StorageError::FutureRevision { current }) };
        Box::pin(std::future::ready(reached))
    }

    /// The current state of one key.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Record>, StorageError>>;

    /// The keys that begin with `prefix`. Fails with [`StorageError::Compacted`] or
    /// [`StorageError::FutureRevision`] if `at` cannot be served.
    fn list<'a>(&'a self, prefix: &'a str, options: ListOptions) -> BoxFuture<'a, Result<Page, StorageError>>;

    /// Writes a key that must not exist; else [`StorageError::Exists`].
    fn create(&self, key: String, value: NewValue) -> BoxFuture<'_, Result<Record, StorageError>>;

    /// Replaces the value of a key that must be at the revision `expected`; else [`StorageError::Conflict`], or
    /// [`StorageError::NotFound`].
    fn update(&self, key: String, value: NewValue, expected: Revision) -> BoxFuture<'_, Result<Record, StorageError>>;

    /// Deletes a key, at the revision `expected` if that is given. Answers the last state and the delete's revision.
    fn delete(
        &self,
        key: String,
        expected: Option<Revision>,
    ) -> BoxFuture<'_, Result<(Record, Revision), StorageError>>;

    /// The events after the revision `after` of keys that begin with `prefix`, past ones first. Fails like
    /// [`Storage::list`] with `at: after`.
    fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, StorageError>;

    /// Forgets the history before `before`: that revision becomes the oldest that can be listed or watched from.
    fn compact(&self, before: Revision) -> BoxFuture<'_, Result<(), StorageError>>;

    /// Writes the current state into a new database file at `path`, which [`crate::sqlite::open`] can open, while
    /// reads and writes go on. The file appears whole or not at all. Answers the revision it holds.
    fn snapshot<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, Result<Revision, StorageError>>;

    /// What was written so far.
    fn counters(&self) -> Counters;

    /// Closes the store, whoever still has a handle of it: what was asked for before is done, the files are in order when this
    /// returns, watches end, and later writes fail with [`StorageError::Closed`]. A store that has no files has nothing to do.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}
