//! How many seats a level would have used had it had them: what lending goes by.

use std::time::Instant;

/// How much of the old figure is kept when demand falls, period by period: half of it for five minutes.
const KEPT: f64 = 0.977;

/// The demand for seats, measured over a period.
#[derive(Debug)]
pub(super) struct Demand {
    since: Instant,
    now: usize,
    /// The most in the period.
    most: usize,
    seconds: f64,
    /// Integrals over the period's seconds.
    sum: f64,
    squares: f64,
    smoothed: f64,
}

/// What a period has shown.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Wanted {
    /// The most seats at one moment.
    pub(super) most: usize,
    /// Average and deviation together, following a rise at once and a fall slowly.
    pub(super) smoothed: f64,
}

impl Demand {
    pub(super) fn new(since: Instant) -> Self {
        Self { since, now: 0, most: 0, seconds: 0.0, sum: 0.0, squares: 0.0, smoothed: 0.0 }
    }

    /// So many are wanted from now on.
    pub(super) fn set(&mut self, now: Instant, seats: usize) {
        self.integrate(now);
        self.now = seats;
        self.most = self.most.max(seats);
    }

    /// Ends the period and begins the next one.
    pub(super) fn take(&mut self, now: Instant) -> Wanted {
        self.integrate(now);
        if self.seconds > 0.0 {
            let average = self.sum / self.seconds;
            let deviation = (self.squares / self.seconds - average * average).max(0.0).sqrt();
            let envelope = average + deviation;
            self.smoothed = envelope.max(KEPT * self.smoothed + (1.0 - KEPT) * envelope);
        }
        let wanted = Wanted { most: self.most, smoothed: self.smoothed };
        (self.most, self.seconds, self.sum, self.squares) = (self.now, 0.0, 0.0, 0.0);
        wanted
    }

    fn integrate(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.since).as_secs_f64();
        // Numbers of seats are small.
        let seats = self.now as f64;
        self.since = now;
        self.seconds += seconds;
        self.sum += seats * seconds;
        self.squares += seats * seats * seconds;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn demand_is_average_and_deviation_and_falls_slowly() {
        let began = Instant::now();
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        let mut demand = Demand::new(began);
        demand.set(at(0), 4);
        demand.set(at(5), 0);
        // Half of the time four, half none: two on average, and two apart from it.
        assert_eq!(demand.take(at(10)), Wanted { most: 4, smoothed: 4.0 });
        let next = demand.take(at(20));
        assert_eq!(next.most, 0);
        assert!((next.smoothed - 4.0 * KEPT).abs() < 1e-9, "{next:?}");
        demand.set(at(20), 9);
        assert_eq!(demand.take(at(30)), Wanted { most: 9, smoothed: 9.0 });
    }
}
