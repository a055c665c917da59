//! A clock that goes with the paused time, until it jumps.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use kiln_client::Clock;

/// Has a clock jump. Cloning it is cheap.
#[derive(Clone, Default)]
pub(crate) struct Jumps(Arc<AtomicI64>);

impl Jumps {
    /// A clock that shows `start` now and jumps when it is told to.
    pub(crate) fn clock(&self, start: Timestamp) -> Clock {
        let (time, by) = (Clock::from_tokio(start), Arc::clone(&self.0));
        Clock::new(move || time.now() + SignedDuration::from_secs(by.load(Ordering::Relaxed)))
    }

    /// Sets the clock forward, or back.
    pub(crate) fn jump(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}
