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
    /// Every event of the prefix up to here has been handed out.
    seen: Revision,
}

impl Watch {
    pub(crate) fn new(engine: &Arc<Engine>, prefix: &str, after: Revision) -> Result<Self, StorageError> {
        let (id, past, queue) = engine.subscribe(prefix, after)?;
        Ok(Self { engine: engine.clone(), prefix: prefix.to_owned(), id, past, queue, seen: after })
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
            self.seen = event.revision;
            return Some(Arc::unwrap_or_clone(event));
        }
    }

    /// A revision up to which every event has been handed out by [`Watch::next`]: what a bookmark may say.
    pub fn progress(&mut self) -> Revision {
        // In this order: events are queued before the engine's revision moves past them.
        let current = self.engine.revision();
        if self.past.is_empty() && self.queue.is_empty() && !self.queue.is_closed() {
            self.seen = self.seen.max(current);
        }
        self.seen
    }

    /// Takes up the history after the queue overflowed.
    fn catch_up(&mut self) -> Option<()> {
        (self.id, self.past, self.queue) = self.engine.subscribe(&self.prefix, self.seen).ok()?;
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
        state.check_readable(after, self.may_be_volatile(prefix))?;
        let past = state.events_after(after).filter(|event| event.record.key.starts_with(prefix)).cloned().collect();
        let (sender, queue) = mpsc::channel(QUEUE);
        Ok((state.watches.add(prefix, sender), past, queue))
    }
}
