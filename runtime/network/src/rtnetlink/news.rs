//! What the kernel tells of changes that others made.

use std::io;
use std::os::fd::AsRawFd as _;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket};
use tokio::net::UnixDatagram;

use super::message::{messages, u32_at};
use super::{NetlinkError, link, route};

/// Multicast groups of rtnetlink: links, and addresses and routes of IPv4 and IPv6 (`RTMGRP_*` of linux/rtnetlink.h).
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// An interface came, changed or is gone.
    Link {
        /// Its number.
        index: u32,
        /// Its name.
        name: String,
    },
    /// An interface got or lost an address.
    Address {
        /// The interface's number.
        link: u32,
    },
    /// A route of the main table came or is gone.
    Route {
        /// Whether it is ours.
        is_own: bool,
        /// Whether it leads everywhere.
        is_default: bool,
    },
}

/// A subscription to them.
pub(crate) struct Watch {
    socket: UnixDatagram,
    /// The socket whose doings are no news.
    own: u32,
    buffer: Vec<u8>,
}

impl Watch {
    /// Subscribes, but for what is done through the socket of this port. Must be called within tokio.
    pub(crate) fn start(own: u32) -> Result<Self, NetlinkError> {
        let open = || -> io::Result<UnixDatagram> {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
            bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
            // Of the types that tokio reads datagrams from, this one asks nothing of the address family.
            UnixDatagram::from_std(fd.into())
        };
        let socket = open().map_err(|error| {
            let cause = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
            NetlinkError::new("listen to changes of the network", cause)
        })?;
        Ok(Self { socket, own, buffer: vec![0; 16 << 10] })
    }

    /// Waits for news that `matters`. May be dropped and called again; nothing is lost by that.
    pub(crate) async fn until(&mut self, matters: impl Fn(&News) -> bool) {
        loop {
            let length = match self.socket.recv(&mut self.buffer).await {
                Ok(length) => length,
                // More was told than was listened to.
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => return,
                Err(error) => {
                    tracing::warn!(%error, "no news of the network; changes are noticed late");
                    return std::future::pending().await;
                }
            };
            let told = messages(self.buffer.get(..length).unwrap_or_default());
            let news = told.filter(|message| message.port != self.own || self.own == 0);
            if news.filter_map(|message| read(message.kind, message.body)).any(|news| matters(&news)) {
                return;
            }
        }
    }
}

fn read(kind: u16, body: &[u8]) -> Option<News> {
    match kind {
        16 | 17 => link::read(body).map(|link| News::Link { index: link.index, name: link.name }),
        20 | 21 => Some(News::Address { link: u32_at(body, 4)? }),
        24 | 25 => {
            let route = route::read(body)?;
            Some(News::Route { is_own: route.is_own, is_default: route.to.prefix() == 0 })
        }
        _ => None,
    }
}
