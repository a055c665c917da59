//! The order of phases, their dependencies and retries, without doing anything itself.
//!
//! A phase that fails is tried again with back-off; phases that do not need it go on meanwhile. So a missing cable, time
//! server or CONFIG file is told, and stops only what cannot work without it.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::error::Error;
use crate::report::PhaseReport;

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// A named phase over a context `C`.
pub(crate) struct Phase<C> {
    /// Name on the console and in the report.
    pub(crate) name: &'static str,
    /// Phases that must be done before.
    pub(crate) needs: &'static [&'static str],
    /// Does it; called again after a failure, so it picks up where it stopped.
    pub(crate) run: fn(&mut C) -> Result<(), Error>,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Run the phase of this index.
    Run(usize),
    /// Nothing before this uptime.
    WaitUntil(Duration),
    /// All phases are done.
    Done,
}

#[derive(Debug)]
struct Progress {
    name: &'static str,
    needs: &'static [&'static str],
    done: bool,
    due: Duration,
    backoff: Backoff,
    report: Option<PhaseReport>,
}

/// Progress through a list of phases.
#[derive(Debug)]
pub(crate) struct Sequence {
    phases: Vec<Progress>,
}

impl Sequence {
    /// A sequence at its start.
    pub(crate) fn new<C>(phases: &[Phase<C>]) -> Self {
        let progress = |phase: &Phase<C>| Progress {
            name: phase.name,
            needs: phase.needs,
            done: false,
            due: Duration::ZERO,
            backoff: Backoff::new(FIRST_RETRY, LONGEST_RETRY),
            report: None,
        };
        Self { phases: phases.iter().map(progress).collect() }
    }

    /// The first phase in the list's order that can run now.
    pub(crate) fn next(&self, now: Duration) -> Next {
        let mut earliest = None;
        for (index, phase) in self.phases.iter().enumerate() {
            if phase.done || !phase.needs.iter().all(|need| self.is_done(need)) {
                continue;
            }
            if phase.due <= now {
                return Next::Run(index);
            }
            earliest = Some(earliest.map_or(phase.due, |e: Duration| e.min(phase.due)));
        }
        earliest.map_or(Next::Done, Next::WaitUntil)
    }

    /// Notes the outcome of a run that ended at `now`.
    pub(crate) fn finish(
        &mut self,
        index: usize,
        outcome: &Result<(), Error>,
        took: Duration,
        now: Duration,
    ) -> Option<PhaseReport> {
        let phase = self.phases.get_mut(index)?;
        let attempts = phase.report.as_ref().map_or(0, |r| r.attempts) + 1;
        let error = outcome.as_ref().err().map(ToString::to_string);
        phase.done = error.is_none();
        if !phase.done {
            phase.due = now + phase.backoff.delay();
        }
        phase.report = Some(PhaseReport { name: phase.name.into(), ms: took.as_millis() as u64, attempts, error });
        phase.report.clone()
    }

    /// Something in the world changed (a device, a cable): failed phases may run at once.
    pub(crate) fn hurry(&mut self) {
        for phase in self.phases.iter_mut().filter(|p| p.report.is_some()) {
            phase.due = Duration::ZERO;
        }
    }

    /// A phase that was not tried yet shall wait until this uptime, or no longer.
    pub(crate) fn hold(&mut self, name: &str, until: Duration) {
        for phase in self.phases.iter_mut().filter(|p| p.name == name && p.report.is_none()) {
            phase.due = until;
        }
    }

    /// Whether every phase was tried or waits for one that failed: what there is to report is known.
    pub(crate) fn is_settled(&self) -> bool {
        self.phases.iter().all(|p| p.report.is_some() || !p.needs.iter().all(|need| self.is_done(need)))
    }

    /// Reports of the phases that ran, in the list's order.
    pub(crate) fn reports(&self) -> Vec<PhaseReport> {
        self.phases.iter().filter_map(|p| p.report.clone()).collect()
    }

    fn is_done(&self, name: &str) -> bool {
        self.phases.iter().any(|p| p.name == name && p.done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(name: &'static str, needs: &'static [&'static str]) -> Phase<()> {
        Phase { name, needs, run: |()| Ok(()) }
    }

    fn failure() -> Result<(), Error> {
        Err(Error::Panic("x".into()))
    }

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_failed_phase_holds_up_only_what_needs_it() {
        let mut sequence =
            Sequence::new(&[phase("state", &[]), phase("config", &[]), phase("services", &["state", "config"])]);
        assert_eq!(sequence.next(S), Next::Run(0));
        sequence.finish(0, &failure(), S, S);
        assert_eq!(sequence.next(S), Next::Run(1));
        sequence.finish(1, &Ok(()), S, S);
        assert_eq!(sequence.next(S), Next::WaitUntil(2 * S), "services waits for state");
        assert!(sequence.is_settled());
        assert_eq!(sequence.next(2 * S), Next::Run(0));
        sequence.finish(0, &Ok(()), S, 2 * S);
        assert_eq!(sequence.next(2 * S), Next::Run(2));
        sequence.finish(2, &Ok(()), S, 3 * S);
        assert_eq!(sequence.next(3 * S), Next::Done);
        assert_eq!(sequence.reports()[0].attempts, 2);
    }

    #[test]
    fn retries_back_off_until_a_device_event() {
        let mut sequence = Sequence::new(&[phase("config", &[])]);
        sequence.finish(0, &failure(), S, Duration::ZERO);
        assert_eq!(sequence.next(Duration::ZERO), Next::WaitUntil(S));
        sequence.finish(0, &failure(), S, S);
        assert_eq!(sequence.next(S), Next::WaitUntil(3 * S));
        sequence.hurry();
        assert_eq!(sequence.next(S), Next::Run(0));
    }

    #[test]
    fn a_held_phase_waits_whatever_devices_come_and_is_let_go() {
        let mut sequence = Sequence::new(&[phase("config", &[]), phase("later", &["config"])]);
        sequence.hold("later", 30 * S);
        sequence.finish(0, &Ok(()), S, S);
        sequence.hurry();
        assert_eq!(sequence.next(S), Next::WaitUntil(30 * S));
        sequence.hold("later", Duration::ZERO);
        assert_eq!(sequence.next(S), Next::Run(1));
    }
}
