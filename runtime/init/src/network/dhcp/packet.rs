//! The DHCP packet: a fixed head of 236 bytes, a magic number, and options.

use std::net::Ipv4Addr;

const HEAD: usize = 236;
const MAGIC: [u8; 4] = [99, 130, 83, 99];
/// Relays and old servers expect at least a BOOTP packet's length.
const SMALLEST: usize = 300;

/// Option codes (RFC 2132).
mod code {
    pub(super) const SUBNET: u8 = 1;
    pub(super) const ROUTER: u8 = 3;
    pub(super) const DNS: u8 = 6;
    pub(super) const HOST_NAME: u8 = 12;
    pub(super) const MTU: u8 = 26;
    pub(super) const NTP: u8 = 42;
    pub(super) const REQUESTED: u8 = 50;
    pub(super) const LEASE: u8 = 51;
    pub(super) const KIND: u8 = 53;
    pub(super) const SERVER: u8 = 54;
    pub(super) const WANTED: u8 = 55;
    pub(super) const MESSAGE: u8 = 56;
    pub(super) const RENEW: u8 = 58;
    pub(super) const REBIND: u8 = 59;
    pub(super) const CLIENT: u8 = 61;
    pub(super) const ROUTES: u8 = 121;
    pub(super) const END: u8 = 255;
}

/// Message types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Client: who is there?
    Discover,
    /// Server: you could have this.
    Offer,
    /// Client: I take it, or keep it.
    Request,
    /// Server: it is yours.
    Ack,
    /// Server: no.
    Nak,
}

impl Kind {
    fn number(self) -> u8 {
        match self {
            Self::Discover => 1,
            Self::Offer => 2,
            Self::Request => 3,
            Self::Ack => 5,
            Self::Nak => 6,
        }
    }
}

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing<'a> {
    /// Discover or Request.
    pub(crate) kind: Kind,
    /// Transaction.
    pub(crate) xid: u32,
    /// Seconds since the client began.
    pub(crate) secs: u16,
    /// Own hardware address.
    pub(crate) mac: [u8; 6],
    /// Own address while it is in use (renewing).
    pub(crate) ciaddr: Ipv4Addr,
    /// The address asked for.
    pub(crate) requested: Option<Ipv4Addr>,
    /// The server whose offer is taken.
    pub(crate) server: Option<Ipv4Addr>,
    /// Own name, for the server's DNS.
    pub(crate) host_name: &'a str,
}

impl Outgoing<'_> {
    /// The packet's bytes. The broadcast flag is set while there is no address to which a reply could be sent.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0u8; HEAD];
        bytes[0] = 1; // request
        bytes[1] = 1; // Ethernet
        bytes[2] = 6; // length of an address
        bytes[4..8].copy_from_slice(&self.xid.to_be_bytes());
        bytes[8..10].copy_from_slice(&self.secs.to_be_bytes());
        if self.ciaddr.is_unspecified() {
            bytes[10] = 0x80;
        }
        bytes[12..16].copy_from_slice(&self.ciaddr.octets());
        bytes[28..34].copy_from_slice(&self.mac);
        bytes.extend(MAGIC);
        let mut option = |code: u8, value: &[u8]| {
            bytes.push(code);
            bytes.push(value.len() as u8);
            bytes.extend(value);
        };
        option(code::KIND, &[self.kind.number()]);
        option(code::CLIENT, &[&[1], &self.mac[..]].concat());
        if let Some(address) = self.requested {
            option(code::REQUESTED, &address.octets());
        }
        if let Some(server) = self.server {
            option(code::SERVER, &server.octets());
        }
        if !self.host_name.is_empty() && self.host_name.len() <= 63 {
            option(code::HOST_NAME, self.host_name.as_bytes());
        }
        let wanted = [
            code::SUBNET,
            code::ROUTER,
            code::DNS,
            code::MTU,
            code::NTP,
            code::LEASE,
            code::RENEW,
            code::REBIND,
            code::ROUTES,
        ];
        option(code::WANTED, &wanted);
        bytes.push(code::END);
        bytes.resize(bytes.len().max(SMALLEST), 0);
        bytes
    }
}

/// A route of option 121: destination, prefix length, gateway (unspecified: on the link).
pub(crate) type Route = (Ipv4Addr, u8, Ipv4Addr);

/// What a server sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Incoming {
    /// Offer, Ack or Nak.
    pub(crate) kind: Kind,
    /// Transaction.
    pub(crate) xid: u32,
    /// Hardware address that it is for.
    pub(crate) mac: [u8; 6],
    /// The address given.
    pub(crate) address: Ipv4Addr,
    /// Prefix length; absent if the server gave no mask.
    pub(crate) prefix: Option<u8>,
    /// The server's id.
    pub(crate) server: Option<Ipv4Addr>,
    /// Default gateways.
    pub(crate) routers: Vec<Ipv4Addr>,
    /// Classless routes; if there are any, `routers` do not count (RFC 3442).
    pub(crate) routes: Vec<Route>,
    /// Name servers.
    pub(crate) dns: Vec<Ipv4Addr>,
    /// Time servers.
    pub(crate) ntp: Vec<Ipv4Addr>,
    /// The link's MTU in bytes.
    pub(crate) mtu: Option<u16>,
    /// Lease, renewal and rebinding times in seconds.
    pub(crate) lease: Option<u32>,
    /// T1.
    pub(crate) renew: Option<u32>,
    /// T2.
    pub(crate) rebind: Option<u32>,
    /// Why the server said no.
    pub(crate) message: Option<String>,
}

impl Incoming {
    /// Decodes a server's packet; `None` for anything else. Options that are cut or too long end the reading.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < HEAD + 4 || bytes[0] != 2 || bytes[1] != 1 || bytes[2] != 6 || bytes[HEAD..HEAD + 4] != MAGIC {
            return None;
        }
        let mut mac = [0u8; 6];
        mac.copy_from_slice(&bytes[28..34]);
        let mut packet = Self {
            kind: Kind::Nak,
            xid: u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            mac,
            address: Ipv4Addr::new(bytes[16], bytes[17], bytes[18], bytes[19]),
            prefix: None,
            server: None,
            routers: Vec::new(),
            routes: Vec::new(),
            dns: Vec::new(),
            ntp: Vec::new(),
            mtu: None,
            lease: None,
            renew: None,
            rebind: None,
            message: None,
        };
        let mut kind = None;
        for (code, value) in options(&bytes[HEAD + 4..]) {
            match code {
                code::KIND => kind = value.first().copied(),
                code::SUBNET => packet.prefix = address(value).and_then(prefix),
                code::ROUTER => packet.routers = addresses(value),
                code::DNS => packet.dns = addresses(value),
                code::NTP => packet.ntp = addresses(value),
                code::MTU => packet.mtu = value.try_into().ok().map(u16::from_be_bytes).filter(|m| *m >= 576),
                code::LEASE => packet.lease = number(value),
                code::RENEW => packet.renew = number(value),
                code::REBIND => packet.rebind = number(value),
                code::SERVER => packet.server = address(value),
                code::MESSAGE => packet.message = Some(String::from_utf8_lossy(value).into_owned()),
                code::ROUTES => packet.routes = routes(value),
                _ => {}
            }
        }
        packet.kind = match kind? {
            2 => Kind::Offer,
            5 => Kind::Ack,
            6 => Kind::Nak,
            _ => return None,
        };
        Some(packet)
    }
}

/// The options in a packet: code and value.
fn options(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        loop {
            let (&code, after) = rest.split_first()?;
            match code {
                0 => rest = after,
                code::END => return None,
                _ => {
                    let (&length, after) = after.split_first()?;
                    let value = after.get(..usize::from(length))?;
                    rest = &after[usize::from(length)..];
                    return Some((code, value));
                }
            }
        }
    })
}

fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

fn address(value: &[u8]) -> Option<Ipv4Addr> {
    number(value).map(Ipv4Addr::from)
}

fn addresses(value: &[u8]) -> Vec<Ipv4Addr> {
    value.chunks_exact(4).filter_map(address).collect()
}

/// The prefix length of a mask whose ones are contiguous.
fn prefix(mask: Ipv4Addr) -> Option<u8> {
    let bits = u32::from(mask);
    (bits.leading_ones() == bits.count_ones()).then_some(bits.leading_ones() as u8)
}

fn routes(value: &[u8]) -> Vec<Route> {
    let mut routes = Vec::new();
    let mut rest = value;
    while let Some((&width, after)) = rest.split_first() {
        let significant = usize::from(width).div_ceil(8);
        let (Some(head), true) = (after.get(..significant + 4), width <= 32) else {
            break;
        };
        let mut destination = [0u8; 4];
        destination[..significant].copy_from_slice(&head[..significant]);
        if let Some(gateway) = address(&head[significant..]) {
            routes.push((destination.into(), width, gateway));
        }
        rest = &after[significant + 4..];
    }
    routes
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A server's packet with these options.
    pub(crate) fn server_packet(kind: u8, xid: u32, mac: [u8; 6], address: Ipv4Addr, extra: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0u8; HEAD];
        bytes[..3].copy_from_slice(&[2, 1, 6]);
        bytes[4..8].copy_from_slice(&xid.to_be_bytes());
        bytes[16..20].copy_from_slice(&address.octets());
        bytes[28..34].copy_from_slice(&mac);
        bytes.extend(MAGIC);
        bytes.extend([code::KIND, 1, kind]);
        bytes.extend(extra);
        bytes.push(code::END);
        bytes
    }

    const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

    #[test]
    fn a_discover_asks_for_a_broadcast_reply_and_names_itself() {
        let packet = Outgoing {
            kind: Kind::Discover,
            xid: 0x0102_0304,
            secs: 3,
            mac: MAC,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            requested: None,
            server: None,
            host_name: "pi-1",
        };
        let bytes = packet.encode();
        assert_eq!(bytes[..12], [1, 1, 6, 0, 1, 2, 3, 4, 0, 3, 0x80, 0]);
        assert!(bytes.len() >= SMALLEST);
        let found: Vec<(u8, &[u8])> = options(&bytes[HEAD + 4..]).collect();
        assert_eq!(found[0], (code::KIND, &[1u8][..]));
        assert!(found.contains(&(code::HOST_NAME, b"pi-1")));
        assert!(found.contains(&(code::CLIENT, &[1, 0x52, 0x54, 0, 0x12, 0x34, 0x56])));
    }

    #[test]
    fn an_ack_gives_address_routes_servers_and_times() {
        let extra = [
            &[1u8, 4, 255, 255, 255, 0][..],
            &[3, 4, 10, 0, 2, 2],
            &[6, 8, 10, 0, 2, 3, 1, 1, 1, 1],
            &[42, 4, 10, 0, 2, 4],
            &[51, 4, 0, 1, 0x51, 0x80],
            &[54, 4, 10, 0, 2, 2],
            &[0, 0],
            &[121, 14, 24, 192, 168, 5, 10, 0, 2, 9, 0, 10, 0, 2, 2, 99],
        ]
        .concat();
        let packet = Incoming::decode(&server_packet(5, 9, MAC, Ipv4Addr::new(10, 0, 2, 15), &extra)).expect("valid");
        assert_eq!((packet.kind, packet.xid, packet.mac), (Kind::Ack, 9, MAC));
        assert_eq!(packet.address, Ipv4Addr::new(10, 0, 2, 15));
        assert_eq!(packet.prefix, Some(24));
        assert_eq!(packet.routers, [Ipv4Addr::new(10, 0, 2, 2)]);
        assert_eq!(packet.dns.len(), 2);
        assert_eq!(packet.ntp, [Ipv4Addr::new(10, 0, 2, 4)]);
        assert_eq!(packet.lease, Some(86_400));
        let routes = [
            (Ipv4Addr::new(192, 168, 5, 0), 24, Ipv4Addr::new(10, 0, 2, 9)),
            (Ipv4Addr::UNSPECIFIED, 0, Ipv4Addr::new(10, 0, 2, 2)),
        ];
        assert_eq!(packet.routes, routes);
    }

    #[test]
    fn cut_or_foreign_packets_do_no_harm() {
        let good = server_packet(2, 9, MAC, Ipv4Addr::LOCALHOST, &[1, 4, 255, 255, 255, 0]);
        for length in 0..good.len() {
            let _ = Incoming::decode(&good[..length]);
        }
        let mut request = good.clone();
        request[0] = 1;
        assert_eq!(Incoming::decode(&request), None);
        let odd_mask = server_packet(2, 9, MAC, Ipv4Addr::LOCALHOST, &[1, 4, 255, 0, 255, 0]);
        assert_eq!(Incoming::decode(&odd_mask).expect("valid").prefix, None);
        let long = server_packet(2, 9, MAC, Ipv4Addr::LOCALHOST, &[12, 200, 1]);
        assert!(Incoming::decode(&long).is_some());
    }
}
