//! The only thread that writes to CONFIG. It keeps flash wear low: a status is written when it differs from what is on
//! the card, and not more often than every [`PAUSE`].

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::medium::{replace, with_writable};
use super::status::Status;
use super::{MOUNT, scrub};
use crate::clock;
use crate::console::say;
use crate::error::Result;
use crate::sys::mount::is_mounted;
use crate::sys::uptime;

/// Shortest time between two status files.
const PAUSE: Duration = Duration::from_secs(10);

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
    crate::thread::spawn("config", move || Writer::default().run(&receiver))?;
    Ok(sender)
}

#[derive(Default)]
struct Writer {
    pending: Option<Status>,
    written: Option<Status>,
    not_before: Duration,
    told: Option<String>,
}

impl Writer {
    fn run(&mut self, inbox: &Receiver<Task>) {
        loop {
            let task = match self.patience(uptime::now()) {
                Some(patience) => inbox.recv_timeout(patience),
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match task {
                Ok(task) => self.take(task),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.patience(uptime::now()) == Some(Duration::ZERO) {
                self.write_status();
            }
        }
    }

    fn take(&mut self, task: Task) {
        match task {
            Task::Status(status) => {
                self.pending = Some(status).filter(|s| self.written.as_ref() != Some(s))
            }
            Task::ScrubToken => self.report(scrub::token(&clock::text()).map(|had| {
                if had {
                    say!("the single-use token was removed from CONFIG");
                }
            })),
            Task::RemoveCa => self.report(scrub::imported_ca()),
            Task::Mounted => self.not_before = Duration::ZERO,
            Task::Flush(done) => {
                if self.pending.is_some() && is_mounted(MOUNT) {
                    self.write_status();
                }
                // Whoever asked may have stopped waiting.
                let _ = done.send(());
            }
        }
    }

    /// How long to wait for more tasks before the pending status is written; `None` when nothing is pending.
    fn patience(&self, now: Duration) -> Option<Duration> {
        self.pending
            .as_ref()
            .map(|_| self.not_before.saturating_sub(now))
    }

    fn write_status(&mut self) {
        self.not_before = uptime::now() + PAUSE;
        if !is_mounted(MOUNT) {
            return;
        }
        let Some(status) = self.pending.take() else {
            return;
        };
        let text = status.render(clock::known_text().as_deref());
        let outcome =
            with_writable(|| replace(&Path::new(MOUNT).join("join-status.txt"), text.as_bytes()));
        if outcome.is_ok() {
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

    #[test]
    fn an_unchanged_status_is_not_written_again() {
        let status = Status {
            step: "ca".into(),
            ..Status::default()
        };
        let mut writer = Writer {
            written: Some(status.clone()),
            ..Writer::default()
        };
        writer.take(Task::Status(status.clone()));
        assert_eq!(writer.patience(Duration::ZERO), None);
        writer.take(Task::Status(Status {
            step: "csr".into(),
            ..status
        }));
        assert_eq!(writer.patience(Duration::ZERO), Some(Duration::ZERO));
    }

    #[test]
    fn changes_in_quick_succession_make_one_write() {
        let mut writer = Writer {
            not_before: Duration::from_secs(20),
            ..Writer::default()
        };
        for step in ["ca", "time", "csr"] {
            writer.take(Task::Status(Status {
                step: step.into(),
                ..Status::default()
            }));
        }
        assert_eq!(
            writer.patience(Duration::from_secs(15)),
            Some(Duration::from_secs(5))
        );
        assert_eq!(writer.pending.map(|s| s.step), Some("csr".into()));
    }
}
