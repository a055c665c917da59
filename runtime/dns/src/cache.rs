//! Answers that were given, by what was asked: a part of them is the hot path of the whole service. Bounded by memory, not by
//! count; what was not asked for again since it was last looked at goes first.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::wire::{NAME_MAX, Packed, Query};

/// Parts, each with a lock of its own.
const SHARDS: usize = 16;
/// What an entry takes beside the answer and twice the pointer to its key.
const ENTRY: usize = 128;

/// What an answer depends on, packed: name, type, and what the client said that changes it.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    octets: [u8; NAME_MAX + 4],
    length: u16,
}

impl Key {
    /// Of a question of class IN.
    pub(crate) fn new(query: &Query) -> Self {
        let name = query.octets();
        let mut octets = [0; NAME_MAX + 4];
        octets[..name.len()].copy_from_slice(name);
        let [high, low] = query.kind.to_be_bytes();
        let flags = u8::from(query.wants_signatures()) | u8::from(query.checking_disabled) << 1;
        octets[name.len()..name.len() + 3].copy_from_slice(&[high, low, flags]);
        Self { octets, length: name.len() as u16 + 3 }
    }

    pub(crate) fn octets(&self) -> &[u8] {
        &self.octets[..usize::from(self.length)]
    }
}

/// An answer and how long it holds.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) packed: Arc<Packed>,
    /// The lifetime that it was given with, in seconds, if it grows older here.
    pub(crate) ages: Option<u32>,
    /// When it no longer holds.
    pub(crate) until: Option<Instant>,
    /// What it was made from.
    pub(crate) state: State,
}

/// Counts of changes to what answers are made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    /// To the settings and the service's own addresses.
    pub(crate) settings: u64,
    /// To the cluster's objects; [`State::ANY`] if an answer has nothing to do with them.
    pub(crate) cluster: u64,
}

impl State {
    /// The cluster does not matter.
    pub(crate) const ANY: u64 = u64::MAX;

    fn still(self, now: State) -> bool {
        self.settings == now.settings && (self.cluster == State::ANY || self.cluster == now.cluster)
    }
}

impl Kept {
    /// The lifetime that it still has, which all of its records get; none if it is as it was made.
    pub(crate) fn ttl(&self) -> Option<u32> {
        self.ages?;
        let left = self.until?.saturating_duration_since(Instant::now());
        // Rounded up, so that an answer is shown with the lifetime it came with.
        Some(left.as_secs() as u32 + u32::from(left.subsec_nanos() > 0))
    }
}

struct Entry {
    kept: Kept,
    /// Whether it was asked for since it was last looked at.
    used: bool,
}

#[derive(Default)]
struct Shard {
    entries: HashMap<Arc<[u8]>, Entry>,
    /// In the order in which they are looked at for what can go.
    order: VecDeque<Arc<[u8]>>,
    weight: usize,
}

/// The answers.
pub(crate) struct Cache {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    /// Octets that a part may take.
    room: usize,
}

impl Cache {
    /// An empty one that takes no more than so many octets, more or less.
    pub(crate) fn new(room: usize) -> Self {
        Self { shards: Default::default(), hasher: RandomState::new(), room: room / SHARDS }
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard> {
        let index = self.hasher.hash_one(key.octets()) as usize % SHARDS;
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands an answer that still holds to `take`.
    pub(crate) fn with<T>(&self, key: &Key, state: State, take: impl FnOnce(&Kept) -> T) -> Option<T> {
        let mut shard = self.shard(key);
        let entry = shard.entries.get_mut(key.octets())?;
        // Most answers of the cluster hold until something changes: then the clock need not be asked.
        if !entry.kept.state.still(state) || entry.kept.until.is_some_and(|until| Instant::now() >= until) {
            return None;
        }
        entry.used = true;
        Some(take(&entry.kept))
    }

    /// Keeps an answer.
    pub(crate) fn put(&self, key: &Key, kept: Kept) {
        let mut shard = self.shard(key);
        let weight = weight(key.octets(), &kept);
        if weight > self.room {
            return;
        }
        if let Some(entry) = shard.entries.get_mut(key.octets()) {
            let before = std::mem::replace(&mut entry.kept, kept);
            shard.weight = shard.weight + weight - self::weight(key.octets(), &before);
        } else {
            let octets: Arc<[u8]> = key.octets().into();
            shard.order.push_back(Arc::clone(&octets));
            shard.entries.insert(octets, Entry { kept, used: false });
            shard.weight += weight;
        }
        let now = Instant::now();
        while shard.weight > self.room {
            shard.drop_one(now);
        }
    }
}

impl Shard {
    /// Looks at the entry that was not looked at for longest: drops it unless it was used, or is over.
    fn drop_one(&mut self, now: Instant) {
        let Some(key) = self.order.pop_front() else { return };
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if entry.used && entry.kept.until.is_none_or(|until| now < until) {
            entry.used = false;
            self.order.push_back(key);
        } else if let Some(entry) = self.entries.remove(&key) {
            self.weight -= weight(&key, &entry.kept);
        }
    }
}

fn weight(key: &[u8], kept: &Kept) -> usize {
    ENTRY + key.len() + kept.packed.weight()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Answer, Name, Record, kind};
    use std::time::Duration;

    fn key(number: usize) -> Key {
        let name = Name::parse(&format!("n{number}.example.org")).unwrap();
        let message = crate::wire::question(1, &name, kind::A, false, false);
        Key::new(&Query::parse(&message).unwrap())
    }

    fn state(cluster: u64) -> State {
        State { settings: 1, cluster }
    }

    fn kept(cluster: u64, seconds: Option<u32>) -> Kept {
        let name = Name::parse("x.example.org").unwrap();
        let answer = Answer::of_zone(vec![Record::address(&name, 9, [1, 2, 3, 4].into())], Vec::new());
        Kept {
            packed: Arc::new(Packed::new(&answer, &name, None)),
            ages: seconds,
            until: seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds.into())),
            state: state(cluster),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_holds_for_its_time_and_until_something_changes() {
        let cache = Cache::new(1 << 20);
        cache.put(&key(1), kept(7, Some(30)));
        cache.put(&key(2), kept(7, None));
        let ttl = |number, generation| cache.with(&key(number), state(generation), Kept::ttl);
        assert_eq!((ttl(1, 7), ttl(2, 7)), (Some(Some(30)), Some(None)));
        tokio::time::advance(Duration::from_millis(28_500)).await;
        assert_eq!(ttl(1, 7), Some(Some(2)));
        tokio::time::advance(Duration::from_millis(1_500)).await;
        assert_eq!((ttl(1, 7), ttl(2, 7), ttl(2, 8)), (None, Some(None), None));
        cache.put(&key(3), kept(State::ANY, None));
        assert_eq!(ttl(3, 9), Some(None));
        assert!(cache.with(&key(3), State { settings: 2, cluster: 9 }, |_| ()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn memory_stays_bounded_and_what_is_used_stays() {
        let cache = Cache::new(256 << 10);
        for number in 0..10_000 {
            cache.put(&key(number), kept(1, None));
            assert!(cache.with(&key(0), state(1), |_| ()).is_some(), "after {number}");
        }
        let shards = || cache.shards.iter().map(|shard| shard.lock().unwrap());
        let (weight, count): (Vec<_>, Vec<_>) = shards().map(|shard| (shard.weight, shard.entries.len())).unzip();
        assert!(weight.iter().sum::<usize>() <= 256 << 10);
        assert!((400..2000).contains(&count.iter().sum::<usize>()), "{count:?}");
        assert!(shards().all(|shard| shard.order.len() == shard.entries.len()));
    }
}
