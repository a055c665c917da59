//! Who watches what: finds the watches of a key without asking each of them.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::types::Event;

/// A watch's queue and the number that it is removed by.
struct Subscriber {
    id: u64,
    queue: mpsc::Sender<Arc<Event>>,
}

/// The watches by their prefix.
#[derive(Default)]
pub(crate) struct Registry {
    /// Prefixes that end with a slash, as nearly all do: looked up once per slash of an event's key.
    folders: HashMap<Box<str>, Vec<Subscriber>>,
    /// Any other prefix: compared with every event.
    others: Vec<(Box<str>, Subscriber)>,
    next_id: u64,
}

impl Registry {
    pub(super) fn add(&mut self, prefix: &str, queue: mpsc::Sender<Arc<Event>>) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let subscriber = Subscriber { id, queue };
        if prefix.ends_with('/') {
            self.folders.entry(prefix.into()).or_default().push(subscriber);
        } else {
            self.others.push((prefix.into(), subscriber));
        }
        id
    }

    /// Ends all of them. Their numbers are not given again: each will ask to be removed once more.
    pub(super) fn clear(&mut self) {
        self.folders.clear();
        self.others.clear();
    }

    pub(super) fn remove(&mut self, prefix: &str, id: u64) {
        if !prefix.ends_with('/') {
            self.others.retain(|(_, subscriber)| subscriber.id != id);
        } else if let Some(subscribers) = self.folders.get_mut(prefix) {
            subscribers.retain(|subscriber| subscriber.id != id);
            if subscribers.is_empty() {
                self.folders.remove(prefix);
            }
        }
    }

    /// Queues the event for every watch of its key. A watch whose queue is full loses its place: it will find what
    /// it missed in the history.
    pub(super) fn publish(&mut self, event: &Arc<Event>) {
        let key: &str = &event.record.key;
        let keeps_up = |subscriber: &Subscriber| subscriber.queue.try_send(event.clone()).is_ok();
        for (slash, _) in key.match_indices('/') {
            if let Some(subscribers) = self.folders.get_mut(&key[..=slash]) {
                subscribers.retain(keeps_up);
            }
        }
        self.others.retain(|(prefix, subscriber)| !key.starts_with(&**prefix) || keeps_up(subscriber));
    }
}
