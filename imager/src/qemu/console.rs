//! The terminal while a VM runs: keys go to the guest as they are typed, Ctrl-C and the other requests to end come back
//! as events.

use std::{
    io::{self, Read, Write},
    process::ChildStdin,
    sync::mpsc::Sender,
    thread,
};

use nix::sys::{
    signal::{SigSet, Signal},
    termios::{self, LocalFlags, SetArg, Termios},
};

use super::run::Event;

/// Signals that ask for the end of a run.
pub(super) fn endings() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect()
}

/// Turns the signals that ask for an end into events, for this process and the threads it starts from now on.
///
/// # Errors
/// What the system says.
pub(super) fn watch_endings(events: Sender<Event>) -> io::Result<()> {
    let signals = endings();
    signals.thread_block()?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || while signals.wait().is_ok() && events.send(Event::Ending).is_ok() {})?;
    Ok(())
}

/// Copies keys to the guest until either side closes.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn forward_keys(mut guest: ChildStdin) -> io::Result<()> {
    thread::Builder::new().name("keys".to_owned()).spawn(move || {
        let mut buffer = [0; 256];
        let mut keys = io::stdin();
        while let Ok(count @ 1..) = keys.read(&mut buffer) {
            if guest.write_all(&buffer[..count]).and_then(|()| guest.flush()).is_err() {
                break;
            }
        }
    })?;
    Ok(())
}

/// A terminal that passes each key on at once and unechoed, until dropped. Ctrl-C still makes a signal.
#[derive(Debug)]
pub(super) struct Keys(Option<Termios>);

impl Keys {
    /// Switches the terminal on stdin over, if stdin is one.
    pub(super) fn take() -> Self {
        let before = termios::tcgetattr(io::stdin()).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
            let _ = termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &raw);
        }
        Self(before)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = termios::tcsetattr(io::stdin(), SetArg::TCSADRAIN, before);
        }
    }
}
