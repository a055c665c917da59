//! WireGuard interfaces of the kernel: their keys, ports and peers, by generic netlink (linux/wireguard.h, linux/genetlink.h). The
//! interface itself is made by rtnetlink, as any other.

mod key;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use nix::errno::Errno;
use nix::sys::socket::SockProtocol;

pub use self::key::PrivateKey;
pub(crate) use self::key::PublicKey;
use crate::Cidr;
use crate::rtnetlink::{
    ACK, DUMP, Message, Netlink, NetlinkError, REQUEST, address, attribute, attributes, family, u16_at,
};

/// The family that all others are asked of, and its command and attributes.
const CONTROL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
/// Bytes of `struct genlmsghdr`.
const FIXED: usize = 4;
/// What both families call their first version.
const VERSION: u8 = 1;

const WG_CMD_GET_DEVICE: u8 = 0;
const WG_CMD_SET_DEVICE: u8 = 1;
const WGDEVICE_A_IFINDEX: u16 = 1;
const WGDEVICE_A_PRIVATE_KEY: u16 = 3;
const WGDEVICE_A_PUBLIC_KEY: u16 = 4;
const WGDEVICE_A_LISTEN_PORT: u16 = 6;
const WGDEVICE_A_PEERS: u16 = 8;
const WGPEER_A_PUBLIC_KEY: u16 = 1;
const WGPEER_A_FLAGS: u16 = 3;
const WGPEER_A_ENDPOINT: u16 = 4;
const WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL: u16 = 5;
const WGPEER_A_ALLOWEDIPS: u16 = 9;
const WGPEER_F_REMOVE_ME: u32 = 1;
const WGPEER_F_REPLACE_ALLOWEDIPS: u32 = 2;
const WGALLOWEDIP_A_FAMILY: u16 = 1;
const WGALLOWEDIP_A_IPADDR: u16 = 2;
const WGALLOWEDIP_A_CIDR_MASK: u16 = 3;

/// A way to the kernel's WireGuard, into the network namespace that it was opened in.
pub(crate) struct WireGuard {
    netlink: Netlink,
    /// The number that the kernel has given the family.
    family: u16,
}

/// What an interface has.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Device {
    /// Its keys; none if it was given none yet.
    pub(crate) keys: Option<(PrivateKey, PublicKey)>,
    /// The UDP port it listens at.
    pub(crate) port: u16,
    /// The addresses that each peer may have. Where the peer was last heard is not asked: it may be behind another address than the
    /// one that it was given.
    pub(crate) peers: BTreeMap<PublicKey, BTreeSet<Cidr>>,
}

/// A peer as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tunnel {
    /// Where it is reached, until it is heard from elsewhere.
    pub(crate) endpoint: SocketAddr,
    /// The addresses that it may have.
    pub(crate) allowed: BTreeSet<Cidr>,
}

impl WireGuard {
    /// Opens one.
    ///
    /// # Errors
    /// `ENOENT` when the kernel has no WireGuard.
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        let (mut netlink, mut family) = (Netlink::open(SockProtocol::NetlinkGeneric)?, None);
        let mut message = Message::new(CONTROL, REQUEST | ACK, &header(CTRL_CMD_GETFAMILY));
        message.put_text(CTRL_ATTR_FAMILY_NAME, "wireguard");
        let asked = netlink.exchange(message, |body| {
            family = attribute(body.get(FIXED..).unwrap_or_default(), CTRL_ATTR_FAMILY_ID).and_then(|id| u16_at(id, 0));
        });
        let found = asked.and(family.ok_or(Errno::ENOENT));
        found
            .map(|family| Self { netlink, family })
            .map_err(|cause| NetlinkError::new("find WireGuard's netlink", cause))
    }

    /// Reads an interface.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn device(&mut self, link: u32) -> Result<Device, NetlinkError> {
        let mut message = Message::new(self.family, REQUEST | DUMP, &header(WG_CMD_GET_DEVICE));
        message.put_u32(WGDEVICE_A_IFINDEX, link);
        let parts = self.netlink.dump_of(&message, "the peers of WireGuard", |body| {
            let mut part = Device::default();
            part.read(body);
            Some(part)
        })?;
        let mut device = Device::default();
        for part in parts {
            device.keys = part.keys.or(device.keys);
            device.port = part.port.max(device.port);
            // One peer's addresses may go on in the next part.
            for (key, allowed) in part.peers {
                device.peers.entry(key).or_default().extend(allowed);
            }
        }
        Ok(device)
    }

    /// Gives an interface its key and its port.
    ///
    /// # Errors
    /// When the kernel refuses: `EADDRINUSE` if another program has the port.
    pub(crate) fn set_device(&mut self, link: u32, key: &PrivateKey, port: u16) -> Result<(), NetlinkError> {
        let message = device_message(self.family, link, key, port);
        self.netlink.change(message, || format!("give WireGuard its key and UDP port {port}"))
    }

    /// Makes a peer, or changes it to this.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn set_peer(
        &mut self,
        link: u32,
        key: &PublicKey,
        tunnel: &Tunnel,
        keepalive: u16,
    ) -> Result<(), NetlinkError> {
        let message = peer_message(self.family, link, key, Some((tunnel, keepalive)));
        self.netlink.change(message, || format!("make a WireGuard peer of {}", tunnel.endpoint))
    }

    /// Removes a peer; what is not there is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn remove_peer(&mut self, link: u32, key: &PublicKey) -> Result<(), NetlinkError> {
        let message = peer_message(self.family, link, key, None);
        self.netlink.change(message, || format!("remove the WireGuard peer {key}"))
    }
}

impl Device {
    /// Adds what a message of a dump tells.
    fn read(&mut self, body: &[u8]) {
        let rest = body.get(FIXED..).unwrap_or_default();
        let key = |kind| attribute(rest, kind).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        self.keys = key(WGDEVICE_A_PRIVATE_KEY).map(PrivateKey::new).zip(key(WGDEVICE_A_PUBLIC_KEY).map(PublicKey));
        self.port = attribute(rest, WGDEVICE_A_LISTEN_PORT).and_then(|port| u16_at(port, 0)).unwrap_or_default();
        for (_, peer) in attributes(attribute(rest, WGDEVICE_A_PEERS).unwrap_or_default()) {
            let key = attribute(peer, WGPEER_A_PUBLIC_KEY).and_then(|bytes| bytes.try_into().ok());
            if let Some(key) = key.map(PublicKey) {
                let allowed = attributes(attribute(peer, WGPEER_A_ALLOWEDIPS).unwrap_or_default());
                self.peers.entry(key).or_default().extend(allowed.filter_map(|(_, range)| read_range(range)));
            }
        }
    }
}

fn read_range(range: &[u8]) -> Option<Cidr> {
    let prefix = attribute(range, WGALLOWEDIP_A_CIDR_MASK)?.first()?;
    Cidr::new(attribute(range, WGALLOWEDIP_A_IPADDR).and_then(address)?, *prefix)
}

fn device_message(family: u16, link: u32, key: &PrivateKey, port: u16) -> Message {
    let mut message = Message::new(family, REQUEST | ACK, &header(WG_CMD_SET_DEVICE));
    message.put_u32(WGDEVICE_A_IFINDEX, link);
    message.put(WGDEVICE_A_PRIVATE_KEY, key.bytes());
    message.put(WGDEVICE_A_LISTEN_PORT, &port.to_ne_bytes());
    message
}

/// A message about one peer: it is to be so, with packets that keep its way open each so many seconds; or it is to go.
fn peer_message(of_kernel: u16, link: u32, key: &PublicKey, wanted: Option<(&Tunnel, u16)>) -> Message {
    let mut message = Message::new(of_kernel, REQUEST | ACK, &header(WG_CMD_SET_DEVICE));
    message.put_u32(WGDEVICE_A_IFINDEX, link);
    message.nest(WGDEVICE_A_PEERS, |peers| {
        peers.nest(0, |peer| {
            peer.put(WGPEER_A_PUBLIC_KEY, &key.0);
            let Some((tunnel, keepalive)) = wanted else {
                return peer.put_u32(WGPEER_A_FLAGS, WGPEER_F_REMOVE_ME);
            };
            peer.put_u32(WGPEER_A_FLAGS, WGPEER_F_REPLACE_ALLOWEDIPS);
            peer.put(WGPEER_A_ENDPOINT, &socket_address(tunnel.endpoint));
            peer.put(WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, &keepalive.to_ne_bytes());
            peer.nest(WGPEER_A_ALLOWEDIPS, |ranges| {
                for range in &tunnel.allowed {
                    ranges.nest(0, |allowed| {
                        allowed.put(WGALLOWEDIP_A_FAMILY, &u16::from(family(range.is_ipv4())).to_ne_bytes());
                        allowed.put_address(WGALLOWEDIP_A_IPADDR, range.first());
                        allowed.put(WGALLOWEDIP_A_CIDR_MASK, &[range.prefix()]);
                    });
                }
            });
        });
    });
    message
}

/// `struct genlmsghdr`.
fn header(command: u8) -> [u8; FIXED] {
    [command, VERSION, 0, 0]
}

/// `struct sockaddr_in` or `struct sockaddr_in6`.
fn socket_address(address: SocketAddr) -> Vec<u8> {
    let mut bytes = u16::from(family(address.is_ipv4())).to_ne_bytes().to_vec();
    bytes.extend(address.port().to_be_bytes());
    match address.ip() {
        IpAddr::V4(v4) => {
            bytes.extend(v4.octets());
            bytes.extend([0; 8]);
        }
        IpAddr::V6(v6) => {
            // Its flow, and behind the address its scope: none.
            bytes.extend([0; 4]);
            bytes.extend(v6.octets());
            bytes.extend([0; 4]);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunnel(endpoint: &str, allowed: &[&str]) -> Tunnel {
        let allowed = allowed.iter().map(|range| range.parse().expect("a range")).collect();
        Tunnel { endpoint: endpoint.parse().expect("an endpoint"), allowed }
    }

    /// As `struct nlmsghdr`, `genlmsghdr`, `nlattr` and `sockaddr_in` lie in memory on a little-endian machine.
    #[test]
    #[cfg(target_endian = "little")]
    fn messages_are_those_of_the_kernels_headers() {
        let head = |length: u8| {
            vec![length, 0, 0, 0, 0x21, 0, 5, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 8, 0, 1, 0, 9, 0, 0, 0]
        };
        let private = PrivateKey::new([0xff; 32]);
        let mut wanted = head(72);
        wanted.extend([36, 0, 3, 0, 0xf8]);
        wanted.extend([0xff; 30]);
        wanted.extend([0x7f, 6, 0, 6, 0, 0x6c, 0xca, 0, 0]);
        assert_eq!(device_message(0x21, 9, &private, 51820).finish(7), wanted);

        let mut wanted = head(80);
        wanted.extend([52, 0, 8, 0x80, 48, 0, 0, 0x80, 36, 0, 1, 0]);
        wanted.extend([5; 32]);
        wanted.extend([8, 0, 3, 0, 1, 0, 0, 0]);
        assert_eq!(peer_message(0x21, 9, &PublicKey([5; 32]), None).finish(7), wanted);

        let v4 = tunnel("192.168.1.2:51820", &["10.42.1.0/24"]);
        let mut wanted = head(140);
        wanted.extend([112, 0, 8, 0x80, 108, 0, 0, 0x80, 36, 0, 1, 0]);
        wanted.extend([5; 32]);
        wanted.extend([8, 0, 3, 0, 2, 0, 0, 0]);
        wanted.extend([20, 0, 4, 0, 2, 0, 0xca, 0x6c, 192, 168, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
        wanted.extend([6, 0, 5, 0, 25, 0, 0, 0]);
        wanted.extend([
            32, 0, 9, 0x80, 28, 0, 0, 0x80, 6, 0, 1, 0, 2, 0, 0, 0, 8, 0, 2, 0, 10, 42, 1, 0, 5, 0, 3, 0, 24, 0, 0, 0,
        ]);
        assert_eq!(peer_message(0x21, 9, &PublicKey([5; 32]), Some((&v4, 25))).finish(7), wanted);

        let mut wanted = vec![10, 0, 0xca, 0x6c, 0, 0, 0, 0];
        wanted.extend([0xfd, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]);
        assert_eq!(socket_address("[fd00:5::2]:51820".parse().expect("an endpoint")), wanted);
    }

    #[test]
    fn a_peer_that_goes_on_in_the_next_message_is_one() {
        let key = PublicKey([5; 32]);
        let mut device = Device::default();
        for range in ["10.42.1.0/24", "fd00:42:0:1::/64"] {
            let message = peer_message(0x21, 9, &key, Some((&tunnel("192.168.1.2:51820", &[range]), 25)));
            device.read(&message.finish(1)[16..]);
        }
        let both = tunnel("192.168.1.2:51820", &["10.42.1.0/24", "fd00:42:0:1::/64"]).allowed;
        assert_eq!(device.peers, BTreeMap::from([(key, both)]));
        assert_eq!((device.keys, device.port), (None, 0));
    }
}
