//! Addresses of interfaces.

use std::net::IpAddr;

use super::message::{address, attribute, u32_at};
use super::{ACK, CREATE, Message, Netlink, NetlinkError, REPLACE, REQUEST, family};

const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
const IFA_PROTO: u16 = 11;
/// What announced addresses are marked with: any number that nobody else takes, and a label.
const ANNOUNCED: u8 = 0x6c;
const LABEL: &str = "lo:kiln-lb";
/// Of IPv6: not asked after on the link first.
const IFA_F_NODAD: u8 = 2;
/// Scopes: the world's, and the link's.
const UNIVERSE: u8 = 0;
/// Bytes of `struct ifaddrmsg`.
const FIXED: usize = 8;

/// An address that an interface has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    /// The interface's number.
    pub(crate) link: u32,
    /// The address.
    pub(crate) ip: IpAddr,
    /// How many of its bits all on the link share.
    pub(crate) prefix: u8,
    /// Whether it means something beyond its link.
    pub(crate) is_global: bool,
}

impl Netlink {
    /// The addresses of all interfaces.
    pub(crate) fn addresses(&mut self) -> Result<Vec<Address>, NetlinkError> {
        self.dump(GET_ADDRESS, &[0; FIXED], "the addresses", read)
    }

    /// Gives an address that stands for itself alone.
    pub(crate) fn add_host(&mut self, link: u32, ip: IpAddr) -> Result<(), NetlinkError> {
        let prefix = if ip.is_ipv4() { 32 } else { 128 };
        let mut message = Message::new(NEW_ADDRESS, REQUEST | ACK | CREATE | REPLACE, &fixed(link, ip, prefix));
        message.put_address(IFA_LOCAL, ip);
        message.put_address(IFA_ADDRESS, ip);
        self.change(message, || format!("give address {ip} to interface {link}"))
    }

    /// The addresses of an interface that are announced to neighbours.
    pub(crate) fn announced(&mut self, link: u32) -> Result<Vec<IpAddr>, NetlinkError> {
        let all =
            self.dump(GET_ADDRESS, &[0; FIXED], "the addresses", |body| Some((read(body)?, is_announced(body))))?;
        let ours = all.into_iter().filter(|(address, is_announced)| *is_announced && address.link == link);
        Ok(ours.map(|(address, _)| address.ip).collect())
    }

    /// Gives an address that stands for itself alone and is to be announced to neighbours.
    pub(crate) fn add_announced(&mut self, link: u32, ip: IpAddr) -> Result<(), NetlinkError> {
        let prefix = if ip.is_ipv4() { 32 } else { 128 };
        let mut message = Message::new(NEW_ADDRESS, REQUEST | ACK | CREATE | REPLACE, &fixed(link, ip, prefix));
        message.put_address(IFA_LOCAL, ip);
        message.put_address(IFA_ADDRESS, ip);
        message.put(IFA_PROTO, &[ANNOUNCED]);
        if ip.is_ipv4() {
            message.put_text(IFA_LABEL, LABEL);
        }
        self.change(message, || format!("give address {ip} to interface {link}"))
    }

    /// Takes an announced address away.
    pub(crate) fn delete_announced(&mut self, link: u32, ip: IpAddr) -> Result<(), NetlinkError> {
        let prefix = if ip.is_ipv4() { 32 } else { 128 };
        self.delete_address(Address { link, ip, prefix, is_global: true })
    }

    /// Takes an address away.
    pub(crate) fn delete_address(&mut self, address: Address) -> Result<(), NetlinkError> {
        let mut message = Message::new(DELETE_ADDRESS, REQUEST | ACK, &fixed(address.link, address.ip, address.prefix));
        message.put_address(IFA_LOCAL, address.ip);
        self.change(message, || format!("take address {} from interface {}", address.ip, address.link))
    }
}

fn fixed(link: u32, ip: IpAddr, prefix: u8) -> [u8; FIXED] {
    let flags = if ip.is_ipv4() { 0 } else { IFA_F_NODAD };
    let [a, b, c, d] = link.to_ne_bytes();
    [family(ip.is_ipv4()), prefix, flags, UNIVERSE, a, b, c, d]
}

/// Whether an address has our mark; before Linux 5.18 those of IPv6 have none.
fn is_announced(body: &[u8]) -> bool {
    let rest = body.get(FIXED..).unwrap_or_default();
    let label = attribute(rest, IFA_LABEL).and_then(|label| label.strip_suffix(&[0]));
    attribute(rest, IFA_PROTO).is_some_and(|mark| *mark == [ANNOUNCED]) || label == Some(LABEL.as_bytes())
}

fn read(body: &[u8]) -> Option<Address> {
    let rest = body.get(FIXED..)?;
    // Of a point-to-point link the other one is the far end's.
    let ip = address(attribute(rest, IFA_LOCAL).or_else(|| attribute(rest, IFA_ADDRESS))?)?;
    Some(Address { link: u32_at(body, 4)?, ip, prefix: *body.get(1)?, is_global: *body.get(3)? == UNIVERSE })
}
