//! What the kernel is to have: made of this node, the others and the interface that leads to them, without a look at what the
//! kernel has now.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::peer::Peer;
use super::uplink::Uplink;
use super::{Backend, tunnels};
use crate::cidr::Cidr;
use crate::rtnetlink::Mac;
use crate::wireguard::{PublicKey, Tunnel};

/// Bytes that VXLAN puts around a packet, over IPv4 and over IPv6: Ethernet, IP, UDP and its own header.
const VXLAN_OVERHEAD: [u32; 2] = [50, 70];
/// And WireGuard, over either.
const WIREGUARD_OVERHEAD: u32 = 80;
/// Less than this no IPv6 link may have (RFC 8200).
const LEAST_MTU: u32 = 1280;

/// An interface that packets go out by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Slot {
    /// The VXLAN over IPv4.
    V4,
    /// The VXLAN over IPv6.
    V6,
    /// That of WireGuard, over both.
    WireGuard,
    /// The machine's own, to the other nodes.
    Uplink,
}

/// A way to a range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Via {
    pub(super) slot: Slot,
    pub(super) gateway: Option<IpAddr>,
}

/// What the kernel is to have.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Interfaces of the overlay, and the largest packet of each.
    pub(super) devices: BTreeMap<Slot, u32>,
    /// This node's addresses on them.
    pub(super) hosts: Vec<IpAddr>,
    /// Hardware addresses of the other nodes' ends.
    pub(super) neighbours: BTreeMap<(Slot, IpAddr), Mac>,
    /// The nodes behind these.
    pub(super) forwarding: BTreeMap<(Slot, Mac), IpAddr>,
    /// The other nodes as peers of WireGuard.
    pub(super) tunnels: BTreeMap<PublicKey, Tunnel>,
    /// Ways to the other nodes' pods.
    pub(super) routes: BTreeMap<Cidr, Via>,
    /// The largest packet of pods.
    pub(super) mtu: u32,
    /// Nodes that are not reached, and why.
    pub(super) problems: BTreeSet<Problem>,
    /// The range of this node that an older one has too.
    pub(super) taken: Option<(Cidr, String)>,
}

/// Why pods of a node are not reached. The other nodes are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Problem {
    /// Its range is in part another node's.
    Overlaps { node: String, cidr: Cidr, with: String },
    /// Its range is in part the network that leads to the nodes.
    Covers { node: String, cidr: Cidr, network: Cidr },
    /// It and this node have no address family in common.
    NoAddress { node: String },
    /// It uses another kind of way.
    OtherBackend { node: String, theirs: Backend },
    /// It has not told a key of WireGuard.
    NoKey { node: String },
    /// Its key of WireGuard is another node's too.
    SameKey { node: String },
    /// It is not on the same link.
    NotOnLink { node: String, address: IpAddr },
    /// Somebody else has made a route there.
    Foreign { cidr: Cidr },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overlaps { node, cidr, with } => {
                write!(
                    f,
                    "node {node} has the pods' range {cidr}, which overlaps that of node {with}; its pods are not reached: give one of the two nodes another range by deleting and registering it again"
                )
            }
            Self::Covers { node, cidr, network } => {
                write!(
                    f,
                    "node {node} has the pods' range {cidr}, which overlaps {network}, by which nodes reach each other; its pods are not reached: choose another --cluster-cidr"
                )
            }
            Self::NoAddress { node } => {
                write!(f, "node {node} has no address of a family that this node has too; its pods are not reached")
            }
            Self::OtherBackend { node, theirs } => {
                write!(f, "node {node} uses {theirs} and this node does not; its pods are not reached")
            }
            Self::NoKey { node } => {
                write!(
                    f,
                    "node {node} has told no key of WireGuard (does its kernel have it?); its pods are not reached"
                )
            }
            Self::SameKey { node } => {
                write!(
                    f,
                    "node {node} has the WireGuard key of another node; its pods are not reached: remove agent/wireguard.key from its data folder and start Kiln anew there"
                )
            }
            Self::NotOnLink { node, address } => {
                write!(
                    f,
                    "node {node} at {address} is not on this node's link, as host-gw needs it; its pods are not reached"
                )
            }
            Self::Foreign { cidr } => {
                write!(
                    f,
                    "there is a route to {cidr} that Kiln has not made and leaves alone; the pods there may not be reached"
                )
            }
        }
    }
}

/// Plans for a node with ranges and addresses.
pub(super) fn plan(own: &Peer, backend: Backend, uplink: &Uplink, peers: &mut [Peer]) -> Plan {
    let mut plan = Plan { mtu: uplink.mtu, ..Plan::default() };
    // Where pods have IPv6 addresses, smaller packets would be none of IPv6: then the outer ones are fragmented.
    let least = if own.cidrs.iter().all(Cidr::is_ipv4) { 0 } else { LEAST_MTU.min(uplink.mtu) };
    let device = |overhead: u32| uplink.mtu.saturating_sub(overhead).max(least);
    let first = match backend {
        Backend::Vxlan if own.public[0].is_some() => Some((Slot::V4, VXLAN_OVERHEAD[0])),
        Backend::Vxlan => Some((Slot::V6, VXLAN_OVERHEAD[1])),
        Backend::WireGuard => Some((Slot::WireGuard, WIREGUARD_OVERHEAD)),
        Backend::HostGw | Backend::None => None,
    };
    if let Some((slot, overhead)) = first {
        plan.hosts = own.cidrs.iter().map(Cidr::first).collect();
        plan.devices.insert(slot, device(overhead));
    }
    let mut taken: BTreeMap<IpAddr, (Cidr, &str)> =
        own.cidrs.iter().map(|cidr| (cidr.first(), (*cidr, own.name.as_str()))).collect();
    peers.sort_unstable_by(|a, b| (&a.created, &a.name).cmp(&(&b.created, &b.name)));
    for peer in peers.iter().filter(|peer| peer.name != own.name) {
        let Some(theirs) = peer.backend else { continue };
        if theirs != backend {
            plan.problems.insert(Problem::OtherBackend { node: peer.name.clone(), theirs });
            continue;
        }
        let both = [0, 1].into_iter().find(|at| own.public[*at].is_some() && peer.public[*at].is_some());
        let Some((at, public)) = both.and_then(|at| Some((at, peer.public[at]?))) else {
            plan.problems.insert(Problem::NoAddress { node: peer.name.clone() });
            continue;
        };
        if let Some(problem) = key_problem(own, backend, peer, &plan) {
            plan.problems.insert(problem);
            continue;
        }
        for cidr in &peer.cidrs {
            let node = peer.name.clone();
            if let Some(with) = overlapping(&taken, cidr) {
                if with == own.name && peer.is_before(own) {
                    plan.taken = Some((*cidr, node.clone()));
                }
                plan.problems.insert(Problem::Overlaps { node, cidr: *cidr, with: with.to_owned() });
                continue;
            }
            if let Some(network) = uplink.networks.iter().find(|network| network.overlaps(cidr)) {
                plan.problems.insert(Problem::Covers { node, cidr: *cidr, network: *network });
                continue;
            }
            taken.insert(cidr.first(), (*cidr, peer.name.as_str()));
            match backend {
                Backend::Vxlan => {
                    let Some(mac) = peer.mac else { continue };
                    let slot = if at == 0 { Slot::V4 } else { Slot::V6 };
                    plan.devices.entry(slot).or_insert_with(|| device(VXLAN_OVERHEAD[at]));
                    plan.neighbours.insert((slot, cidr.first()), mac);
                    plan.forwarding.insert((slot, mac), public);
                    plan.routes.insert(*cidr, Via { slot, gateway: Some(cidr.first()) });
                }
                Backend::HostGw => {
                    // The next hop is of the range's family.
                    let gateway = peer.public[usize::from(!cidr.is_ipv4())];
                    let Some(gateway) = gateway else {
                        plan.problems.insert(Problem::NoAddress { node });
                        continue;
                    };
                    if uplink.networks.iter().any(|network| network.contains(gateway)) {
                        plan.routes.insert(*cidr, Via { slot: Slot::Uplink, gateway: Some(gateway) });
                    } else {
                        plan.problems.insert(Problem::NotOnLink { node, address: gateway });
                    }
                }
                Backend::WireGuard => {
                    let Some(key) = peer.key else { continue };
                    let endpoint = SocketAddr::new(public, tunnels::PORT);
                    let tunnel = plan.tunnels.entry(key);
                    let tunnel = tunnel.or_insert_with(|| Tunnel { endpoint, allowed: BTreeSet::new() });
                    tunnel.allowed.insert(*cidr);
                    plan.routes.insert(*cidr, Via { slot: Slot::WireGuard, gateway: None });
                }
                Backend::None => {}
            }
        }
    }
    plan.mtu = plan.devices.values().copied().min().unwrap_or(uplink.mtu);
    plan
}

/// What stands against a peer of WireGuard for its key's sake. A key is one node's: it says where packets come from.
fn key_problem(own: &Peer, backend: Backend, peer: &Peer, plan: &Plan) -> Option<Problem> {
    let node = peer.name.clone();
    match peer.key {
        _ if backend != Backend::WireGuard => None,
        None => Some(Problem::NoKey { node }),
        Some(key) => (own.key == Some(key) || plan.tunnels.contains_key(&key)).then_some(Problem::SameKey { node }),
    }
}

/// Whose range overlaps this one. Those that are taken do not overlap each other, so only its neighbours can.
fn overlapping<'a>(taken: &BTreeMap<IpAddr, (Cidr, &'a str)>, cidr: &Cidr) -> Option<&'a str> {
    let before = taken.range(..=cidr.first()).next_back();
    let after = taken.range(cidr.first()..=cidr.last()).next();
    before.into_iter().chain(after).find(|(_, (range, _))| range.overlaps(cidr)).map(|(_, (_, node))| *node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::peer::mac_of;

    fn node(name: &str, cidrs: &[&str], public: &str) -> Peer {
        let address: IpAddr = public.parse().expect("an address");
        Peer {
            name: name.to_owned(),
            created: None,
            cidrs: cidrs.iter().map(|cidr| cidr.parse().expect("a range")).collect(),
            backend: Some(Backend::Vxlan),
            public: if address.is_ipv4() { [Some(address), None] } else { [None, Some(address)] },
            mac: Some(mac_of(name)),
            key: None,
        }
    }

    fn uplink() -> Uplink {
        let networks = ["192.168.1.0/24", "fd00:5::/64"].map(|cidr| cidr.parse().expect("a range")).to_vec();
        Uplink { index: 2, name: "eth0".to_owned(), mtu: 1500, networks }
    }

    fn both(mut peer: Peer, v6: &str) -> Peer {
        peer.public[1] = v6.parse().ok();
        peer
    }

    #[test]
    fn a_vxlan_has_a_way_to_each_range_of_each_other_node() {
        let own = both(node("a", &["10.42.0.0/24", "fd00:42::/64"], "192.168.1.1"), "fd00:5::1");
        let mut peers = vec![
            own.clone(),
            both(node("b", &["10.42.1.0/24", "fd00:42:0:1::/64"], "192.168.1.2"), "fd00:5::2"),
            node("six", &["fd00:42:0:2::/64"], "fd00:5::3"),
        ];
        let plan = plan(&own, Backend::Vxlan, &uplink(), &mut peers);
        assert_eq!(plan.devices, BTreeMap::from([(Slot::V4, 1450), (Slot::V6, 1430)]));
        assert_eq!((plan.mtu, plan.problems.len()), (1430, 0));
        let ways: Vec<_> = plan.routes.iter().map(|(cidr, via)| (cidr.to_string(), via.slot)).collect();
        let wanted = [("10.42.1.0/24", Slot::V4), ("fd00:42:0:1::/64", Slot::V4), ("fd00:42:0:2::/64", Slot::V6)];
        assert_eq!(ways, wanted.map(|(cidr, slot)| (cidr.to_owned(), slot)));
        assert_eq!(plan.forwarding[&(Slot::V4, mac_of("b"))], "192.168.1.2".parse::<IpAddr>().expect("an address"));
        assert_eq!(plan.neighbours.len(), 3);
    }

    #[test]
    fn of_two_nodes_with_one_range_the_older_keeps_it_and_all_others_are_reached() {
        let own = node("m", &["10.42.0.0/24"], "192.168.1.1");
        let mut peers = vec![
            node("z", &["10.42.4.0/24"], "192.168.1.5"),
            node("n", &["10.42.4.0/23"], "192.168.1.4"),
            node("a", &["10.42.0.128/25"], "192.168.1.3"),
            node("net", &["192.168.0.0/16"], "192.168.1.6"),
            node("other", &["10.42.9.0/24"], "fd00:5::9"),
            node("good", &["10.42.8.0/24"], "192.168.1.8"),
        ];
        let plan = plan(&own, Backend::Vxlan, &uplink(), &mut peers);
        let routed: Vec<_> = plan.routes.keys().map(Cidr::to_string).collect();
        assert_eq!(routed, ["10.42.4.0/23", "10.42.8.0/24"]);
        let told: Vec<_> = plan.problems.iter().map(Problem::to_string).collect();
        for (at, text) in [
            "node a has",
            "node z has the pods' range 10.42.4.0/24, which overlaps that of node n",
            "192.168.1.0/24",
            "node other",
        ]
        .iter()
        .enumerate()
        {
            assert!(told[at].contains(text), "{told:?}");
        }
        assert_eq!(plan.taken.map(|(_, node)| node), Some("a".to_owned()), "it was there before this node");
    }

    #[test]
    fn a_wireguard_node_has_a_peer_for_each_other_node_that_has_told_a_key() {
        let wireguard = |mut peer: Peer, key: Option<u8>| {
            (peer.backend, peer.mac) = (Some(Backend::WireGuard), None);
            peer.key = key.map(|number| PublicKey([number; 32]));
            peer
        };
        let own = wireguard(both(node("a", &["10.42.0.0/24", "fd00:42::/64"], "192.168.1.1"), "fd00:5::1"), Some(1));
        let mut peers = vec![
            own.clone(),
            wireguard(both(node("b", &["10.42.1.0/24", "fd00:42:0:1::/64"], "192.168.1.2"), "fd00:5::2"), Some(2)),
            wireguard(node("far", &["10.42.2.0/24"], "203.0.113.3"), Some(3)),
            wireguard(node("six", &["10.42.3.0/24"], "fd00:5::4"), Some(4)),
            wireguard(node("keyless", &["10.42.5.0/24"], "192.168.1.5"), None),
            wireguard(node("own-key", &["10.42.6.0/24"], "192.168.1.6"), Some(1)),
            wireguard(node("z-cloned", &["10.42.7.0/24"], "192.168.1.7"), Some(3)),
            node("vxlan", &["10.42.8.0/24"], "192.168.1.8"),
        ];
        let plan = plan(&own, Backend::WireGuard, &uplink(), &mut peers);
        assert_eq!((plan.devices, plan.mtu), (BTreeMap::from([(Slot::WireGuard, 1420)]), 1420));
        assert_eq!(plan.hosts.len(), 2);
        let shown: Vec<_> = plan.tunnels.values().map(|t| (t.endpoint.to_string(), t.allowed.len())).collect();
        let wanted = [("192.168.1.2:51820", 2), ("203.0.113.3:51820", 1), ("[fd00:5::4]:51820", 1)];
        assert_eq!(shown, wanted.map(|(endpoint, ranges)| (endpoint.to_owned(), ranges)));
        assert_eq!(plan.routes.len(), 4);
        assert!(plan.routes.values().all(|via| *via == Via { slot: Slot::WireGuard, gateway: None }));
        assert!((plan.neighbours.is_empty(), plan.forwarding.is_empty()) == (true, true));
        let problem = |node: &str, same| match same {
            true => Problem::SameKey { node: node.to_owned() },
            false => Problem::NoKey { node: node.to_owned() },
        };
        let other = Problem::OtherBackend { node: "vxlan".to_owned(), theirs: Backend::Vxlan };
        let told = [other, problem("keyless", false), problem("own-key", true), problem("z-cloned", true)];
        assert_eq!(plan.problems, BTreeSet::from(told));
    }

    #[test]
    fn host_gw_needs_one_link() {
        let host_gw = |mut peer: Peer| {
            peer.backend = Some(Backend::HostGw);
            peer
        };
        let own = host_gw(node("a", &["10.42.0.0/24"], "192.168.1.1"));
        let mut peers = vec![
            host_gw(node("b", &["10.42.1.0/24", "fd00:42:0:1::/64"], "192.168.1.2")),
            host_gw(node("far", &["10.42.2.0/24"], "10.0.0.1")),
            node("vxlan", &["10.42.3.0/24"], "192.168.1.4"),
        ];
        let plan = plan(&own, Backend::HostGw, &uplink(), &mut peers);
        let gateway = "192.168.1.2".parse().ok();
        let wanted = BTreeMap::from([("10.42.1.0/24".parse().expect("a range"), Via { slot: Slot::Uplink, gateway })]);
        assert_eq!((plan.routes, plan.mtu, plan.devices.len()), (wanted, 1500, 0));
        assert_eq!(plan.problems.len(), 3);
    }
}
