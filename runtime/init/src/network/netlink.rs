//! Just enough rtnetlink: list links, set one up, add and remove addresses and routes, hear of changes.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

use crate::error::{Error, Result};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const REPLACE: u16 = 0x100;
const CREATE: u16 = 0x400;
/// The multicast group of link changes.
pub(super) const LINK_GROUP: u32 = 1;

const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;
const IFF_LOWER_UP: u32 = 0x1_0000;
const ARPHRD_ETHER: u16 = 1;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;

/// A network interface as the kernel tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mac: Option<[u8; 6]>,
    pub(super) ethernet: bool,
    pub(super) loopback: bool,
    pub(super) up: bool,
    /// The cable is in and the other end is there.
    pub(super) carrier: bool,
}

/// A message under construction.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0u8; 16];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(body);
        Self(bytes)
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend(((4 + value.len()) as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn address(self, kind: u16, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => self.attribute(kind, &v4.octets()),
            IpAddr::V6(v6) => self.attribute(kind, &v6.octets()),
        }
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

/// A netlink socket; one for requests, another for events.
#[derive(Debug)]
pub(super) struct Netlink {
    fd: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket that hears `groups`; with groups it does not block.
    pub(super) fn open(groups: u32) -> Result<Self> {
        let path = "the kernel's route socket";
        let flags = if groups == 0 { SockFlag::SOCK_CLOEXEC } else { SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK };
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)
            .map_err(|e| Error::sys("open", path, e))?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups)).map_err(|e| Error::sys("bind", path, e))?;
        Ok(Self { fd, sequence: 0 })
    }

    /// Throws away waiting events: their receipt is the news, and a dump then tells all.
    pub(super) fn discard_events(&self) {
        let mut buffer = [0u8; 8192];
        while !matches!(recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty()), Ok(0) | Err(Errno::EAGAIN)) {}
    }

    /// All links.
    pub(super) fn links(&mut self) -> Result<Vec<Link>> {
        let request = Message::new(RTM_GETLINK, DUMP, &[0; 16]);
        let mut links = Vec::new();
        self.exchange("list", "network interfaces", request, |kind, body| {
            if kind == RTM_NEWLINK {
                links.extend(parse_link(body));
            }
        })?;
        Ok(links)
    }

    /// Sets a link up, with an MTU if one is given.
    pub(super) fn set_up(&mut self, index: u32, name: &str, mtu: Option<u16>) -> Result<()> {
        let mut body = [0u8; 16];
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        body[8..12].copy_from_slice(&IFF_UP.to_ne_bytes());
        body[12..16].copy_from_slice(&IFF_UP.to_ne_bytes());
        let mut message = Message::new(RTM_NEWLINK, ACK, &body);
        if let Some(mtu) = mtu {
            message = message.attribute(IFLA_MTU, &u32::from(mtu).to_ne_bytes());
        }
        self.exchange("set up", name, message, |_, _| {})
    }

    /// Gives a link an address, or renews it.
    pub(super) fn add_address(&mut self, index: u32, address: IpAddr, prefix: u8) -> Result<()> {
        let mut message = address_message(RTM_NEWADDR, ACK | CREATE | REPLACE, index, address, prefix);
        if let (IpAddr::V4(v4), 1..=30) = (address, prefix) {
            let broadcast = Ipv4Addr::from(u32::from(v4) | u32::MAX >> prefix);
            message = message.attribute(IFA_BROADCAST, &broadcast.octets());
        }
        self.exchange("set the address", &format!("{address}/{prefix}"), message, |_, _| {})
    }

    /// Takes an address off a link.
    pub(super) fn remove_address(&mut self, index: u32, address: IpAddr, prefix: u8) -> Result<()> {
        let message = address_message(RTM_DELADDR, ACK, index, address, prefix);
        self.exchange("remove the address", &format!("{address}/{prefix}"), message, |_, _| {})
    }

    /// Adds a route; an unspecified gateway means that the destination is on the link.
    pub(super) fn add_route(
        &mut self,
        index: u32,
        destination: IpAddr,
        prefix: u8,
        gateway: IpAddr,
        metric: u32,
    ) -> Result<()> {
        const TABLE_MAIN: u8 = 254;
        const PROTOCOL_STATIC: u8 = 4;
        const SCOPE_LINK: u8 = 253;
        const UNICAST: u8 = 1;
        let scope = if gateway.is_unspecified() { SCOPE_LINK } else { 0 };
        let body = [family(destination), prefix, 0, 0, TABLE_MAIN, PROTOCOL_STATIC, scope, UNICAST, 0, 0, 0, 0];
        let mut message = Message::new(RTM_NEWROUTE, ACK | CREATE | REPLACE, &body)
            .attribute(RTA_OIF, &index.to_ne_bytes())
            .attribute(RTA_PRIORITY, &metric.to_ne_bytes());
        if prefix > 0 {
            message = message.address(RTA_DST, destination);
        }
        if !gateway.is_unspecified() {
            message = message.address(RTA_GATEWAY, gateway);
        }
        self.exchange("set the route", &format!("{destination}/{prefix} by {gateway}"), message, |_, _| {})
    }

    /// Sends a request and hands each answer to `take`, up to the acknowledgement or the dump's end.
    fn exchange(
        &mut self,
        what: &'static str,
        about: &str,
        message: Message,
        mut take: impl FnMut(u16, &[u8]),
    ) -> Result<()> {
        self.sequence += 1;
        let failed = |e| Error::sys(what, about, e);
        send(self.fd.as_raw_fd(), &message.finish(self.sequence), MsgFlags::empty()).map_err(failed)?;
        let mut buffer = vec![0u8; 32 * 1024];
        loop {
            let length = match recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                other => other.map_err(failed)?,
            };
            for (kind, sequence, body) in messages(&buffer[..length]) {
                if sequence != self.sequence {
                    continue;
                }
                match kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => {
                        return match body.get(..4).map_or(0, |b| i32::from_ne_bytes([b[0], b[1], b[2], b[3]])) {
                            0 => Ok(()),
                            code => Err(failed(Errno::from_raw(-code))),
                        };
                    }
                    _ => take(kind, body),
                }
            }
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

fn address_message(kind: u16, flags: u16, index: u32, address: IpAddr, prefix: u8) -> Message {
    let mut body = [family(address), prefix, 0, 0, 0, 0, 0, 0];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    Message::new(kind, flags, &body).address(IFA_LOCAL, address).address(IFA_ADDRESS, address)
}

/// The messages in a datagram: type, sequence, body.
fn messages(datagram: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let header = rest.get(..16)?;
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let body = rest.get(16..length)?;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let sequence = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, sequence, body))
    })
}

fn parse_link(body: &[u8]) -> Option<Link> {
    let head = body.get(..16)?;
    let hardware = u16::from_ne_bytes([head[2], head[3]]);
    let index = u32::from_ne_bytes([head[4], head[5], head[6], head[7]]);
    let flags = u32::from_ne_bytes([head[8], head[9], head[10], head[11]]);
    let mut link = Link {
        index,
        name: String::new(),
        mac: None,
        ethernet: hardware == ARPHRD_ETHER,
        loopback: flags & IFF_LOOPBACK != 0,
        up: flags & IFF_UP != 0,
        carrier: flags & IFF_LOWER_UP != 0,
    };
    let mut rest = &body[16..];
    while let Some(head) = rest.get(..4) {
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let Some(value) = rest.get(4..length) else {
            break;
        };
        match u16::from_ne_bytes([head[2], head[3]]) {
            IFLA_IFNAME => link.name = String::from_utf8_lossy(value).trim_end_matches('\0').to_owned(),
            IFLA_ADDRESS => link.mac = value.try_into().ok(),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    (!link.name.is_empty()).then_some(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link_message() -> Vec<u8> {
        let mut body = [0u8; 16];
        body[2..4].copy_from_slice(&ARPHRD_ETHER.to_ne_bytes());
        body[4..8].copy_from_slice(&2u32.to_ne_bytes());
        body[8..12].copy_from_slice(&(IFF_UP | IFF_LOWER_UP).to_ne_bytes());
        Message::new(RTM_NEWLINK, 0, &body)
            .attribute(IFLA_IFNAME, b"eth0\0")
            .attribute(IFLA_ADDRESS, &[2, 0, 0, 0, 0, 7])
            .finish(5)
    }

    #[test]
    fn a_link_message_gives_name_address_and_carrier() {
        let bytes = link_message();
        let (kind, sequence, body) = messages(&bytes).next().expect("a message");
        assert_eq!((kind, sequence), (RTM_NEWLINK, 5));
        let link = parse_link(body).expect("a link");
        assert_eq!(link.name, "eth0");
        assert_eq!(link.mac, Some([2, 0, 0, 0, 0, 7]));
        assert!(link.up && link.carrier && link.ethernet && !link.loopback);
    }

    #[test]
    fn cut_messages_end_the_reading() {
        let bytes = link_message();
        for length in 0..bytes.len() {
            assert_eq!(messages(&bytes[..length]).count(), 0);
        }
        let mut endless = bytes.clone();
        endless[..4].copy_from_slice(&0u32.to_ne_bytes());
        assert_eq!(messages(&endless).count(), 0);
    }

    #[test]
    fn this_machines_loopback_is_listed() {
        let links = Netlink::open(0).and_then(|mut n| n.links()).expect("links");
        assert!(links.iter().any(|l| l.loopback && l.name == "lo"));
    }
}
