//! The only thread that writes to CONFIG. It keeps flash wear low: a status is written when it differs from what is on
//! the card, and not more often than every [`PAUSE`].

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::medium::with_writable;
use super::status::Status;
use super::{MOUNT, scrub};
use crate::backoff::Backoff;
use crate::clock;
use crate::console::say;
use crate::error::Result;
use crate::files::replace;
use crate::sys::mount::is_mounted;
use crate::sys::uptime;

/// Shortest time between two status files, and between two that say the same but for details: an error text that
/// changes with each attempt is worth a write now and then, not every ten seconds.
const PAUSE: Duration = Duration::from_secs(10);
const LONG_PAUSE: Duration = Duration::from_secs(600);

/// What the writer is asked for.
#[derive(Debug)]
pub(crate) enum Task {
    /// Bring the status onto the card, soon.
    Status(Status),
    /// The single-use token has done its work.
    ScrubToken,
    /// The CA key is safe on STATE.
    RemoveCa,
    /// CONFIG was mounted: what waited can be written.
    Mounted,
    /// Write what waits now and answer; used at shutdown.
    Flush(Sender<()>),
}

/// Starts the writer and returns its inbox.
pub(crate) fn start() -> Result<Sender<Task>> {
    let (sender, receiver) = channel();
    crate::thread::spawn("config", move || Writer::new().run(&receiver))?;
    Ok(sender)
}

/// A secret that is to leave the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chore {
    Token,
    Ca,
}

impl Chore {
    fn run(self) -> Result<()> {
        match self {
            Self::Token => {
                if scrub::token(&clock::text())? {
                    say!("the single-use token was removed from CONFIG");
                }
                Ok(())
            }
            Self::Ca => scrub::imported_ca(),
        }
    }
}

struct Writer {
    pending: Option<Status>,
    /// Chores with the uptime at which they are due.
    owed: Vec<(Chore, Duration)>,
    written: Option<Status>,
    last: Option<Duration>,
    backoff: Backoff,
    /// The pause after the last write.
    pause: Duration,
    told: Option<String>,
}

impl Writer {
    fn new() -> Self {
        Self {
            pending: None,
            owed: Vec::new(),
            written: None,
            last: None,
            backoff: Backoff::new(PAUSE, LONG_PAUSE),
            pause: Duration::ZERO,
            told: None,
        }
    }

    fn run(&mut self, inbox: &Receiver<Task>) {
        loop {
            let task = match self.due(uptime::now()) {
                Some(patience) => inbox.recv_timeout(patience),
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match task {
                Ok(task) => self.take(task),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.do_chores();
            if self.patience(uptime::now()) == Some(Duration::ZERO) {
                self.write_status();
            }
        }
    }

    fn take(&mut self, task: Task) {
        match task {
            Task::Status(status) => self.pending = Some(status).filter(|s| self.written.as_ref() != Some(s)),
            Task::ScrubToken => self.owe(Chore::Token),
            Task::RemoveCa => self.owe(Chore::Ca),
            Task::Mounted => self.last = None,
            Task::Flush(done) => {
                if self.pending.is_some() && is_mounted(MOUNT) {
                    self.write_status();
                }
                // Whoever asked may have stopped waiting.
                let _ = done.send(());
            }
        }
    }

    fn owe(&mut self, chore: Chore) {
        self.owed.retain(|(owed, _)| *owed != chore);
        self.owed.push((chore, Duration::ZERO));
    }

    /// Does the chores that are due. A secret must not stay on the card because the card was full once: what fails is
    /// tried again later.
    fn do_chores(&mut self) {
        let now = uptime::now();
        for (chore, due) in std::mem::take(&mut self.owed) {
            let outcome = if due > now { None } else { Some(chore.run()) };
            match outcome {
                None => self.owed.push((chore, due)),
                Some(Ok(())) => {}
                Some(failed) => {
                    self.report(failed);
                    self.owed.push((chore, now + LONG_PAUSE));
                }
            }
        }
    }

    /// How long until something is to be written; `None`: nothing is.
    fn due(&self, now: Duration) -> Option<Duration> {
        let chores = self.owed.iter().map(|(_, due)| due.saturating_sub(now));
        chores.chain(self.patience(now)).min()
    }

    /// How long to wait for more tasks before the pending status is written; `None` when nothing is pending.
    fn patience(&self, now: Duration) -> Option<Duration> {
        let pending = self.pending.as_ref()?;
        let turn = self
            .written
            .as_ref()
            .is_none_or(|old| old.joined != pending.joined || old.error.is_some() != pending.error.is_some());
        let pause = if turn { PAUSE.min(self.pause) } else { self.pause };
        Some(self.last.map_or(Duration::ZERO, |last| (last + pause).saturating_sub(now)))
    }

    fn write_status(&mut self) {
        let now = uptime::now();
        if !is_mounted(MOUNT) {
            // Task::Mounted ends this wait.
            (self.last, self.pause) = (Some(now), PAUSE);
            return;
        }
        if self.last.is_none_or(|last| now.saturating_sub(last) > LONG_PAUSE) {
            self.backoff.reset();
        }
        (self.last, self.pause) = (Some(now), self.backoff.delay());
        let Some(status) = self.pending.take() else {
            return;
        };
        let text = status.render(clock::known_text().as_deref());
        let outcome = with_writable(|| replace(&Path::new(MOUNT).join("join-status.txt"), text.as_bytes()));
        if outcome.is_ok() {
            if status.error.is_some() {
                say!("join-status.txt on CONFIG tells this too");
            }
            self.written = Some(status);
            self.told = None;
        }
        self.report(outcome);
    }

    /// Tells a failure on the console, once per text.
    fn report(&mut self, outcome: Result<()>) {
        if let Err(error) = outcome {
            let text = format!("CONFIG not written: {error}");
            if self.told.as_ref() != Some(&text) {
                say!("{text}");
                self.told = Some(text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(step: &str, error: Option<&str>) -> Status {
        Status { step: step.into(), error: error.map(str::to_owned), ..Status::default() }
    }

    #[test]
    fn an_unchanged_status_is_not_written_again() {
        let mut writer = Writer::new();
        writer.written = Some(status("ca", None));
        writer.take(Task::Status(status("ca", None)));
        assert_eq!(writer.patience(Duration::ZERO), None);
        writer.take(Task::Status(status("csr", None)));
        assert_eq!(writer.patience(Duration::ZERO), Some(Duration::ZERO));
    }

    #[test]
    fn a_secret_that_could_not_be_removed_is_tried_again() {
        // There is no /config here, so the chore fails.
        let mut writer = Writer::new();
        writer.take(Task::ScrubToken);
        writer.take(Task::ScrubToken);
        assert_eq!(writer.due(uptime::now()), Some(Duration::ZERO));
        writer.do_chores();
        let due = writer.due(uptime::now()).expect("still owed");
        assert!(due > LONG_PAUSE / 2);
        assert_eq!(writer.owed.len(), 1);
    }

    #[test]
    fn changes_in_quick_succession_make_one_write() {
        let mut writer = Writer::new();
        writer.last = Some(Duration::from_secs(10));
        writer.pause = PAUSE;
        for step in ["ca", "time", "csr"] {
            writer.take(Task::Status(status(step, None)));
        }
        let patience = writer.patience(Duration::from_secs(15));
        assert_eq!(patience, Some(Duration::from_secs(5)));
        assert_eq!(writer.pending.map(|s| s.step), Some("csr".into()));
    }

    #[test]
    fn a_turn_for_better_or_worse_does_not_wait_for_the_long_pause() {
        let mut writer = Writer::new();
        writer.written = Some(status("ca", Some("no answer (1)")));
        writer.last = Some(Duration::ZERO);
        writer.pause = LONG_PAUSE;
        writer.take(Task::Status(status("ca", Some("no answer (2)"))));
        assert_eq!(writer.patience(Duration::ZERO), Some(LONG_PAUSE));
        writer.take(Task::Status(status("ready", None)));
        assert_eq!(writer.patience(Duration::ZERO), Some(PAUSE));
    }
}
