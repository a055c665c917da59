//! The current records and the history that leads to them.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Retention;
use super::registry::Registry;
use crate::types::{Event, EventKind, ListOptions, Page, Record, Revision, StorageError};

/// An event and when it happened.
struct Past {
    at: Instant,
    event: Arc<Event>,
}

/// Revisions without an event that are remembered. They are so far apart in time that older ones have expired.
const PASSED: usize = 4;

/// Everything the store knows, as of one revision.
pub(crate) struct State {
    pub(crate) records: BTreeMap<Arc<str>, Record>,
    history: VecDeque<Past>,
    /// The latest revisions that were taken without an event, and when.
    passed: VecDeque<(Instant, Revision)>,
    /// Bytes of values that only the history still holds.
    replaced_bytes: usize,
    pub(crate) revision: Revision,
    /// The oldest revision that can be read: the state before the history's first event.
    pub(crate) compacted: Revision,
    /// The oldest revision at which volatile keys can be read: that of the store's opening.
    volatile_since: Revision,
    pub(super) watches: Registry,
    pub(super) closed: bool,
}

impl State {
    /// The state of a store whose history begins at `compacted` with these records, all of them older.
    pub(crate) fn new(records: BTreeMap<Arc<str>, Record>, compacted: Revision) -> Self {
        Self {
            records,
            history: VecDeque::new(),
            passed: VecDeque::new(),
            replaced_bytes: 0,
            revision: compacted,
            compacted,
            volatile_since: compacted,
            watches: Registry::default(),
            closed: false,
        }
    }

    /// Sets the revision from which the store goes on after it was loaded. Volatile keys were lost, so their history
    /// begins here.
    pub(crate) fn resume_at(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
        self.volatile_since = self.revision;
    }

    pub(crate) fn apply(&mut self, event: Arc<Event>, now: Instant) {
        self.replaced_bytes += replaced_bytes(&event);
        match event.kind {
            EventKind::Put { .. } => {
                self.records.insert(event.record.key.clone(), event.record.clone());
            }
            EventKind::Delete => {
                self.records.remove(&event.record.key);
            }
        }
        self.revision = event.revision;
        self.watches.publish(&event);
        self.history.push_back(Past { at: now, event });
    }

    /// Takes a revision that changes nothing.
    pub(super) fn pass(&mut self, now: Instant) {
        self.revision += 1;
        self.passed.push_back((now, self.revision));
        if self.passed.len() > PASSED {
            self.passed.pop_front();
        }
    }

    /// The oldest revision that was replaced by another no longer than `age` ago.
    pub(super) fn oldest_listed(&self, age: Duration, now: Instant) -> Revision {
        let is_old = |at: Instant| now.saturating_duration_since(at) > age;
        let last_event = self.history.partition_point(|past| is_old(past.at)).checked_sub(1);
        let by_event = last_event.and_then(|i| self.history.get(i)).map(|past| past.event.revision);
        let passed = self.passed.iter().rev().find(|(at, _)| is_old(*at)).map(|(_, revision)| *revision);
        by_event.max(passed).unwrap_or(self.compacted)
    }

    /// Takes note that nothing has happened up to this revision that was not applied.
    pub(super) fn advance(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }

    /// Puts another state, of this revision, in the place of this one. What led to it is not known, so watches end.
    pub(super) fn reset(&mut self, records: BTreeMap<Arc<str>, Record>, revision: Revision) {
        self.watches.clear();
        let watches = std::mem::take(&mut self.watches);
        *self = Self { closed: self.closed, watches, ..Self::new(records, revision) };
    }

    pub(crate) fn trim(&mut self, retention: &Retention, now: Instant) -> Vec<Arc<Event>> {
        let mut dropped = Vec::new();
        while let Some(oldest) = self.history.front() {
            let too_many = self.history.len() > retention.count || self.replaced_bytes > retention.bytes;
            let too_old =
                self.history.len() > retention.keep && now.saturating_duration_since(oldest.at) > retention.age;
            if !(too_many || too_old) {
                break;
            }
            self.forget_oldest(&mut dropped);
        }
        dropped
    }

    pub(crate) fn compact(&mut self, before: Revision) -> Result<Vec<Arc<Event>>, StorageError> {
        if before > self.revision {
            return Err(StorageError::FutureRevision { current: self.revision });
        }
        let mut dropped = Vec::new();
        while self.history.front().is_some_and(|oldest| oldest.event.revision <= before) {
            self.forget_oldest(&mut dropped);
        }
        self.compacted = self.compacted.max(before);
        Ok(dropped)
    }

    /// Forgets all events of the oldest revision.
    fn forget_oldest(&mut self, dropped: &mut Vec<Arc<Event>>) {
        let Some(revision) = self.history.front().map(|oldest| oldest.event.revision) else { return };
        while let Some(oldest) = self.history.pop_front_if(|past| past.event.revision == revision) {
            self.replaced_bytes -= replaced_bytes(&oldest.event);
            dropped.push(oldest.event);
        }
        self.compacted = revision;
    }

    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.watches.clear();
    }

    pub(crate) fn check_readable(&self, at: Revision, volatile: bool) -> Result<(), StorageError> {
        let oldest = if volatile { self.compacted.max(self.volatile_since) } else { self.compacted };
        if at > self.revision {
            return Err(StorageError::FutureRevision { current: self.revision });
        }
        if at < oldest {
            return Err(StorageError::Compacted { oldest });
        }
        Ok(())
    }

    /// The events after a revision, oldest first.
    pub(super) fn events_after(&self, after: Revision) -> impl Iterator<Item = &Arc<Event>> {
        let first = self.history.partition_point(|past| past.event.revision <= after);
        self.history.range(first..).map(|past| &past.event)
    }

    /// One page; the caller has checked that `options.at` is readable.
    pub(crate) fn list(&self, prefix: &str, options: &ListOptions) -> Page {
        let revision = options.at.unwrap_or(self.revision);
        let from = match options.start_after.as_deref() {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let current = self
            .records
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(_, record)| record);
        if revision == self.revision {
            return page(current, revision, options);
        }
        // Undo, newest first: what remains for a key is its state before the first event after `revision`.
        let mut undone: BTreeMap<&str, Option<&Record>> = BTreeMap::new();
        let first = self.history.partition_point(|past| past.event.revision <= revision);
        for past in self.history.range(first..).rev() {
            let event = &past.event;
            if event.record.key.starts_with(prefix) {
                let before = match &event.kind {
                    EventKind::Put { previous } => previous.as_ref(),
                    EventKind::Delete => Some(&event.record),
                };
                undone.insert(&event.record.key, before);
            }
        }
        let mut others = current.filter(|r| !undone.contains_key(&*r.key)).peekable();
        let mut changed = undone.range::<str, _>((from, Bound::Unbounded)).filter_map(|(_, r)| *r).peekable();
        let merged = std::iter::from_fn(|| match (others.peek(), changed.peek()) {
            (Some(other), Some(change)) if other.key < change.key => others.next(),
            (Some(_), None) => others.next(),
            _ => changed.next(),
        });
        page(merged, revision, options)
    }
}

fn page<'a>(mut records: impl Iterator<Item = &'a Record>, revision: Revision, options: &ListOptions) -> Page {
    let limit = if options.limit == 0 { usize::MAX } else { options.limit };
    let found: Vec<Record> = records.by_ref().take(limit).cloned().collect();
    let more = records.next().is_some();
    let remaining = if more && options.count { 1 + records.count() as u64 } else { 0 };
    Page { records: found, revision, more, remaining }
}

/// The bytes that an event took out of the current state.
fn replaced_bytes(event: &Event) -> usize {
    match &event.kind {
        EventKind::Put { previous } => previous.as_ref().map_or(0, |previous| previous.value.len()),
        EventKind::Delete => event.record.value.len(),
    }
}
