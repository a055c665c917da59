//! How long a container that ended waits before it is started again.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use kiln_apimachinery::duration;

/// The wait after the second end of a container; it doubles with each.
const FIRST: SignedDuration = SignedDuration::from_secs(10);
/// The longest wait; a container that ran for twice as long begins anew.
const MOST: SignedDuration = SignedDuration::from_secs(300);

struct Entry {
    wait: SignedDuration,
    updated: Timestamp,
}

/// The waits of a pod's containers, by a key that changes with what is run.
#[derive(Default)]
pub(crate) struct Backoffs(HashMap<String, Entry>);

impl Backoffs {
    /// Until when a container has to wait that ended at `finished`, and how long that is in all; nothing if it may start.
    pub(crate) fn until(&self, key: &str, finished: Timestamp, now: Timestamp) -> Option<(Timestamp, SignedDuration)> {
        let entry = self.0.get(key)?;
        if is_over(entry, finished) {
            return None;
        }
        let until = finished + entry.wait;
        (now < until).then_some((until, entry.wait))
    }

    /// Takes note that a container which ended at `finished` is started again.
    pub(crate) fn next(&mut self, key: &str, finished: Timestamp, now: Timestamp) {
        let wait = match self.0.get(key) {
            Some(entry) if !is_over(entry, finished) => (entry.wait * 2).min(MOST),
            _ => FIRST,
        };
        self.0.insert(key.to_owned(), Entry { wait, updated: now });
    }
}

fn is_over(entry: &Entry, finished: Timestamp) -> bool {
    finished.duration_since(entry.updated) > MOST * 2
}

/// A wait as Go writes durations: `10s`, `2m40s`, `5m0s`.
pub(crate) fn text(wait: SignedDuration) -> String {
    duration::format(wait.as_secs().saturating_mul(1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_ten_seconds_to_five_minutes_and_begin_anew_after_ten_minutes_of_running() {
        let mut backoffs = Backoffs::default();
        let mut now = Timestamp::UNIX_EPOCH;
        assert_eq!(backoffs.until("a", now, now), None, "the first restart is at once");
        backoffs.next("a", now, now);
        let mut waits = Vec::new();
        for _ in 0..7 {
            let (until, wait) = backoffs.until("a", now, now).expect("a wait");
            waits.push(text(wait));
            now = until;
            assert_eq!(backoffs.until("a", now - wait, now), None);
            backoffs.next("a", now - wait, now);
        }
        assert_eq!(waits, ["10s", "20s", "40s", "1m20s", "2m40s", "5m0s", "5m0s"]);
        let later = now + SignedDuration::from_secs(601);
        assert_eq!(backoffs.until("a", later, later), None);
        backoffs.next("a", later, later);
        assert_eq!(backoffs.until("a", later, later).map(|(_, wait)| wait), Some(FIRST));
    }
}
