//! Messages from other threads to the main loop.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::error::{Error, Result};
use crate::report::PhaseReport;
use crate::services::Spec;

/// How far the phases are.
#[derive(Clone, Debug, Default)]
pub(crate) struct PhasesUpdate {
    /// Reports so far.
    pub(crate) reports: Vec<PhaseReport>,
    /// What a person can do about the failure that came last.
    pub(crate) help: Option<String>,
    /// Whether each phase was tried or waits for a failed one.
    pub(crate) settled: bool,
    /// Name of the node, once known.
    pub(crate) name: Option<String>,
    /// Role, once known.
    pub(crate) role: Option<String>,
}

/// A message.
#[derive(Debug)]
pub(crate) enum Event {
    /// Supervise this service.
    Start(Spec),
    /// Addresses or cables changed.
    Network,
    /// A phase ended.
    Phases(PhasesUpdate),
}

/// The sending side; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Bus {
    sender: Sender<Event>,
    wake: Arc<EventFd>,
}

impl Bus {
    /// Sends and wakes the main loop.
    pub(crate) fn send(&self, event: Event) {
        // The main loop never ends, so the channel is never closed.
        let _ = self.sender.send(event);
        let _ = self.wake.write(1);
    }
}

/// The main loop's side.
#[derive(Debug)]
pub(crate) struct Inbox {
    receiver: Receiver<Event>,
    wake: Arc<EventFd>,
}

impl Inbox {
    /// Takes all messages.
    pub(crate) fn drain(&self) -> Vec<Event> {
        let _ = self.wake.read();
        self.receiver.try_iter().collect()
    }
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// A new pair.
pub(crate) fn open() -> Result<(Bus, Inbox)> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let wake = Arc::new(EventFd::from_value_and_flags(0, flags).map_err(|e| Error::sys("open", "eventfd", e))?);
    let (sender, receiver) = channel();
    Ok((Bus { sender, wake: Arc::clone(&wake) }, Inbox { receiver, wake }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_in_order_and_once() {
        let (bus, inbox) = open().expect("a bus");
        bus.clone().send(Event::Network);
        bus.send(Event::Phases(PhasesUpdate::default()));
        assert!(matches!(inbox.drain()[..], [Event::Network, Event::Phases(_)]));
        assert!(inbox.drain().is_empty());
    }
}
