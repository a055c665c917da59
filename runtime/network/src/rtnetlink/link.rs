//! Network interfaces.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use super::message::{attribute, u32_at};
use super::{ACK, CREATE, EXCLUSIVE, Message, Netlink, NetlinkError, REQUEST};

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_LOCAL6: u16 = 17;

const UP: u32 = 1;
/// Bytes of `struct ifinfomsg`.
const FIXED: usize = 16;

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Mac(pub(crate) [u8; 6]);

impl FromStr for Mac {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2).ok_or(())?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| ())?;
        }
        if parts.next().is_some() { Err(()) } else { Ok(Self(octets)) }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// Its number.
    pub(crate) index: u32,
    /// Its name.
    pub(crate) name: String,
    /// Whether it is switched on.
    pub(crate) is_up: bool,
    /// Bytes of the largest packet.
    pub(crate) mtu: u32,
    /// Its hardware address, if it has one like that of Ethernet.
    pub(crate) mac: Option<Mac>,
    /// What kind of software makes it, as `vxlan`; empty for hardware.
    pub(crate) kind: String,
    /// Its settings, if it is a VXLAN.
    pub(crate) vxlan: Option<Vxlan>,
}

/// Settings of a VXLAN interface that stay as they were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Vxlan {
    /// The network's number, of 24 bits.
    pub(crate) vni: u32,
    /// The UDP port.
    pub(crate) port: u16,
    /// Whether it goes over IPv6.
    pub(crate) over_v6: bool,
    /// Whether it takes hardware addresses from packets.
    pub(crate) learns: bool,
}

impl Netlink {
    /// All interfaces.
    pub(crate) fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        self.dump(GET_LINK, &[0; FIXED], "the network interfaces", read)
    }

    /// Makes a VXLAN interface, switched on.
    pub(crate) fn add_vxlan(&mut self, name: &str, mac: Mac, mtu: u32, vxlan: Vxlan) -> Result<(), NetlinkError> {
        let mut message = Message::new(NEW_LINK, REQUEST | ACK | CREATE | EXCLUSIVE, &fixed(0, true));
        message.put_text(IFLA_IFNAME, name);
        message.put(IFLA_ADDRESS, &mac.0);
        message.put_u32(IFLA_MTU, mtu);
        message.nest(IFLA_LINKINFO, |info| {
            info.put(IFLA_INFO_KIND, b"vxlan");
            info.nest(IFLA_INFO_DATA, |data| {
                data.put_u32(IFLA_VXLAN_ID, vxlan.vni);
                data.put(IFLA_VXLAN_LEARNING, &[u8::from(vxlan.learns)]);
                data.put(IFLA_VXLAN_PORT, &vxlan.port.to_be_bytes());
                if vxlan.over_v6 {
                    data.put_address(IFLA_VXLAN_LOCAL6, IpAddr::V6(Ipv6Addr::UNSPECIFIED));
                }
            });
        });
        self.change(message, || format!("make the VXLAN interface {name}"))
    }

    /// Makes a WireGuard interface, switched on, with neither key nor peers.
    pub(crate) fn add_wireguard(&mut self, name: &str, mtu: u32) -> Result<(), NetlinkError> {
        let mut message = Message::new(NEW_LINK, REQUEST | ACK | CREATE | EXCLUSIVE, &fixed(0, true));
        message.put_text(IFLA_IFNAME, name);
        message.put_u32(IFLA_MTU, mtu);
        message.nest(IFLA_LINKINFO, |info| info.put(IFLA_INFO_KIND, b"wireguard"));
        self.change(message, || format!("make the WireGuard interface {name}"))
    }

    /// Switches an interface on, with these settings; one that has a hardware address also with that.
    pub(crate) fn set_link(&mut self, index: u32, mac: Option<Mac>, mtu: u32) -> Result<(), NetlinkError> {
        let mut message = Message::new(NEW_LINK, REQUEST | ACK, &fixed(index, true));
        if let Some(mac) = mac {
            message.put(IFLA_ADDRESS, &mac.0);
        }
        message.put_u32(IFLA_MTU, mtu);
        self.change(message, || format!("set interface {index} to an MTU of {mtu}"))
    }

    /// Removes an interface, with its addresses and routes.
    pub(crate) fn delete_link(&mut self, index: u32) -> Result<(), NetlinkError> {
        let message = Message::new(DELETE_LINK, REQUEST | ACK, &fixed(index, false));
        self.change(message, || format!("remove interface {index}"))
    }
}

fn fixed(index: u32, up: bool) -> [u8; FIXED] {
    let mut fixed = [0; FIXED];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    if up {
        fixed[8..12].copy_from_slice(&UP.to_ne_bytes());
        fixed[12..16].copy_from_slice(&UP.to_ne_bytes());
    }
    fixed
}

/// Reads `struct ifinfomsg` and what follows.
pub(super) fn read(body: &[u8]) -> Option<Link> {
    let rest = body.get(FIXED..)?;
    let info = attribute(rest, IFLA_LINKINFO).unwrap_or_default();
    let kind = text(attribute(info, IFLA_INFO_KIND).unwrap_or_default());
    let mac = attribute(rest, IFLA_ADDRESS).and_then(|bytes| bytes.try_into().ok()).map(Mac);
    let data = attribute(info, IFLA_INFO_DATA).unwrap_or_default();
    Some(Link {
        index: u32_at(body, 4)?,
        name: text(attribute(rest, IFLA_IFNAME)?),
        is_up: u32_at(body, 8)? & UP != 0,
        mtu: attribute(rest, IFLA_MTU).and_then(|bytes| u32_at(bytes, 0)).unwrap_or_default(),
        mac,
        vxlan: (kind == "vxlan").then(|| read_vxlan(data)).flatten(),
        kind,
    })
}

fn read_vxlan(data: &[u8]) -> Option<Vxlan> {
    let port = attribute(data, IFLA_VXLAN_PORT)?;
    Some(Vxlan {
        vni: u32_at(attribute(data, IFLA_VXLAN_ID)?, 0)?,
        port: u16::from_be_bytes(port.try_into().ok()?),
        // The kernel tells a local address only if there is one, and other things of IPv6 with it.
        over_v6: attribute(data, IFLA_VXLAN_LOCAL6).is_some(),
        learns: attribute(data, IFLA_VXLAN_LEARNING)
            .is_some_and(|value| value.first().is_some_and(|value| *value != 0)),
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_written_as_usual() {
        let mac = Mac([2, 0, 0xab, 0xcd, 0xef, 9]);
        assert_eq!(mac.to_string(), "02:00:ab:cd:ef:09");
        assert_eq!("02:00:ab:cd:ef:09".parse(), Ok(mac));
        for text in ["", "02:00", "02:00:ab:cd:ef:09:01", "02:00:ab:cd:ef:zz", "2:0:ab:cd:ef:9"] {
            assert_eq!(text.parse::<Mac>(), Err(()), "{text}");
        }
    }
}
