//! The main loop's one poll.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::System;
use crate::sys::uptime;

/// What can be read without waiting.
#[derive(Debug, Default)]
pub(super) struct Ready {
    pub(super) signals: bool,
    pub(super) inbox: bool,
    pub(super) uevents: bool,
    pub(super) notify: bool,
    /// Indices of buttons.
    pub(super) buttons: Vec<usize>,
    /// Indices of services with output.
    pub(super) outputs: Vec<usize>,
}

/// Waits until something is ready or due.
pub(super) fn wait(system: &System) -> Ready {
    let outputs: Vec<usize> =
        system.services.iter().enumerate().filter(|(_, s)| s.output().is_some()).map(|(i, _)| i).collect();
    let mut fds: Vec<PollFd<'_>> =
        [system.signals.as_fd(), system.inbox.as_fd(), system.uevents.as_fd(), system.notify.as_fd()]
            .into_iter()
            .chain(system.buttons.iter().map(AsFd::as_fd))
            .chain(outputs.iter().filter_map(|i| system.services[*i].output()))
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
    // Rounded up to whole milliseconds: waking early would turn round in vain.
    let patience = system.due().saturating_sub(uptime::now());
    let patience = if patience.is_zero() { patience } else { patience + Duration::from_millis(1) };
    if poll(&mut fds, PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX)).is_err() {
        return Ready::default();
    }
    let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
    let buttons = system.buttons.len();
    Ready {
        signals: ready[0],
        inbox: ready[1],
        uevents: ready[2],
        notify: ready[3],
        buttons: (0..buttons).filter(|i| ready[4 + i]).collect(),
        outputs: outputs.iter().zip(&ready[4 + buttons..]).filter(|(_, ready)| **ready).map(|(i, _)| *i).collect(),
    }
}
