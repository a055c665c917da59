//! How long to wait before the next attempt.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Waits that double from `first` to `most`, each shortened at random by up to a fifth, so that many clients of a
/// server that comes back do not call at once.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
    random: RandomState,
}

impl Backoff {
    /// A back-off that has not failed yet.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, failures: 0, random: RandomState::new() }
    }

    /// The wait after one more failure.
    pub fn next_wait(&mut self) -> Duration {
        let wait = exponential(self.first, self.most, self.failures);
        self.failures = self.failures.saturating_add(1);
        let dice = self.random.hash_one(self.failures) % 1_000;
        wait - wait.mul_f64(dice as f64 / 5_000.0)
    }

    /// To be called after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// `first` doubled once per failure, `most` at most.
pub fn exponential(first: Duration, most: Duration, failures: u32) -> Duration {
    1u32.checked_shl(failures.min(31)).and_then(|factor| first.checked_mul(factor)).unwrap_or(most).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        for expected in [1, 2, 4, 8, 16, 30, 30] {
            let wait = backoff.next_wait().as_secs_f64();
            assert!(wait <= f64::from(expected) && wait >= f64::from(expected) * 0.8, "{wait} for {expected}");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_secs(1));
    }
}
