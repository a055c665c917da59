//! What becomes of an event before it is written, with client-go's limits.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kiln_client::Clock;
use tokio::time::Instant;

use super::{event_name, nanoseconds};

/// Entries of each table; beyond them the oldest goes.
const ENTRIES: usize = 4_096;
/// So many different messages of one reason about one object, each told within [`INTERVAL`] of the one before, become one.
const ALIKE: usize = 10;
const INTERVAL: Duration = Duration::from_secs(600);
/// A source may tell so many events of an object at once, and one more each [`REFILL`] seconds.
const BURST: f64 = 25.0;
const REFILL: f64 = 300.0;

/// What to do with an event.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Nothing: the source tells too much.
    Skip,
    /// Write it; it is known by this key from now on.
    Create {
        /// For [`Correlator::forget`].
        key: u64,
        /// As it is to be written.
        event: Event,
    },
    /// Raise the count of one that was written.
    Count {
        /// For [`Correlator::forget`].
        key: u64,
        /// With the name of the first, and the new count.
        event: Event,
    },
}

#[derive(Debug)]
pub(super) struct Correlator {
    clock: Clock,
    hasher: RandomState,
    alike: Bounded<Alike>,
    written: Bounded<Written>,
    buckets: Bounded<Bucket>,
}

#[derive(Debug)]
struct Alike {
    messages: HashSet<u64>,
    last: Instant,
}

#[derive(Debug, Clone)]
struct Written {
    name: String,
    first: Option<Time>,
    count: i32,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

/// A map of the youngest entries.
#[derive(Debug)]
struct Bounded<T> {
    entries: HashMap<u64, T>,
    order: VecDeque<u64>,
}

impl<T> Bounded<T> {
    fn new() -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new() }
    }

    fn entry(&mut self, key: u64, new: impl FnOnce() -> T) -> &mut T {
        if !self.entries.contains_key(&key) {
            while self.order.len() >= ENTRIES
                && let Some(oldest) = self.order.pop_front()
            {
                self.entries.remove(&oldest);
            }
            self.order.push_back(key);
        }
        self.entries.entry(key).or_insert_with(new)
    }
}

impl Correlator {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            hasher: RandomState::new(),
            alike: Bounded::new(),
            written: Bounded::new(),
            buckets: Bounded::new(),
        }
    }

    pub(super) fn take(&mut self, event: Event) -> Outcome {
        let spam_key = self.hasher.hash_one((source(&event), &event.type_));
        let (key, mut event) = self.aggregate(event);
        let (name, first) = (event.metadata.name.clone().unwrap_or_default(), event.first_timestamp.clone());
        let written = self.written.entry(key, || Written { name, first, count: 0 });
        written.count += 1;
        let written = written.clone();
        if !self.may_pass(spam_key) {
            return Outcome::Skip;
        }
        if written.count == 1 {
            return Outcome::Create { key, event };
        }
        event.metadata.name = Some(written.name);
        event.first_timestamp = written.first;
        event.count = Some(written.count);
        Outcome::Count { key, event }
    }

    /// It was not written after all.
    pub(super) fn forget(&mut self, key: u64) {
        if let Some(written) = self.written.entries.get_mut(&key) {
            written.count = 0;
        }
    }

    /// The event, or the one that stands for all that are alike; and the key that it is counted by.
    fn aggregate(&mut self, mut event: Event) -> (u64, Event) {
        let now = Instant::now();
        let message = self.hasher.hash_one(&event.message);
        let alike_key = self.hasher.hash_one((source(&event), &event.type_, &event.reason));
        let alike = self.alike.entry(alike_key, || Alike { messages: HashSet::new(), last: now });
        if now.duration_since(alike.last) > INTERVAL {
            alike.messages.clear();
        }
        alike.last = now;
        alike.messages.insert(message);
        if alike.messages.len() < ALIKE {
            let field = event.involved_object.field_path.clone();
            return (self.hasher.hash_one((alike_key, message, field)), event);
        }
        // Room for one more, which will be aggregated too.
        let any = alike.messages.iter().next().copied();
        any.map(|any| alike.messages.remove(&any));
        let message = event.message.unwrap_or_default();
        event.message = Some(format!("(combined from similar events): {message}"));
        let about = event.involved_object.name.as_deref().unwrap_or_default();
        event.metadata.name = Some(event_name(about, nanoseconds(self.clock.now())));
        (alike_key, event)
    }

    fn may_pass(&mut self, key: u64) -> bool {
        let now = Instant::now();
        let bucket = self.buckets.entry(key, || Bucket { tokens: BURST, filled: now });
        let passed = now.duration_since(bucket.filled).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed / REFILL).min(BURST);
        bucket.filled = now;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }
}

/// Who tells of what.
fn source(event: &Event) -> [Option<&str>; 6] {
    let about = &event.involved_object;
    [
        event.source.as_ref().and_then(|source| source.component.as_deref()),
        about.kind.as_deref(),
        about.namespace.as_deref(),
        about.name.as_deref(),
        about.uid.as_deref(),
        about.api_version.as_deref(),
    ]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use jiff::{SignedDuration, Timestamp};
    use k8s_openapi::api::core::v1::ObjectReference;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn event(name: &str, reason: &str, message: &str) -> Event {
        Event {
            metadata: ObjectMeta { name: Some(format!("{name}.{message}")), ..ObjectMeta::default() },
            involved_object: ObjectReference { name: Some(name.to_owned()), ..ObjectReference::default() },
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            count: Some(1),
            ..Event::default()
        }
    }

    fn correlator() -> Correlator {
        Correlator::new(Clock::from_tokio(Timestamp::UNIX_EPOCH))
    }

    /// Whether an event about an object of this name is told.
    fn passed(correlator: &mut Correlator, name: &str) -> bool {
        !matches!(correlator.take(event(name, "R", "m")), Outcome::Skip)
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_told_again_is_counted_under_its_first_name() {
        let mut correlator = correlator();
        assert!(matches!(correlator.take(event("a", "R", "m")), Outcome::Create { .. }));
        let mut again = event("a", "R", "m");
        again.metadata.name = Some("later".to_owned());
        let Outcome::Count { key, event: counted } = correlator.take(again) else { panic!("not counted") };
        assert_eq!((counted.count, counted.metadata.name.as_deref()), (Some(2), Some("a.m")));
        correlator.forget(key);
        assert!(matches!(correlator.take(event("a", "R", "m")), Outcome::Create { .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn the_tenth_of_a_kind_stands_for_all_that_follow() {
        let mut correlator = correlator();
        for n in 0..9 {
            assert!(matches!(correlator.take(event("a", "R", &n.to_string())), Outcome::Create { .. }), "{n}");
        }
        let Outcome::Create { event: combined, .. } = correlator.take(event("a", "R", "9")) else { panic!("no event") };
        assert_eq!(combined.message.as_deref(), Some("(combined from similar events): 9"));
        let Outcome::Count { event: next, .. } = correlator.take(event("a", "R", "10")) else { panic!("not counted") };
        assert_eq!(next.message.as_deref(), Some("(combined from similar events): 10"));
        assert_eq!(next.count, Some(2));
        tokio::time::advance(Duration::from_secs(601)).await;
        let Outcome::Create { event: fresh, .. } = correlator.take(event("a", "R", "11")) else { panic!("no event") };
        assert_eq!(fresh.message.as_deref(), Some("11"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_tells_25_events_of_an_object_and_then_one_each_five_minutes() {
        let mut correlator = correlator();
        assert_eq!((0..30).filter(|_| passed(&mut correlator, "a")).count(), 25);
        assert!(passed(&mut correlator, "b"));
        tokio::time::advance(Duration::from_secs(300)).await;
        assert!(passed(&mut correlator, "a") && !passed(&mut correlator, "a"));
    }
    #[tokio::test(start_paused = true)]
    async fn a_clock_that_jumps_gives_a_source_nothing_and_takes_nothing() {
        for hours in [1, -1] {
            let jumped = Arc::<AtomicBool>::default();
            let (time, has_jumped) = (Clock::from_tokio(Timestamp::UNIX_EPOCH), Arc::clone(&jumped));
            let by = move || SignedDuration::from_hours(if has_jumped.load(Ordering::Relaxed) { hours } else { 0 });
            let mut correlator = Correlator::new(Clock::new(move || time.now() + by()));
            assert_eq!((0..30).filter(|_| passed(&mut correlator, "a")).count(), 25);
            jumped.store(true, Ordering::Relaxed);
            assert!(!passed(&mut correlator, "a"), "{hours}");
            tokio::time::advance(Duration::from_secs(300)).await;
            assert!(passed(&mut correlator, "a") && !passed(&mut correlator, "a"), "{hours}");
        }
    }
}
