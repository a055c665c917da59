//! The state in RAM: what every key holds now, the recent history, and who watches.
//!
//! A write goes through here in two steps. [`Staging`] decides what each of a batch's operations would do, giving each
//! its revision, and changes nothing. Once the events are as durable as they must be, [`Engine::apply`] makes them
//! visible to reads and watches, all at once. Only one thread at a time may be between the two steps.

mod expiry;
mod registry;
mod staging;
mod state;
mod watch;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

pub(crate) use expiry::Expiry;
pub(crate) use staging::{Operation, Staging};
pub(crate) use state::State;
pub use watch::Watch;

use crate::types::{Clock, Event, ListOptions, Page, Record, Revision, StorageError, Volatile};

/// How much history is kept for watches that resume and for lists at a revision. Whatever exceeds one of the upper
/// bounds is forgotten at the next write.
#[derive(Debug, Clone)]
pub struct Retention {
    /// A state that was replaced by another longer ago than this can't be listed any more, and its events are forgotten
    /// if there are more than [`Retention::keep`]. Kubernetes compacts its etcd by age alone.
    pub age: Duration,
    /// This many events are kept for watches whatever their age: those of a quiet cluster resume after a long absence,
    /// as they do from the watch cache of Kubernetes.
    pub keep: usize,
    /// The most events kept.
    pub count: usize,
    /// The most bytes of replaced and deleted values kept.
    pub bytes: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age: Duration::from_secs(300), keep: 1_000, count: 10_000, bytes: 16 << 20 }
    }
}

/// Whether the key is one of these.
pub(crate) fn is_volatile(volatile: &[Volatile], key: &str) -> bool {
    volatile.iter().any(|v| key.starts_with(v.prefix.as_str()))
}

/// The state, shared by the store's handle, its writer and its watches.
pub(crate) struct Engine {
    state: RwLock<State>,
    /// A copy of the state's revision, set after the events up to it are with their watches.
    revision: AtomicI64,
    retention: Retention,
    volatile: Vec<Volatile>,
    clock: Clock,
    /// Whether this is a copy of a store elsewhere, which may be ahead of it.
    lags: bool,
}

impl Engine {
    pub(crate) fn new(state: State, retention: Retention, volatile: Vec<Volatile>, clock: Clock) -> Arc<Self> {
        let revision = AtomicI64::new(state.revision);
        Arc::new(Self { state: RwLock::new(state), revision, retention, volatile, clock, lags: false })
    }

    /// The copy of a store that others write to as well. It can be watched from revisions that it has not heard of yet.
    pub(crate) fn copy(state: State, retention: Retention, clock: Clock) -> Arc<Self> {
        let revision = AtomicI64::new(state.revision);
        Arc::new(Self { state: RwLock::new(state), revision, retention, volatile: Vec::new(), clock, lags: true })
    }

    /// No code panics while it holds the lock, so a poisoned lock still guards a whole state.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision.load(Ordering::Acquire)
    }

    /// Whether the key lives in RAM only.
    pub(crate) fn is_volatile(&self, key: &str) -> bool {
        is_volatile(&self.volatile, key)
    }

    /// Whether a key with this prefix may live in RAM only.
    fn may_be_volatile(&self, prefix: &str) -> bool {
        self.volatile.iter().any(|v| v.prefix.starts_with(prefix) || prefix.starts_with(v.prefix.as_str()))
    }

    pub(crate) fn get(&self, key: &str) -> Option<Record> {
        self.read().records.get(key).cloned()
    }

    pub(crate) fn list(&self, prefix: &str, options: &ListOptions) -> Result<Page, StorageError> {
        let state = self.read();
        if let Some(at) = options.at {
            state.check_readable(at, self.may_be_volatile(prefix))?;
            let oldest = state.oldest_listed(self.retention.age, self.clock.now());
            if at < oldest {
                return Err(StorageError::Compacted { oldest });
            }
        }
        Ok(state.list(prefix, options))
    }

    /// Makes the events visible and gives back those that fell out of the history.
    pub(crate) fn apply(&self, events: Vec<Arc<Event>>) -> Vec<Arc<Event>> {
        let now = self.clock.now();
        let mut state = self.write();
        for event in events {
            state.apply(event, now);
        }
        self.revision.store(state.revision, Ordering::Release);
        state.trim(&self.retention, now)
    }

    /// Takes a revision without an event, so that in a store that nobody writes to, too, the revisions of lists grow old.
    /// Gives back the events that fell out of the history.
    pub(crate) fn pass(&self) -> Vec<Arc<Event>> {
        let now = self.clock.now();
        let mut state = self.write();
        state.pass(now);
        self.revision.store(state.revision, Ordering::Release);
        state.trim(&self.retention, now)
    }

    /// How long after the last write [`Engine::pass`] is due: half of the age, so that a state expires after no more
    /// than one and a half of it.
    pub(crate) fn patience(&self) -> Duration {
        self.retention.age / 2
    }

    /// Takes note that the store has come to this revision without any event more.
    pub(crate) fn advance(&self, revision: Revision) {
        let mut state = self.write();
        state.advance(revision);
        self.revision.store(state.revision, Ordering::Release);
    }

    /// Starts anew from these records, as of this revision; watches end.
    pub(crate) fn reset(&self, records: BTreeMap<Arc<str>, Record>, revision: Revision) {
        let mut state = self.write();
        state.reset(records, revision);
        self.revision.store(state.revision, Ordering::Release);
    }

    /// The oldest revision that can be read.
    pub(crate) fn compacted(&self) -> Revision {
        self.read().compacted
    }

    /// Forgets the history before a revision and gives back what was forgotten.
    pub(crate) fn compact(&self, before: Revision) -> Result<Vec<Arc<Event>>, StorageError> {
        self.write().compact(before)
    }

    /// Ends every watch and refuses new ones.
    pub(crate) fn close(&self) {
        self.write().close();
    }
}
