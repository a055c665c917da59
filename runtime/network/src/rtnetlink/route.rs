//! Routes of the main table.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::message::{address, attribute, u32_at};
use super::{ACK, CREATE, EXCLUSIVE, Message, Netlink, NetlinkError, REPLACE, REQUEST, family};
use crate::cidr::Cidr;

const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;

const MAIN: u8 = 254;
const UNIVERSE: u8 = 0;
const LINK: u8 = 253;
const UNICAST: u8 = 1;
const ON_LINK: u32 = 4;
/// Bytes of `struct rtmsg`.
const FIXED: usize = 12;

/// Who made a route: these are ours. A number that nobody else has taken (`rt_protos` of iproute2).
pub(crate) const OWN: u8 = 0x6b;

/// A route to one next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    /// Where it leads.
    pub(crate) to: Cidr,
    /// The next hop; none for what is on the link itself.
    pub(crate) gateway: Option<IpAddr>,
    /// The interface's number.
    pub(crate) link: u32,
    /// Whether the next hop counts as on the link, whatever the addresses say.
    pub(crate) on_link: bool,
    /// Whether it is ours.
    pub(crate) is_own: bool,
    /// Of two to the same range, the lower counts.
    pub(crate) metric: u32,
}

impl Netlink {
    /// All routes of the main table that have one next hop.
    pub(crate) fn routes(&mut self) -> Result<Vec<Route>, NetlinkError> {
        let mut found = Vec::new();
        for is_ipv4 in [true, false] {
            let mut fixed = [0; FIXED];
            fixed[0] = family(is_ipv4);
            match self.dump(GET_ROUTE, &fixed, "the routes", read) {
                Ok(routes) => found.extend(routes),
                // A kernel without IPv6.
                Err(error) if !is_ipv4 && error.cause == nix::errno::Errno::EOPNOTSUPP => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Makes a route. With `replace` one of ours to the same range goes; without, it is an error if there is one.
    pub(crate) fn add_route(&mut self, route: &Route, replace: bool) -> Result<(), NetlinkError> {
        let how = if replace { REPLACE } else { EXCLUSIVE };
        let message = message(NEW_ROUTE, REQUEST | ACK | CREATE | how, route);
        self.change(message, || format!("make the route to {}", route.to))
    }

    /// Removes a route.
    pub(crate) fn delete_route(&mut self, route: &Route) -> Result<(), NetlinkError> {
        self.change(message(DELETE_ROUTE, REQUEST | ACK, route), || format!("remove the route to {}", route.to))
    }
}

fn message(kind: u16, flags: u16, route: &Route) -> Message {
    let scope = if route.gateway.is_some() || !route.to.is_ipv4() { UNIVERSE } else { LINK };
    let mut fixed = [0; FIXED];
    fixed[..8].copy_from_slice(&[family(route.to.is_ipv4()), route.to.prefix(), 0, 0, MAIN, OWN, scope, UNICAST]);
    if route.on_link {
        fixed[8..].copy_from_slice(&ON_LINK.to_ne_bytes());
    }
    let mut message = Message::new(kind, flags, &fixed);
    message.put_address(RTA_DST, route.to.first());
    if let Some(gateway) = route.gateway {
        message.put_address(RTA_GATEWAY, gateway);
    }
    message.put_u32(RTA_OIF, route.link);
    message
}

/// Reads `struct rtmsg` and what follows.
pub(super) fn read(body: &[u8]) -> Option<Route> {
    let &[kind_of_family, prefix, _, _, table, protocol, _, kind] = body.first_chunk::<8>()?;
    let rest = body.get(FIXED..)?;
    if table != MAIN || kind != UNICAST {
        return None;
    }
    let any = if kind_of_family == family(true) {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    let number = |kind| attribute(rest, kind).and_then(|bytes| u32_at(bytes, 0));
    Some(Route {
        to: Cidr::new(attribute(rest, RTA_DST).and_then(address).unwrap_or(any), prefix)?,
        gateway: attribute(rest, RTA_GATEWAY).and_then(address),
        link: number(RTA_OIF)?,
        on_link: u32_at(body, 8)? & ON_LINK != 0,
        is_own: protocol == OWN,
        metric: number(RTA_PRIORITY).unwrap_or_default(),
    })
}
