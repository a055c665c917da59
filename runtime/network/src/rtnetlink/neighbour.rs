//! Neighbours: which hardware address stands for an address on a link, and through which node a hardware address of a VXLAN is
//! reached.

use std::net::IpAddr;

use nix::errno::Errno;

use super::message::{address, attribute, u16_at, u32_at};
use super::{ACK, CREATE, Mac, Message, Netlink, NetlinkError, REPLACE, REQUEST, family};

const NEW_NEIGHBOUR: u16 = 28;
const DELETE_NEIGHBOUR: u16 = 29;
const GET_NEIGHBOUR: u16 = 30;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const PERMANENT: u16 = 0x80;
const SELF: u8 = 2;
const PROXY: u8 = 8;
const BRIDGE: u8 = 7;
/// Bytes of `struct ndmsg`.
const FIXED: usize = 12;

/// The hardware address of an address, noted for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Neighbour {
    /// The interface's number.
    pub(crate) link: u32,
    /// The address.
    pub(crate) ip: IpAddr,
    /// What it is reached by.
    pub(crate) mac: Mac,
}

/// An entry of a VXLAN's forwarding table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forwarding {
    /// The interface's number.
    pub(crate) link: u32,
    /// The hardware address inside.
    pub(crate) mac: Mac,
    /// The node outside.
    pub(crate) to: IpAddr,
}

impl Netlink {
    /// The neighbours that are noted for good, of all interfaces.
    pub(crate) fn neighbours(&mut self) -> Result<Vec<Neighbour>, NetlinkError> {
        self.dump(GET_NEIGHBOUR, &[0; FIXED], "the neighbours", read_neighbour)
    }

    /// The forwarding tables of all VXLAN interfaces.
    pub(crate) fn forwarding(&mut self) -> Result<Vec<Forwarding>, NetlinkError> {
        let mut fixed = [0; FIXED];
        fixed[0] = BRIDGE;
        self.dump(GET_NEIGHBOUR, &fixed, "the forwarding tables", read_forwarding)
    }

    /// Notes a neighbour, over what is known of its address.
    pub(crate) fn set_neighbour(&mut self, neighbour: &Neighbour) -> Result<(), NetlinkError> {
        let flags = REQUEST | ACK | CREATE | REPLACE;
        let mut message = Message::new(NEW_NEIGHBOUR, flags, &fixed(family(neighbour.ip.is_ipv4()), neighbour.link, 0));
        message.put_address(NDA_DST, neighbour.ip);
        message.put(NDA_LLADDR, &neighbour.mac.0);
        self.change(message, || format!("note the neighbour {}", neighbour.ip))
    }

    /// Has the kernel answer for an address of IPv6 as if it were the interface's own.
    pub(crate) fn add_proxy(&mut self, link: u32, ip: IpAddr) -> Result<(), NetlinkError> {
        let flags = REQUEST | ACK | CREATE | REPLACE;
        let mut message = Message::new(NEW_NEIGHBOUR, flags, &fixed(family(ip.is_ipv4()), link, PROXY));
        message.put_address(NDA_DST, ip);
        self.change(message, || format!("answer for {ip}"))
    }

    /// Ends that; what is not so is no error.
    pub(crate) fn delete_proxy(&mut self, link: u32, ip: IpAddr) -> Result<(), NetlinkError> {
        let mut message = Message::new(DELETE_NEIGHBOUR, REQUEST | ACK, &fixed(family(ip.is_ipv4()), link, PROXY));
        message.put_address(NDA_DST, ip);
        match self.change(message, || format!("no longer answer for {ip}")) {
            Err(error) if error.cause == Errno::ENOENT => Ok(()),
            done => done,
        }
    }

    /// Forgets a neighbour.
    pub(crate) fn delete_neighbour(&mut self, neighbour: &Neighbour) -> Result<(), NetlinkError> {
        let fixed = fixed(family(neighbour.ip.is_ipv4()), neighbour.link, 0);
        let mut message = Message::new(DELETE_NEIGHBOUR, REQUEST | ACK, &fixed);
        message.put_address(NDA_DST, neighbour.ip);
        self.change(message, || format!("forget the neighbour {}", neighbour.ip))
    }

    /// Sends what is for a hardware address to a node, in place of where it was sent.
    pub(crate) fn set_forwarding(&mut self, entry: &Forwarding) -> Result<(), NetlinkError> {
        let mut message =
            Message::new(NEW_NEIGHBOUR, REQUEST | ACK | CREATE | REPLACE, &fixed(BRIDGE, entry.link, SELF));
        message.put(NDA_LLADDR, &entry.mac.0);
        message.put_address(NDA_DST, entry.to);
        self.change(message, || format!("forward {} to {}", entry.mac, entry.to))
    }

    /// Ends such forwarding.
    pub(crate) fn delete_forwarding(&mut self, entry: &Forwarding) -> Result<(), NetlinkError> {
        let mut message = Message::new(DELETE_NEIGHBOUR, REQUEST | ACK, &fixed(BRIDGE, entry.link, SELF));
        message.put(NDA_LLADDR, &entry.mac.0);
        message.put_address(NDA_DST, entry.to);
        self.change(message, || format!("no longer forward {} to {}", entry.mac, entry.to))
    }
}

fn fixed(family: u8, link: u32, flags: u8) -> [u8; FIXED] {
    let mut fixed = [0; FIXED];
    fixed[0] = family;
    fixed[4..8].copy_from_slice(&link.to_ne_bytes());
    fixed[8..10].copy_from_slice(&PERMANENT.to_ne_bytes());
    fixed[10] = flags;
    fixed
}

fn read_neighbour(body: &[u8]) -> Option<Neighbour> {
    let (link, mac, to) = read(body)?;
    (u16_at(body, 8)? & PERMANENT != 0).then_some(Neighbour { link, ip: to, mac })
}

fn read_forwarding(body: &[u8]) -> Option<Forwarding> {
    let (link, mac, to) = read(body)?;
    Some(Forwarding { link, mac, to })
}

fn read(body: &[u8]) -> Option<(u32, Mac, IpAddr)> {
    let rest = body.get(FIXED..)?;
    let mac = Mac(attribute(rest, NDA_LLADDR)?.try_into().ok()?);
    Some((u32_at(body, 4)?, mac, address(attribute(rest, NDA_DST)?)?))
}
