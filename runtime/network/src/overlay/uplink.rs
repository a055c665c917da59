//! The interface that leads to the other nodes.

use std::net::IpAddr;

use crate::cidr::Cidr;
use crate::rtnetlink::{Address, Link, Route};

/// An interface that leads to other nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Uplink {
    /// Its number.
    pub(super) index: u32,
    /// Its name.
    pub(super) name: String,
    /// Bytes of the largest packet.
    pub(super) mtu: u32,
    /// The networks on it.
    pub(super) networks: Vec<Cidr>,
}

/// What the machine has.
pub(super) struct Seen<'a> {
    pub(super) links: &'a [Link],
    pub(super) addresses: &'a [Address],
    pub(super) routes: &'a [Route],
}

/// Finds the interface: the one of this name; or that which has the node's address; or, where the node is known by an address
/// that it does not have itself, that which leads everywhere. Also answers where the node is reached, by family.
pub(super) fn find(
    seen: &Seen<'_>,
    node_ips: &[IpAddr],
    wanted: Option<&str>,
) -> Option<(Uplink, [Option<IpAddr>; 2])> {
    let has = |link: &Link, ip: &IpAddr| seen.addresses.iter().any(|a| a.link == link.index && a.ip == *ip);
    let link = match wanted {
        Some(name) => seen.links.iter().find(|link| link.name == name)?,
        None => {
            // An address that routers lead here may be on no interface but the loopback.
            let others = || seen.links.iter().filter(|link| link.name != "lo");
            let own = node_ips.iter().find_map(|ip| others().find(|link| has(link, ip)));
            let default = || {
                let routes = seen.routes.iter().filter(|route| route.to.prefix() == 0);
                let best = routes.min_by_key(|route| (!route.to.is_ipv4(), route.metric))?;
                seen.links.iter().find(|link| link.index == best.link)
            };
            own.or_else(default)?
        }
    };
    let on = || seen.addresses.iter().filter(|a| a.link == link.index && a.is_global);
    let public = [true, false].map(|v4| {
        let known = node_ips.iter().copied().filter(|ip| ip.is_ipv4() == v4);
        let own = || on().map(|address| address.ip).filter(|ip| ip.is_ipv4() == v4);
        match wanted {
            // The interface was chosen, and with it the addresses.
            Some(_) => known.clone().find(|ip| has(link, ip)).or_else(|| own().next()),
            None => known.clone().next(),
        }
    });
    if public == [None, None] {
        return None;
    }
    let networks = on().filter_map(|address| Cidr::new(address.ip, address.prefix)).collect();
    Some((Uplink { index: link.index, name: link.name.clone(), mtu: link.mtu, networks }, public))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interface_is_that_of_the_nodes_address_or_the_one_that_was_named() {
        let link = |index, name: &str, mtu| Link {
            index,
            name: name.to_owned(),
            is_up: true,
            mtu,
            mac: None,
            kind: String::new(),
            vxlan: None,
        };
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let address = |link, text: &str, prefix| Address { link, ip: ip(text), prefix, is_global: true };
        let default = Route {
            to: "0.0.0.0/0".parse().expect("a range"),
            gateway: Some(ip("10.0.2.2")),
            link: 3,
            on_link: false,
            is_own: false,
            metric: 0,
        };
        let links = [link(2, "eth0", 1500), link(3, "wlan0", 1400)];
        let addresses = [address(2, "192.168.1.7", 24), address(3, "10.0.2.15", 24), address(3, "fd00::15", 64)];
        let seen = Seen { links: &links, addresses: &addresses, routes: &[default] };
        let found = |ips: &[&str], wanted| {
            let ips: Vec<_> = ips.iter().map(|text| ip(text)).collect();
            find(&seen, &ips, wanted).map(|(uplink, public)| (uplink.name, public[0], public[1]))
        };
        assert_eq!(found(&["192.168.1.7"], None), Some(("eth0".to_owned(), Some(ip("192.168.1.7")), None)));
        assert_eq!(found(&["203.0.113.1"], None), Some(("wlan0".to_owned(), Some(ip("203.0.113.1")), None)));
        let wlan = Some(("wlan0".to_owned(), Some(ip("10.0.2.15")), Some(ip("fd00::15"))));
        assert_eq!(found(&["192.168.1.7"], Some("wlan0")), wlan);
        assert_eq!(found(&["192.168.1.7"], Some("eth9")), None);
        assert_eq!(found(&[], None), None);
    }
}
