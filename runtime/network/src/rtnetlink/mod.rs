//! The kernel's interfaces, addresses, routes and neighbours, by the rtnetlink protocol: only the few messages that the overlay
//! and announced addresses need; and the socket and messages of netlink for others. The kernel works a request off while it is sent, so nothing here waits but for a module to be loaded.

mod address;
mod link;
mod message;
mod neighbour;
mod news;
mod route;

use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname, recv, send, setsockopt,
    socket,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

pub(crate) use self::address::Address;
pub(crate) use self::link::{Link, Mac, Vxlan};
pub(crate) use self::message::{Message, address, attribute, attributes, u16_at};
pub(crate) use self::neighbour::{Forwarding, Neighbour};
pub(crate) use self::news::{News, Watch};
pub(crate) use self::route::Route;

pub(crate) const REQUEST: u16 = 1;
/// Every request but that for a table asks for this, so that its answer has an end.
pub(crate) const ACK: u16 = 4;
const ROOT: u16 = 0x100;
const MATCH: u16 = 0x200;
pub(crate) const DUMP: u16 = ROOT | MATCH;
const DUMP_INTERRUPTED: u16 = 0x10;
/// Put in the place of what is there.
const REPLACE: u16 = 0x100;
/// Refuse if something is there.
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// How long the kernel may take; it usually has answered before one asks.
const TIMEOUT: i64 = 10;
/// As much as the kernel puts into one part of a dump.
const BUFFER: usize = 32 << 10;
/// Tries to see a table that others change meanwhile.
const TRIES: usize = 5;

/// The kernel refused or could not do something.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}: {}", cause.desc())]
pub struct NetlinkError {
    /// What was to be done, and to what.
    pub(crate) what: String,
    /// The kernel's reason.
    pub(crate) cause: Errno,
}

impl NetlinkError {
    pub(crate) fn new(what: impl Into<String>, cause: Errno) -> Self {
        Self { what: what.into(), cause }
    }
}

/// A way to the kernel, into the network namespace that it was opened in.
pub(crate) struct Netlink {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens one to the kernel's routing, in the network namespace of this thread.
    ///
    /// # Errors
    /// When the kernel has none.
    pub(crate) fn route() -> Result<Self, NetlinkError> {
        Self::open(SockProtocol::NetlinkRoute)
    }

    /// Opens one to a part of the kernel, in the network namespace of this thread.
    ///
    /// # Errors
    /// When the kernel does not have it.
    pub(crate) fn open(protocol: SockProtocol) -> Result<Self, NetlinkError> {
        let failed = |cause| NetlinkError::new("open a netlink socket", cause);
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).map_err(failed)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(failed)?;
        setsockopt(&fd, ReceiveTimeout, &TimeVal::seconds(TIMEOUT)).map_err(failed)?;
        Ok(Self { fd, sequence: 0, buffer: vec![0; BUFFER] })
    }

    /// The number by which the kernel names this socket in news of what it did.
    pub(crate) fn port(&self) -> Result<u32, NetlinkError> {
        let address = getsockname::<NetlinkAddr>(self.fd.as_raw_fd());
        address.map(|address| address.pid()).map_err(|cause| NetlinkError::new("name a netlink socket", cause))
    }

    /// Has something changed, and waits until it is.
    pub(crate) fn change(&mut self, message: Message, what: impl FnOnce() -> String) -> Result<(), NetlinkError> {
        self.exchange(message, |_| {}).map_err(|cause| NetlinkError::new(what(), cause))
    }

    /// Reads a whole table.
    fn dump<T>(
        &mut self,
        kind: u16,
        fixed: &[u8],
        what: &str,
        read: fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        self.dump_of(&Message::new(kind, REQUEST | DUMP, fixed), what, read)
    }

    /// Reads what a request asks for, which says that it is for a table.
    pub(crate) fn dump_of<T>(
        &mut self,
        request: &Message,
        what: &str,
        read: fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        let mut tries = 0;
        loop {
            let mut found = Vec::new();
            let asked = self.exchange(request.clone(), |body| found.extend(read(body)));
            match asked {
                Ok(()) => return Ok(found),
                // It changed meanwhile, so that a part may have been missed.
                Err(Errno::EINTR) if tries < TRIES => tries += 1,
                Err(cause) => return Err(NetlinkError::new(format!("list {what}"), cause)),
            }
        }
    }

    /// Sends a request, has each message of the answer told, and waits for its end.
    pub(crate) fn exchange(&mut self, message: Message, mut tell: impl FnMut(&[u8])) -> Result<(), Errno> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = message.finish(self.sequence);
        send(self.fd.as_raw_fd(), &bytes, MsgFlags::empty())?;
        let mut is_interrupted = false;
        loop {
            let length = match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                // A signal, not the kernel's answer.
                Err(Errno::EINTR) => continue,
                received => received?,
            };
            // An answer to an earlier request that was given up is passed over.
            let own = |received: &message::Received<'_>| received.sequence == self.sequence;
            for received in message::messages(self.buffer.get(..length).unwrap_or_default()).filter(own) {
                is_interrupted |= received.flags & DUMP_INTERRUPTED != 0;
                match received.kind {
                    NLMSG_DONE if is_interrupted => return Err(Errno::EINTR),
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => {
                        return match message::u32_at(received.body, 0).map_or(0, u32::cast_signed) {
                            0 => Ok(()),
                            code => Err(Errno::from_raw(code.saturating_neg())),
                        };
                    }
                    _ => tell(received.body),
                }
            }
        }
    }
}

/// The number of an address family.
pub(crate) fn family(is_ipv4: bool) -> u8 {
    let family = if is_ipv4 { nix::libc::AF_INET } else { nix::libc::AF_INET6 };
    u8::try_from(family).unwrap_or_default()
}
