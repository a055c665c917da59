//! Hears from the kernel when an interface gets or loses an address, or a route changes, by which the best address is chosen.

use std::os::fd::AsRawFd as _;

use nix::sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket};
use tokio::net::UnixDatagram;

/// Multicast groups of rtnetlink: addresses and routes of IPv4 and IPv6 (`RTMGRP_*_IFADDR`, `RTMGRP_*_ROUTE` of
/// linux/rtnetlink.h).
const GROUPS: u32 = 0x10 | 0x40 | 0x100 | 0x400;

/// A subscription to address changes.
pub struct AddressWatch(Option<UnixDatagram>);

impl AddressWatch {
    /// Subscribes; must be called within tokio. Where the system doesn't allow that, it is logged, and nothing is ever heard.
    pub fn start() -> Self {
        let socket = open().inspect_err(
            |error| tracing::warn!(%error, "no news of addresses: a change is noticed late, or at a restart"),
        );
        AddressWatch(socket.ok())
    }

    /// Ends when addresses may have changed since the last call.
    pub async fn changed(&mut self) {
        let Some(socket) = &self.0 else {
            return std::future::pending().await;
        };
        let mut buffer = [0; 8192];
        // What the message says doesn't matter: the addresses are read anew.
        match socket.recv(&mut buffer).await {
            Ok(_) => {}
            // Messages were lost, which says the same.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {}
            Err(_) => self.0 = None,
        }
    }
}

fn open() -> std::io::Result<UnixDatagram> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
    // Of the types that tokio reads datagrams from, this one asks nothing of the address family.
    UnixDatagram::from_std(fd.into())
}
