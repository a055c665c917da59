//! When which volatile key is to go. Keys of one lifetime expire in the order of their revisions, so a queue by revision
//! is one by time, and the next to go is at its head.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Operation;
use crate::types::{Event, EventKind, Revision, Volatile};

/// The keys of one prefix, by the revision of their last write.
struct Queue {
    prefix: String,
    lifetime: Duration,
    keys: BTreeMap<Revision, (Instant, Arc<str>)>,
}

/// What is to expire. It holds exactly the keys with a lifetime that the engine holds.
pub(crate) struct Expiry(Vec<Queue>);

impl Expiry {
    pub(crate) fn new(volatile: &[Volatile]) -> Self {
        let queue = |v: &Volatile| {
            let lifetime = v.lifetime?;
            Some(Queue { prefix: v.prefix.clone(), lifetime, keys: BTreeMap::new() })
        };
        Self(volatile.iter().filter_map(queue).collect())
    }

    /// Takes note of an event that is applied now. A write starts its key's lifetime anew.
    pub(crate) fn note(&mut self, event: &Event, now: Instant) {
        let key = &event.record.key;
        let Some(queue) = self.0.iter_mut().find(|queue| key.starts_with(queue.prefix.as_str())) else { return };
        match &event.kind {
            EventKind::Put { previous } => {
                if let Some(previous) = previous {
                    queue.keys.remove(&previous.mod_revision);
                }
                queue.keys.insert(event.revision, (now + queue.lifetime, key.clone()));
            }
            EventKind::Delete => {
                queue.keys.remove(&event.record.mod_revision);
            }
        }
    }

    /// When the next key expires.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().filter_map(|queue| Some(queue.keys.first_key_value()?.1.0)).min()
    }

    /// Deletes of keys that have expired, `most` at a time. They are asked for again until [`Expiry::note`] hears of them.
    pub(crate) fn due(&self, now: Instant, most: usize) -> Vec<Operation> {
        let expired = |queue: &Queue| {
            let due = queue.keys.iter().take_while(|(_, (at, _))| *at <= now);
            due.map(|(revision, (_, key))| Operation::Delete { key: key.to_string(), expected: Some(*revision) })
                .take(most)
                .collect::<Vec<_>>()
        };
        self.0.iter().flat_map(expired).take(most).collect()
    }
}
