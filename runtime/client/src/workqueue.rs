//! A queue of keys to work on.
//!
//! A key is in the queue once, however often it was added, and is worked on by one worker at a time: added again
//! meanwhile, it comes back after that worker is done. A key can be added for later, and with a wait that grows with
//! each failure.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::backoff::exponential;

/// How the wait of a failing key grows.
#[derive(Debug, Clone)]
pub struct RateLimit {
    /// The wait after the first failure; it doubles with each.
    pub first: Duration,
    /// The longest wait.
    pub most: Duration,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { first: Duration::from_millis(100), most: Duration::from_secs(30) }
    }
}

/// The queue. Cloning it is cheap and gives another handle of the same queue.
pub struct WorkQueue<K> {
    shared: Arc<Shared<K>>,
}

struct Shared<K> {
    state: Mutex<State<K>>,
    /// Told when a key may have become ready or the queue was closed.
    changed: Notify,
    limit: RateLimit,
}

struct State<K> {
    ready: VecDeque<K>,
    /// Keys to be worked on: those in `ready`, and those added while a worker had them.
    dirty: HashSet<K>,
    working: HashSet<K>,
    /// Keys for later, by their time; the number keeps apart those of one instant.
    later: BTreeMap<(Instant, u64), K>,
    /// Where in `later` a key is.
    due: HashMap<K, (Instant, u64)>,
    added: u64,
    failures: HashMap<K, u32>,
    closed: bool,
}

/// A key that one worker has. The key can be handed out again once this is dropped.
pub struct Item<K: Eq + Hash + Clone> {
    key: K,
    queue: WorkQueue<K>,
}

impl<K> Clone for WorkQueue<K> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<K: Eq + Hash + Clone> Default for WorkQueue<K> {
    fn default() -> Self {
        Self::new(RateLimit::default())
    }
}

impl<K: Eq + Hash + Clone> WorkQueue<K> {
    /// An empty queue.
    pub fn new(limit: RateLimit) -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            working: HashSet::new(),
            later: BTreeMap::new(),
            due: HashMap::new(),
            added: 0,
            failures: HashMap::new(),
            closed: false,
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), changed: Notify::new(), limit }) }
    }

    /// No code panics while it holds the lock, so a poisoned lock still guards a whole state.
    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a key to be worked on now.
    pub fn add(&self, key: K) {
        self.state().add(key);
        self.shared.changed.notify_one();
    }

    /// Adds a key to be worked on after a wait. Of several times for a key the earliest holds.
    pub fn add_after(&self, key: K, wait: Duration) {
        let mut state = self.state();
        let at = Instant::now() + wait;
        if let Some(known) = state.due.get(&key).copied() {
            if known.0 <= at {
                return;
            }
            state.later.remove(&known);
        }
        state.added += 1;
        let place = (at, state.added);
        state.later.insert(place, key.clone());
        state.due.insert(key, place);
        drop(state);
        self.shared.changed.notify_one();
    }

    /// Adds a key after one more failure, to be worked on after its wait.
    pub fn add_failed(&self, key: K) {
        let wait = {
            let mut state = self.state();
            let failures = state.failures.entry(key.clone()).or_insert(0);
            *failures = failures.saturating_add(1);
            exponential(self.shared.limit.first, self.shared.limit.most, *failures - 1)
        };
        self.add_after(key, wait);
    }

    /// Forgets a key's failures after a success.
    pub fn forget(&self, key: &K) {
        self.state().failures.remove(key);
    }

    /// Hands out no further keys: workers that wait get `None`.
    pub fn close(&self) {
        self.state().closed = true;
        self.shared.changed.notify_waiters();
        self.shared.changed.notify_one();
    }

    /// The next key that is due, or `None` once the queue is closed. Safe to cancel.
    pub async fn next(&self) -> Option<Item<K>> {
        loop {
            let changed = self.shared.changed.notified();
            let next_due = {
                let mut state = self.state();
                if state.closed {
                    // Wake the next worker too: one note wakes only one.
                    self.shared.changed.notify_one();
                    return None;
                }
                if let Some(key) = state.take(Instant::now()) {
                    if !state.ready.is_empty() {
                        self.shared.changed.notify_one();
                    }
                    return Some(Item { key, queue: self.clone() });
                }
                state.later.keys().next().map(|(at, _)| *at)
            };
            match next_due {
                None => changed.await,
                Some(at) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(at) => {}
                },
            }
        }
    }
}

impl<K: Eq + Hash + Clone> State<K> {
    fn add(&mut self, key: K) {
        if let Some(place) = self.due.remove(&key) {
            self.later.remove(&place);
        }
        if self.dirty.insert(key.clone()) && !self.working.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn take(&mut self, now: Instant) -> Option<K> {
        while let Some(entry) = self.later.first_entry()
            && entry.key().0 <= now
        {
            let key = entry.remove();
            self.due.remove(&key);
            self.add(key);
        }
        let key = self.ready.pop_front()?;
        self.dirty.remove(&key);
        self.working.insert(key.clone());
        Some(key)
    }
}

impl<K: Eq + Hash + Clone> Deref for Item<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.key
    }
}

impl<K: Eq + Hash + Clone> Drop for Item<K> {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        state.working.remove(&self.key);
        if state.dirty.contains(&self.key) {
            state.ready.push_back(self.key.clone());
            drop(state);
            self.queue.shared.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn next(queue: &WorkQueue<&'static str>) -> Item<&'static str> {
        queue.next().await.expect("the queue is open")
    }

    /// The seconds until the queue hands out a key.
    async fn wait_for(queue: &WorkQueue<&'static str>) -> (&'static str, f64) {
        let start = Instant::now();
        let item = next(queue).await;
        (*item, start.elapsed().as_secs_f64())
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_added_often_is_handed_out_once_and_again_if_added_while_worked_on() {
        let queue = WorkQueue::default();
        queue.add("a");
        queue.add("a");
        queue.add("b");
        let a = next(&queue).await;
        queue.add("a");
        let b = next(&queue).await;
        assert_eq!((*a, *b), ("a", "b"));
        assert!(tokio::time::timeout(Duration::from_secs(1), queue.next()).await.is_err());
        drop(a);
        assert_eq!(*next(&queue).await, "a");
        assert!(tokio::time::timeout(Duration::from_secs(1), queue.next()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn of_several_times_the_earliest_holds() {
        let queue = WorkQueue::default();
        queue.add_after("a", Duration::from_secs(20));
        queue.add_after("a", Duration::from_secs(10));
        queue.add_after("a", Duration::from_secs(30));
        queue.add_after("b", Duration::from_secs(5));
        assert_eq!(wait_for(&queue).await.0, "b");
        let (key, seconds) = wait_for(&queue).await;
        assert_eq!(key, "a");
        assert!((4.9..5.1).contains(&seconds), "{seconds}");
        assert!(tokio::time::timeout(Duration::from_secs(60), queue.next()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_of_a_failing_key_doubles_until_it_succeeds() {
        let queue = WorkQueue::new(RateLimit { first: Duration::from_secs(1), most: Duration::from_secs(5) });
        for expected in [1.0, 2.0, 4.0, 5.0, 5.0] {
            queue.add_failed("a");
            let (_, seconds) = wait_for(&queue).await;
            assert!((expected..expected + 0.1).contains(&seconds), "{seconds} for {expected}");
        }
        queue.forget(&"a");
        queue.add_failed("a");
        assert!(wait_for(&queue).await.1 < 1.1);
    }

    #[tokio::test(start_paused = true)]
    async fn many_workers_share_the_queue_and_all_end_when_it_is_closed() {
        let queue = WorkQueue::<u32>::default();
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move {
                    let mut done = 0;
                    while let Some(item) = queue.next().await {
                        done += 1;
                        drop(item);
                        tokio::task::yield_now().await;
                    }
                    done
                })
            })
            .collect();
        for key in 0..100 {
            queue.add(key);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        queue.close();
        let mut done = 0;
        for worker in workers {
            done += worker.await.expect("no worker fails");
        }
        assert_eq!(done, 100);
    }
}
