//! Kernel device events (netlink `KOBJECT_UEVENT`): how PID 1 waits for disks and buttons instead of sleeping.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket, sockopt,
};

use crate::error::{Error, Result};

/// One device event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uevent {
    /// `add`, `remove`, `change`, ...
    pub(crate) action: String,
    /// `block`, `input`, `net`, ...
    pub(crate) subsystem: String,
    /// The node's name under `/dev`, if it has one.
    pub(crate) devname: Option<String>,
    /// What modules' aliases are compared with; a device that firmware describes in two ways has two.
    pub(crate) modaliases: Vec<String>,
}

impl Uevent {
    /// Parses a datagram: `ACTION@DEVPATH\0KEY=VALUE\0...`. Other senders' formats give `None`.
    pub(crate) fn parse(datagram: &[u8]) -> Option<Self> {
        let mut fields = datagram.split(|b| *b == 0).filter_map(|f| std::str::from_utf8(f).ok());
        let (action, _) = fields.next()?.split_once('@')?;
        let mut event = Self { action: action.to_owned(), ..Self::default() };
        for field in fields {
            match field.split_once('=') {
                Some(("SUBSYSTEM", v)) => event.subsystem = v.to_owned(),
                Some(("DEVNAME", v)) => event.devname = Some(v.to_owned()),
                Some(("MODALIAS", v)) => event.modaliases.push(v.to_owned()),
                _ => {}
            }
        }
        Some(event)
    }
}

/// The kernel's broadcast of device events.
#[derive(Debug)]
pub(crate) struct UeventSocket(OwnedFd);

impl UeventSocket {
    /// Starts to listen; events from now on are kept until they are read.
    pub(crate) fn open() -> Result<Self> {
        let path = "the kernel's uevent socket";
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkKObjectUEvent,
        )
        .map_err(|e| Error::sys("open", path, e))?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 1)).map_err(|e| Error::sys("bind", path, e))?;
        // Loading a hundred modules makes a burst; a lost event costs a rescan, so failing to enlarge is harmless.
        let _ = setsockopt(&fd, sockopt::RcvBuf, &(256 * 1024));
        Ok(Self(fd))
    }

    /// Waits for an event, at most this long; tells whether one is there.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        matches!(poll(&mut fds, timeout), Ok(n) if n > 0)
    }

    /// Takes all waiting events. When the kernel had to drop some, an event of action `lost` stands for them.
    pub(crate) fn drain(&self) -> Vec<Uevent> {
        let mut events = Vec::new();
        let mut buffer = [0u8; 8192];
        loop {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(0) => return events,
                Ok(n) => events.extend(Uevent::parse(&buffer[..n])),
                Err(Errno::ENOBUFS) => events.push(Uevent { action: "lost".into(), ..Uevent::default() }),
                Err(Errno::EINTR) => {}
                Err(_) => return events,
            }
        }
    }
}

impl AsFd for UeventSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_event_gives_action_subsystem_and_node() {
        let text =
            b"add@/devices/x/block/vda/vda1\0ACTION=add\0DEVPATH=/devices/x\0SUBSYSTEM=block\0DEVNAME=vda1\0SEQNUM=9\0";
        let event = Uevent::parse(text).expect("an event");
        assert_eq!(event.action, "add");
        assert_eq!(event.subsystem, "block");
        assert_eq!(event.devname.as_deref(), Some("vda1"));
    }

    #[test]
    fn an_event_tells_all_aliases_of_its_device() {
        let event =
            Uevent::parse(b"add@/devices/u\0SUBSYSTEM=usb\0MODALIAS=usb:v1\0MODALIAS=acpi:X:\0").expect("an event");
        assert_eq!(event.modaliases, ["usb:v1", "acpi:X:"]);
    }

    #[test]
    fn a_datagram_of_udev_is_ignored() {
        assert_eq!(Uevent::parse(b"libudev\0\xfe\xed\xca\xfe"), None);
        assert_eq!(Uevent::parse(b""), None);
    }
}
