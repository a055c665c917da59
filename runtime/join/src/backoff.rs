//! Waiting longer after each failure, and not in step with other nodes.

use std::time::Duration;

/// Doubles from a first delay up to a longest one, each with a random quarter more or less.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at `first` and never passes `longest` (before jitter).
    pub fn new(first: Duration, longest: Duration) -> Self {
        Backoff {
            first,
            longest,
            next: first,
        }
    }

    /// How long to wait before the next attempt.
    pub fn delay(&mut self) -> Duration {
        let base = self.next;
        self.next = (self.next * 2).min(self.longest);
        jitter(base)
    }

    /// The longest delay, at once: for failures that time alone doesn't heal.
    pub fn longest(&mut self) -> Duration {
        self.next = self.longest;
        jitter(self.longest)
    }

    /// Starts over after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Between three and five quarters of `base`.
pub(crate) fn jitter(base: Duration) -> Duration {
    // Without randomness the delay is still a delay.
    let random = kiln_pki::secret::random_bytes::<2>().map_or(0x8000, u16::from_le_bytes);
    base * 3 / 4 + base / 2 * u32::from(random) / u32::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_with_a_quarter_of_jitter() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(8));
        for want in [1, 2, 4, 8, 8] {
            let got = backoff.delay();
            let want = Duration::from_secs(want);
            assert!(
                got >= want * 3 / 4 && got <= want * 5 / 4,
                "{got:?} for {want:?}"
            );
        }
        backoff.reset();
        assert!(backoff.delay() <= Duration::from_millis(1250));
    }
}
