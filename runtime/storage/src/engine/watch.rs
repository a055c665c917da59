//! One watch: past events from the history, then new ones from its queue.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::Engine;
use crate::types::{Event, Revision, StorageError};

/// New events that may wait for a slow watch before it is sent back to the history for them.
const QUEUE: usize = 128;

/// A stream of the events of one prefix, made by [`crate::Storage::watch`].
pub struct Watch {
    engine: Arc<Engine>,
    prefix: String,
    id: u64,
    past: VecDeque<Arc<Event>>,
    queue: mpsc::Receiver<Arc<Event>>,
    /// Every event of the prefix before here has been handed out, and of this revision's the first `seen_of_it`.
    seen: Revision,
    seen_of_it: usize,
}

impl Watch {
    pub(crate) fn new(engine: &Arc<Engine>, prefix: &str, after: Revision) -> Result<Self, StorageError> {
        let (id, past, queue) = engine.subscribe(prefix, after)?;
        Ok(Self { engine: engine.clone(), prefix: prefix.to_owned(), id, past, queue, seen: after, seen_of_it: 0 })
    }

    /// The next event, in the order of revisions. `None` when the store was closed, or when the watch fell so far
    /// behind that the history no longer has its next event: the client is told that its revision expired. Safe to
    /// cancel.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let event = match self.past.pop_front() {
                Some(event) => event,
                None => match self.queue.recv().await {
                    Some(event) => event,
                    None => {
                        self.catch_up()?;
                        continue;
                    }
                },
            };
            if event.revision > self.seen {
                (self.seen, self.seen_of_it) = (event.revision, 0);
            } else if self.seen_of_it == 0 {
                // A watch from a revision that the store had not heard of yet.
                continue;
            }
            self.seen_of_it += 1;
            return Some(Arc::unwrap_or_clone(event));
        }
    }

    /// A revision up to which every event has been handed out by [`Watch::next`]: what a bookmark may say.
    pub fn progress(&mut self) -> Revision {
        // In this order: events are queued before the engine's revision moves past them.
        let current = self.engine.revision();
        let all_taken = self.past.is_empty() && self.queue.is_empty() && !self.queue.is_closed();
        if all_taken && current > self.seen {
            (self.seen, self.seen_of_it) = (current, 0);
        }
        self.seen
    }

    /// Takes up the history after the queue overflowed, in the midst of a revision if it had several events.
    fn catch_up(&mut self) -> Option<()> {
        let again = if self.engine.lags { self.seen_of_it } else { 0 };
        let after = if again > 0 { self.seen - 1 } else { self.seen };
        let (id, mut past, queue) = self.engine.subscribe(&self.prefix, after).ok()?;
        past.drain(..again.min(past.len()));
        (self.id, self.past, self.queue) = (id, past, queue);
        Some(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.engine.write().watches.remove(&self.prefix, self.id);
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("prefix", &self.prefix).field("seen", &self.seen).finish_non_exhaustive()
    }
}

/// A watch's number, its past events and the queue of those to come.
type Subscription = (u64, VecDeque<Arc<Event>>, mpsc::Receiver<Arc<Event>>);

impl Engine {
    fn subscribe(&self, prefix: &str, after: Revision) -> Result<Subscription, StorageError> {
        let mut state = self.write();
        if state.closed {
            return Err(StorageError::Closed);
        }
        state
            .check_readable(if self.lags { after.min(state.revision) } else { after }, self.may_be_volatile(prefix))?;
        let past = state.events_after(after).filter(|event| event.record.key.starts_with(prefix)).cloned().collect();
        let (sender, queue) = mpsc::channel(QUEUE);
        Ok((state.watches.add(prefix, sender), past, queue))
    }
}
