//! Which thresholds are met, for how long, and what follows from it. Knows time and numbers only.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::observe::Observations;
use super::threshold::{Signal, Threshold};
use crate::machine::Pressure;

/// How thresholds stand, from one look to the next.
#[derive(Debug)]
pub struct Pressures {
    thresholds: Vec<Threshold>,
    /// How long a condition goes on being shown after its thresholds were last met.
    transition: Duration,
    /// Since when thresholds are met, by their places.
    since: BTreeMap<usize, Instant>,
    /// The thresholds that are met for long enough and whose reclaim is not satisfied yet.
    met: Vec<usize>,
    /// When memory, disk and process ids were last seen short.
    seen: [Option<Instant>; 3],
}

impl Pressures {
    /// Nothing seen yet. `transition` is `evictionPressureTransitionPeriod`.
    pub fn new(thresholds: Vec<Threshold>, transition: Duration) -> Self {
        Self { thresholds, transition, since: BTreeMap::new(), met: Vec::new(), seen: [None; 3] }
    }

    /// Takes in what was seen. Answers the conditions to be shown, and what to reclaim first, if anything must be.
    pub(super) fn see(&mut self, now: Instant, seen: &Observations) -> (Pressure, Option<Threshold>) {
        let is_met = |index: &usize| self.is_met(*index, seen, self.met.contains(index));
        let met: Vec<usize> = (0..self.thresholds.len()).filter(is_met).collect();
        self.since.retain(|index, _| met.contains(index));
        for index in &met {
            self.since.entry(*index).or_insert(now);
            self.seen[condition(self.thresholds[*index].signal)] = Some(now);
        }
        let due = |index: &usize| {
            let since = self.since.get(index);
            since.is_some_and(|since| now.duration_since(*since) >= self.thresholds[*index].grace)
        };
        self.met = met.into_iter().filter(due).collect();
        let mut due: Vec<Threshold> = self.met.iter().map(|index| self.thresholds[*index]).collect();
        due.sort_by_key(|threshold| !threshold.signal.is_memory());
        (self.shown(now), due.first().copied())
    }

    /// Whether all is well again, by a look right after something was reclaimed.
    pub(super) fn is_relieved(&self, seen: &Observations) -> bool {
        (0..self.thresholds.len()).all(|index| !self.is_met(index, seen, true))
    }

    fn is_met(&self, index: usize, seen: &Observations, with_reclaim: bool) -> bool {
        let threshold = &self.thresholds[index];
        let Some(observation) = seen.get(&threshold.signal) else { return false };
        let extra = threshold.reclaim.filter(|_| with_reclaim).map_or(0, |extra| extra.of(observation.capacity));
        threshold.value.of(observation.capacity) + extra > observation.available
    }

    fn shown(&self, now: Instant) -> Pressure {
        let is_shown = |seen: Option<Instant>| seen.is_some_and(|at| now.duration_since(at) < self.transition);
        let [memory, disk, pids] = self.seen.map(is_shown);
        Pressure { memory, disk, pids }
    }
}

fn condition(signal: Signal) -> usize {
    match signal {
        Signal::MemoryAvailable | Signal::AllocatableMemoryAvailable => 0,
        Signal::PidAvailable => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::super::observe::Observation;
    use super::super::threshold::Settings;
    use super::*;

    fn seen(rows: &[(Signal, u64)]) -> Observations {
        rows.iter()
            .map(|(signal, available)| (*signal, Observation { available: *available, capacity: 1000 }))
            .collect()
    }

    fn pressures(soft: bool, reclaim: bool) -> Pressures {
        let list =
            [("memory.available".to_owned(), "100".to_owned()), ("nodefs.available".to_owned(), "10%".to_owned())];
        let mut settings = Settings { hard: [].into(), ..Settings::default() };
        if soft {
            settings.soft = list.into();
            settings.soft_grace = settings.soft.keys().map(|name| (name.clone(), Duration::from_secs(60))).collect();
        } else {
            settings.hard = list.into();
        }
        if reclaim {
            settings.minimum_reclaim = [("nodefs.available".to_owned(), "50".to_owned())].into();
        }
        Pressures::new(settings.thresholds().expect("thresholds"), Duration::from_secs(300))
    }

    #[tokio::test(start_paused = true)]
    async fn memory_comes_before_disk_and_conditions_outlast_the_shortage() {
        let mut pressures = pressures(false, false);
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let both = seen(&[(Signal::NodeFsAvailable, 50), (Signal::MemoryAvailable, 99)]);
        let (shown, due) = pressures.see(at(0), &both);
        assert_eq!(
            (shown, due.map(|t| t.signal)),
            (Pressure { memory: true, disk: true, pids: false }, Some(Signal::MemoryAvailable))
        );
        let fine = seen(&[(Signal::NodeFsAvailable, 100), (Signal::MemoryAvailable, 100)]);
        let (shown, due) = pressures.see(at(10), &fine);
        assert_eq!((shown.memory && shown.disk, due), (true, None));
        assert!(pressures.see(at(299), &fine).0.memory);
        assert_eq!(pressures.see(at(301), &fine).0, Pressure::default());
        assert_eq!(pressures.see(at(302), &Observations::new()), (Pressure::default(), None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_soft_threshold_must_be_met_for_its_grace_without_a_break() {
        let mut pressures = pressures(true, false);
        let start = Instant::now();
        let mut see = |seconds: u64, available: u64| {
            let (shown, due) =
                pressures.see(start + Duration::from_secs(seconds), &seen(&[(Signal::MemoryAvailable, available)]));
            (shown.memory, due.is_some())
        };
        assert_eq!(see(0, 50), (true, false));
        assert_eq!(see(59, 50), (true, false));
        assert_eq!(see(60, 150), (true, false));
        assert_eq!(see(61, 50), (true, false));
        assert_eq!(see(120, 50), (true, false));
        assert_eq!(see(121, 50), (true, true));
    }

    #[tokio::test(start_paused = true)]
    async fn once_it_acts_more_must_become_free_than_the_threshold() {
        let mut pressures = pressures(false, true);
        let start = Instant::now();
        let mut see = |available: u64| pressures.see(start, &seen(&[(Signal::NodeFsAvailable, available)])).1.is_some();
        assert!(!see(120) && see(99) && see(120) && see(149) && !see(150) && !see(120));
        assert!(!pressures.is_relieved(&seen(&[(Signal::NodeFsAvailable, 149)])));
        assert!(pressures.is_relieved(&seen(&[(Signal::NodeFsAvailable, 150)])));
    }
}
