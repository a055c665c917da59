//! What a controller has done and its mirror does not show yet.
//!
//! A controller that makes pods must not count those that the mirror has before the mirror shows what it made, or it would make
//! them twice. So it notes what it does, and acts again only when all of it has been seen, or has not been for so long that
//! something went amiss.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kiln_client::ObjectRef;
use tokio::time::Instant;

use crate::reconcile::Next;

/// How long something is waited for.
const TIMEOUT: Duration = Duration::from_secs(300);
/// When to look again at a key whose expectations are not met, should nothing bring it back before.
pub(crate) const LOOK_AGAIN: Next = Next::After(Duration::from_secs(301));

/// What the controllers of one kind expect to see, by the controller's key.
#[derive(Debug, Default)]
pub(crate) struct Expectations(Mutex<HashMap<ObjectRef, Expected>>);

#[derive(Debug)]
struct Expected {
    creations: usize,
    /// Names of those to be deleted, each seen once: as it is marked, or as it goes.
    deletions: HashSet<String>,
    since: Instant,
}

impl Expectations {
    /// No code panics while it holds the lock, so a poisoned lock still guards a whole map.
    fn all(&self) -> MutexGuard<'_, HashMap<ObjectRef, Expected>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many are about to be made, and those of these names to be deleted.
    pub(crate) fn expect<'a>(&self, key: &ObjectRef, creations: usize, deletions: impl IntoIterator<Item = &'a str>) {
        let deletions: HashSet<String> = deletions.into_iter().map(str::to_owned).collect();
        if creations > 0 || !deletions.is_empty() {
            self.all().insert(key.clone(), Expected { creations, deletions, since: Instant::now() });
        }
    }

    /// As [`Self::expect`], besides what is expected already.
    pub(crate) fn also_expect(&self, key: &ObjectRef, creations: usize, deletion: Option<&str>) {
        if creations == 0 && deletion.is_none() {
            return;
        }
        let mut all = self.all();
        let fresh = || Expected { creations: 0, deletions: HashSet::new(), since: Instant::now() };
        let expected = all.entry(key.clone()).or_insert_with(fresh);
        expected.since = Instant::now();
        expected.creations += creations;
        expected.deletions.extend(deletion.map(str::to_owned));
    }

    /// One was seen to be made, or could not be.
    pub(crate) fn created(&self, key: &ObjectRef) {
        self.change(key, |expected| expected.creations = expected.creations.saturating_sub(1));
    }

    /// One was seen to be deleted, or could not be.
    pub(crate) fn deleted(&self, key: &ObjectRef, name: &str) {
        self.change(key, |expected| _ = expected.deletions.remove(name));
    }

    fn change(&self, key: &ObjectRef, change: impl FnOnce(&mut Expected)) {
        let mut all = self.all();
        if let Some(expected) = all.get_mut(key) {
            change(expected);
            if expected.is_met() {
                all.remove(key);
            }
        }
    }

    /// The controller is gone: another of its name begins anew.
    pub(crate) fn forget(&self, key: &ObjectRef) {
        self.all().remove(key);
    }

    /// Whether all has been seen, or was waited for too long.
    pub(crate) fn are_met(&self, key: &ObjectRef) -> bool {
        self.all().get(key).is_none_or(|expected| expected.since.elapsed() > TIMEOUT)
    }
}

impl Expected {
    fn is_met(&self) -> bool {
        self.creations == 0 && self.deletions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ObjectRef {
        ObjectRef::namespaced("ns", "rs")
    }

    #[tokio::test(start_paused = true)]
    async fn a_controller_waits_until_all_it_did_is_seen() {
        let expectations = Expectations::default();
        assert!(expectations.are_met(&key()));
        expectations.expect(&key(), 2, ["a"]);
        expectations.created(&key());
        expectations.deleted(&key(), "b");
        expectations.deleted(&key(), "a");
        expectations.deleted(&key(), "a");
        assert!(!expectations.are_met(&key()));
        expectations.created(&key());
        assert!(expectations.are_met(&key()));
        // Made by someone else.
        expectations.created(&key());
        assert!(expectations.are_met(&key()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_never_seen_is_waited_for_five_minutes() {
        let expectations = Expectations::default();
        expectations.expect(&key(), 1, []);
        tokio::time::advance(TIMEOUT).await;
        assert!(!expectations.are_met(&key()));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(expectations.are_met(&key()));
    }
}
