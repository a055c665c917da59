//! Connections that the kernel still follows to endpoints that are gone. TCP notices; of UDP the kernel would send each further
//! packet of a client to nowhere. So such entries are deleted, and the client's next packet is led to an endpoint that is there.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::model::{Endpoint, IpFamily, Protocol, ServicePort};
use crate::nft::wire::{Attributes, Writer};
use crate::nft::{NftError, Socket};

/// NFNL_SUBSYS_CTNETLINK, and of its messages `get` and `delete`.
const GET: u16 = (1 << 8) | 1;
const DELETE: u16 = (1 << 8) | 2;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;

const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ZONE: u16 = 18;

type At = (IpAddr, u16);

/// Who may be reached by which address: ports of Services for UDP.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    services: HashMap<At, HashSet<At>>,
    node_ports: HashMap<u16, HashSet<At>>,
}

impl Targets {
    /// Adds a port of a Service and who stands behind it. One without anybody needs no clean-up.
    pub(crate) fn add(&mut self, port: &ServicePort, endpoints: &[Endpoint]) {
        let serving = endpoints.iter().filter(|endpoint| endpoint.serving);
        let serving: HashSet<At> = serving.map(|endpoint| (endpoint.address, endpoint.port)).collect();
        if port.protocol != Protocol::Udp || serving.is_empty() {
            return;
        }
        let outside = port.external_ips.iter().chain(&port.balancer_ips);
        for address in std::iter::once(&port.cluster_ip).chain(outside) {
            self.services.insert((*address, port.port), serving.clone());
        }
        if let Some(number) = port.node_port {
            self.node_ports.entry(number).or_default().extend(serving);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// Whether a connection to `destination` that `source` answers goes to nobody.
    fn is_stale(&self, destination: At, source: At) -> bool {
        let behind = self.services.get(&destination).or_else(|| self.node_ports.get(&destination.1));
        behind.is_some_and(|serving| !serving.contains(&source))
    }
}

/// A connection to delete: what the kernel knows it by.
struct Stale {
    original: Vec<u8>,
    zone: Option<u16>,
}

/// Deletes what goes to nobody; answers how many connections that were.
pub(crate) fn clean(socket: &mut Socket, targets: &Targets) -> Result<usize, NftError> {
    let mut deleted = 0;
    for family in IpFamily::BOTH {
        let number = match family {
            IpFamily::V4 => libc::AF_INET,
            IpFamily::V6 => libc::AF_INET6,
        };
        let number = u8::try_from(number).unwrap_or_default();
        let mut request = Writer::default();
        let open = request.message(GET, REQUEST | DUMP, 1, number, 0);
        request.end_message(&open);
        let found = socket.dump(&request.bytes, |message, found| {
            let attributes = message.attributes();
            if is_stale(&attributes, targets) == Some(true) {
                let original = attributes.get(ORIGINAL).unwrap_or_default().to_vec();
                found.push(Stale { original, zone: attributes.u16(ZONE) });
            }
        })?;
        for stale in found {
            let mut request = Writer::default();
            let open = request.message(DELETE, REQUEST | ACK, 1, number, 0);
            let nest = request.nest(ORIGINAL);
            request.bytes.extend_from_slice(&stale.original);
            request.end(&nest);
            if let Some(zone) = stale.zone {
                request.put(ZONE, &zone.to_be_bytes());
            }
            request.end_message(&open);
            match socket.request(&request.bytes) {
                Ok(()) => deleted += 1,
                // It ended by itself.
                Err(NftError::Io(error)) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(deleted)
}

fn is_stale(connection: &Attributes<'_>, targets: &Targets) -> Option<bool> {
    let (original, reply) = (connection.nested(ORIGINAL), connection.nested(REPLY));
    let ports = original.nested(2);
    if ports.get(1)?.first() != Some(&(Protocol::Udp as u8)) {
        return None;
    }
    let destination = (address(&original.nested(1), 2, 4)?, ports.u16(3)?);
    let source = (address(&reply.nested(1), 1, 3)?, reply.nested(2).u16(2)?);
    Some(targets.is_stale(destination, source))
}

fn address(attributes: &Attributes<'_>, v4: u16, v6: u16) -> Option<IpAddr> {
    if let Some(bytes) = attributes.get(v4) {
        return Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into());
    }
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(attributes.get(v6)?).ok()?).into())
}
