//! Services: started, watched, started again with back-off, stopped in order. Each has its own cgroup, so that nothing
//! it leaves behind outlives it.

pub(crate) mod cgroup;
pub(crate) mod log;
pub(crate) mod notify;

use std::fs::OpenOptions;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Command, Stdio};
use std::sync::mpsc::TryRecvError;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};

use crate::backoff::Backoff;
use crate::console::say;
use crate::error::{Error, Result};
use crate::sys::command::{self, Exit, Process};
use log::Output;

const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// A service that ran this long was healthy; its next failure starts the back-off anew.
const HEALTHY: Duration = Duration::from_secs(60);
/// From the request to end to SIGKILL, and the same of a service that ends others first: what it gives them, and its own.
const PATIENCE: Duration = Duration::from_secs(10);
const LONG_PATIENCE: Duration = Duration::from_secs(45);

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    /// Name on the console and of the cgroup.
    pub(crate) name: &'static str,
    /// Path of the program.
    pub(crate) program: String,
    /// Its arguments.
    pub(crate) arguments: Vec<String>,
    /// Its environment; nothing is inherited.
    pub(crate) environment: Vec<(String, String)>,
    /// Whether it owns the console (a shell) instead of having its output logged.
    pub(crate) on_console: bool,
    /// Whether it is told by SIGPWR that the machine ends, so that it ends what goes on without it.
    pub(crate) ends_others: bool,
}

impl Spec {
    /// How it is asked to stop, and how long it may take.
    fn farewell(&self) -> (Signal, Duration) {
        if self.ends_others { (Signal::SIGPWR, LONG_PATIENCE) } else { (Signal::SIGTERM, PATIENCE) }
    }
}

/// When a service is started again; the time is handed in.
#[derive(Debug)]
struct Restarts {
    backoff: Backoff,
}

impl Restarts {
    fn new() -> Self {
        Self { backoff: Backoff::new(FIRST_DELAY, LONGEST_DELAY) }
    }

    /// The delay after a run of this length.
    fn delay(&mut self, ran: Duration) -> Duration {
        if ran >= HEALTHY {
            self.backoff.reset();
        }
        self.backoff.delay()
    }
}

#[derive(Debug)]
enum State {
    Waiting { until: Duration },
    Running { process: Process, since: Duration },
    Stopping { process: Process, kill_at: Duration },
    Stopped,
}

/// A supervised service.
#[derive(Debug)]
pub(crate) struct Service {
    /// What it runs.
    pub(crate) spec: Spec,
    state: State,
    restarts: Restarts,
    output: Option<Output>,
}

impl Service {
    /// A service that is due at once.
    pub(crate) fn new(spec: Spec) -> Self {
        Self { spec, state: State::Waiting { until: Duration::ZERO }, restarts: Restarts::new(), output: None }
    }

    /// When [`Service::tick`] has something to do next.
    pub(crate) fn due(&self) -> Option<Duration> {
        match &self.state {
            State::Waiting { until } => Some(*until),
            State::Stopping { kill_at, .. } => Some(*kill_at),
            State::Running { .. } | State::Stopped => None,
        }
    }

    /// Starts it, or kills it, if that is due.
    pub(crate) fn tick(&mut self, now: Duration) {
        match &mut self.state {
            State::Waiting { until } if *until <= now => match self.start() {
                Ok(process) => self.state = State::Running { process, since: now },
                Err(error) => {
                    let delay = self.restarts.delay(Duration::ZERO);
                    say!("service {}: {error}; trying again in {} s", self.spec.name, delay.as_secs());
                    self.state = State::Waiting { until: now + delay };
                }
            },
            State::Stopping { process, kill_at } if *kill_at <= now => {
                say!("service {} did not stop in {} s; killing it", self.spec.name, self.spec.farewell().1.as_secs());
                let _ = kill(process.pid, Signal::SIGKILL);
                cgroup::kill(self.spec.name);
                *kill_at = now + PATIENCE;
            }
            _ => {}
        }
    }

    /// Looks whether it has ended; called after reaping. Returns how, if it was not asked to.
    pub(crate) fn check(&mut self, now: Duration) -> Option<Exit> {
        let (process, since) = match &self.state {
            State::Running { process, since } => (process, Some(*since)),
            State::Stopping { process, .. } => (process, None),
            _ => return None,
        };
        let exit = match process.exit.try_recv() {
            Err(TryRecvError::Empty) => return None,
            Ok(exit) => exit,
            // The registry dropped it without an exit: it is gone all the same.
            Err(TryRecvError::Disconnected) => Exit::Code(0),
        };
        cgroup::kill(self.spec.name);
        let Some(since) = since else {
            self.state = State::Stopped;
            return None;
        };
        let delay = self.restarts.delay(now.saturating_sub(since));
        say!("service {} ended ({exit}); starting it again in {} s", self.spec.name, delay.as_secs());
        self.state = State::Waiting { until: now + delay };
        Some(exit)
    }

    /// Asks it to stop; [`Service::tick`] insists later.
    pub(crate) fn stop(&mut self, now: Duration) {
        self.state = match std::mem::replace(&mut self.state, State::Stopped) {
            State::Running { process, .. } => {
                let (signal, patience) = self.spec.farewell();
                let _ = kill(process.pid, signal);
                State::Stopping { process, kill_at: now + patience }
            }
            stopping @ State::Stopping { .. } => stopping,
            State::Waiting { .. } | State::Stopped => State::Stopped,
        };
    }

    /// Whether nothing of it runs and nothing will.
    pub(crate) fn is_stopped(&self) -> bool {
        matches!(self.state, State::Stopped)
    }

    /// Its output, to be polled.
    pub(crate) fn output(&self) -> Option<BorrowedFd<'_>> {
        self.output.as_ref().map(AsFd::as_fd)
    }

    /// Moves waiting output to the console and the log.
    pub(crate) fn drain(&mut self) {
        if self.output.as_mut().is_some_and(|output| !output.drain()) {
            self.output = None;
        }
    }

    fn start(&mut self) -> Result<Process> {
        let mut command = Command::new(&self.spec.program);
        command.args(&self.spec.arguments).env_clear().envs(self.spec.environment.iter().cloned()).current_dir("/");
        if self.spec.on_console {
            let open = || {
                OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open("/dev/console")
                    .map_err(|e| Error::io("open", "/dev/console", e))
            };
            command.stdin(open()?).stdout(open()?).stderr(open()?);
        } else {
            let (reader, writer) = std::io::pipe().map_err(|e| Error::io("make a pipe for", self.spec.name, e))?;
            let errors = writer.try_clone().map_err(|e| Error::io("make a pipe for", self.spec.name, e))?;
            command.stdin(Stdio::null()).stdout(writer).stderr(errors);
            self.output = Some(Output::new(self.spec.name, reader)?);
        }
        let process = command::spawn(&mut command)?;
        if let Err(error) = cgroup::enter(self.spec.name, process.pid) {
            // It runs unconfined then, which beats not running.
            say!("service {}: {error}", self.spec.name);
        }
        Ok(process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_failures_back_off_and_a_healthy_run_resets() {
        let mut restarts = Restarts::new();
        let quick: Vec<u64> = (0..8).map(|_| restarts.delay(Duration::from_secs(2)).as_secs()).collect();
        assert_eq!(quick, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(restarts.delay(HEALTHY).as_secs(), 1);
    }

    #[test]
    fn a_service_that_was_never_started_stops_at_once() {
        let spec = Spec {
            name: "test",
            program: "/nonexistent".into(),
            arguments: vec![],
            environment: vec![],
            on_console: false,
            ends_others: false,
        };
        let mut service = Service::new(spec);
        assert_eq!(service.due(), Some(Duration::ZERO));
        service.stop(Duration::ZERO);
        assert!(service.is_stopped());
        assert_eq!(service.due(), None);
    }
}
