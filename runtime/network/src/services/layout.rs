//! The fixed part of the proxy's tables, one for each family: base chains, the sets and maps that Services have elements in, and the
//! rules that look them up. What is in the maps and the Services' own chains is [`super::render`]'s.
//!
//! `prerouting/output -> services -> vmap -> a Service's chain -> dnat`, `postrouting -> masquerading`; before it
//! `pre-dnat -> firewall`, behind it `input/forward/output -> no endpoints? -> reject`. The names are kube-proxy's, so that who
//! knows its tables finds the way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Config;
use super::model::IpFamily;
use crate::Cidr;
use crate::nft::{
    Base, Batch, Element, Family, Field, Hook, Kind, Operator, Reject, Rule, Set, SetRef, Table, Type, ct_state,
    ct_status, fib_type,
};

/// The name of both tables.
pub(crate) const TABLE: &str = "kiln-services";
/// The bit of a packet's mark by which its connection is given the node's address as its source. It is kube-proxy's.
pub(crate) const MASQUERADE: u32 = 0x4000;
/// Addresses of the cluster's pods.
pub(crate) const POD_NETWORKS: &str = "pod-networks";
/// Goes to packets that nobody is there for.
pub(crate) const REJECT_CHAIN: &str = "reject-chain";

const SERVICES: &str = "services";
const MASQUERADING: &str = "masquerading";
const FIREWALL: &str = "firewall-check";
const SERVICE_ENDPOINTS: &str = "service-endpoints-check";
const NODE_PORT_ENDPOINTS: &str = "nodeport-endpoints-check";
const CLUSTER_IPS: &str = "cluster-ips-check";

/// A set or a map that Services have elements in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Container {
    /// Cluster IPs in use.
    ClusterIps,
    /// Address, protocol and port to a Service's chain.
    ServiceIps,
    /// Protocol and port of the node to a Service's chain.
    NodePorts,
    /// Address, protocol and port that nobody stands behind.
    NoEndpointServices,
    /// Protocol and port of the node that nobody stands behind.
    NoEndpointNodePorts,
    /// Address, protocol and port that not everybody may use.
    FirewallIps,
    /// Endpoints of this node, as source and destination of a connection with themselves.
    Hairpins,
}

impl Container {
    pub(crate) const ALL: [Self; 7] = [
        Self::ClusterIps,
        Self::ServiceIps,
        Self::NodePorts,
        Self::NoEndpointServices,
        Self::NoEndpointNodePorts,
        Self::FirewallIps,
        Self::Hairpins,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ClusterIps => "cluster-ips",
            Self::ServiceIps => "service-ips",
            Self::NodePorts => "service-nodeports",
            Self::NoEndpointServices => "no-endpoint-services",
            Self::NoEndpointNodePorts => "no-endpoint-nodeports",
            Self::FirewallIps => "firewall-ips",
            Self::Hairpins => "hairpin-connections",
        }
    }

    fn set(self, address: Type) -> Set {
        match self {
            Self::ClusterIps => Set::new(self.name(), &[address]),
            Self::ServiceIps | Self::NoEndpointServices | Self::FirewallIps => {
                Set::verdicts(self.name(), &[address, Type::Protocol, Type::Port])
            }
            Self::NodePorts | Self::NoEndpointNodePorts => Set::verdicts(self.name(), &[Type::Protocol, Type::Port]),
            Self::Hairpins => Set::new(self.name(), &[address, address, Type::Protocol, Type::Port]),
        }
    }
}

/// The table of a family.
pub(crate) fn table(family: IpFamily) -> Table {
    Table::new(nft_family(family), TABLE)
}

pub(crate) fn nft_family(family: IpFamily) -> Family {
    match family {
        IpFamily::V4 => Family::Ip,
        IpFamily::V6 => Family::Ip6,
    }
}

pub(crate) fn address_type(family: IpFamily) -> Type {
    match family {
        IpFamily::V4 => Type::Ipv4,
        IpFamily::V6 => Type::Ipv6,
    }
}

fn pod_networks(family: IpFamily) -> Set {
    Set::new(POD_NETWORKS, &[address_type(family)]).intervals()
}

type BaseChain = (&'static str, Kind, Hook, i32, &'static [(&'static str, bool)]);

/// Base chains: name, what they do, where, when, and where they lead to, for new connections only where that is said.
const BASE_CHAINS: [BaseChain; 8] = [
    ("filter-prerouting-pre-dnat", Kind::Filter, Hook::Prerouting, -110, &[(FIREWALL, true)]),
    ("filter-output-pre-dnat", Kind::Filter, Hook::Output, -110, &[(FIREWALL, true)]),
    ("filter-input", Kind::Filter, Hook::Input, 0, &[(NODE_PORT_ENDPOINTS, true), (SERVICE_ENDPOINTS, true)]),
    ("filter-forward", Kind::Filter, Hook::Forward, 0, &[(SERVICE_ENDPOINTS, true), (CLUSTER_IPS, true)]),
    ("filter-output", Kind::Filter, Hook::Output, 0, &[(SERVICE_ENDPOINTS, true), (CLUSTER_IPS, true)]),
    ("nat-prerouting", Kind::Nat, Hook::Prerouting, -100, &[(SERVICES, false)]),
    ("nat-output", Kind::Nat, Hook::Output, -100, &[(SERVICES, false)]),
    ("nat-postrouting", Kind::Nat, Hook::Postrouting, 100, &[(MASQUERADING, false)]),
];

/// Puts a family's table in place of whatever there was, with nothing in its maps.
pub(crate) fn add(batch: &mut Batch, family: IpFamily, config: &Config) {
    let table = table(family);
    batch.recreate_table(&table);
    for container in Container::ALL {
        batch.add_set(&table, &container.set(address_type(family)));
    }
    batch.add_set(&table, &pod_networks(family));
    let regular = [SERVICES, MASQUERADING, FIREWALL, SERVICE_ENDPOINTS, NODE_PORT_ENDPOINTS, CLUSTER_IPS, REJECT_CHAIN];
    for chain in regular {
        batch.add_chain(&table, chain);
    }
    for (name, kind, hook, priority, jumps) in BASE_CHAINS {
        batch.add_base_chain(&table, name, &Base { kind, hook, priority });
        for (chain, new) in jumps {
            let rule = if *new { Rule::new().has_any(Field::CtState, ct_state::NEW) } else { Rule::new() };
            batch.add_rule(&table, name, &rule.jump(chain));
        }
    }
    for (chain, rule) in rules(family, config) {
        batch.add_rule(&table, chain, &rule);
    }
}

fn rules(family: IpFamily, config: &Config) -> Vec<(&'static str, Rule)> {
    let nft = nft_family(family);
    let (source, destination) = (Field::source(nft), Field::destination(nft));
    let address_port = [destination, Field::Protocol, Field::DestinationPort];
    let port = [Field::Protocol, Field::DestinationPort];
    let (loopback, multicast) = match family {
        IpFamily::V4 => ((IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8), (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4)),
        IpFamily::V6 => {
            let multicast = Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0);
            ((IpAddr::V6(Ipv6Addr::LOCALHOST), 128), (IpAddr::V6(multicast), 8))
        }
    };
    let outside = |rule: Rule, (address, prefix)| rule.network(destination, Operator::Ne, address, prefix);
    let masquerades = Rule::new().has_any(Field::Mark, MASQUERADE).clear_mark(MASQUERADE).masquerade();
    let hairpins = Rule::new()
        .has_any(Field::CtStatus, ct_status::DNAT)
        .in_set(&[source, destination, Field::Protocol, Field::DestinationPort], Container::Hairpins.name())
        .masquerade();
    let from_outside = Rule::new()
        .in_set(&[destination], Container::ClusterIps.name())
        .not_in_set(&[source], POD_NETWORKS)
        .set_mark(MASQUERADE)
        .comment("masquerade clusterIP traffic from outside cluster");
    let node_ports = outside(Rule::new().is(Field::DestinationType, fib_type::LOCAL), loopback);
    let wrong_port = Rule::new()
        .in_set(&[destination], Container::ClusterIps.name())
        .reject(Reject::port_unreachable(nft))
        .comment("Reject traffic to invalid ports of ClusterIPs");
    let mut rules = vec![
        (MASQUERADING, masquerades),
        (MASQUERADING, hairpins),
        (SERVICES, from_outside),
        (SERVICES, Rule::new().vmap(&address_port, Container::ServiceIps.name())),
        (SERVICES, node_ports.vmap(&port, Container::NodePorts.name())),
        (FIREWALL, Rule::new().vmap(&address_port, Container::FirewallIps.name())),
        (SERVICE_ENDPOINTS, Rule::new().vmap(&address_port, Container::NoEndpointServices.name())),
        (NODE_PORT_ENDPOINTS, outside(Rule::new(), loopback).vmap(&port, Container::NoEndpointNodePorts.name())),
        (CLUSTER_IPS, wrong_port),
        (REJECT_CHAIN, Rule::new().reject(Reject::port_unreachable(nft))),
    ];
    let unused = ranges(&of_family(family, &config.service_networks));
    if !unused.is_empty() {
        let set = SetRef::own(Set::new("", &[address_type(family)]).intervals(), unused);
        rules.push((
            CLUSTER_IPS,
            // What this node serves itself, as the cluster's DNS, is somebody's.
            Rule::new()
                .is_not(Field::DestinationType, fib_type::LOCAL)
                .in_set(&[destination], set)
                .drop()
                .comment("Drop traffic to unallocated ClusterIPs"),
        ));
    }
    if config.masquerade {
        let leaving = Rule::new().in_set(&[source], POD_NETWORKS).not_in_set(&[destination], POD_NETWORKS);
        let leaving =
            outside(leaving, multicast).masquerade().comment("masquerade what pods send to outside the cluster");
        rules.push((MASQUERADING, leaving));
    }
    rules
}

/// Says anew which addresses pods have.
pub(crate) fn set_pod_networks(batch: &mut Batch, family: IpFamily, networks: &[Cidr]) {
    let (table, set) = (table(family), pod_networks(family));
    batch.flush_set(&table, POD_NETWORKS);
    batch.add_ranges(&table, &set, ranges(&of_family(family, networks)));
}

fn of_family(family: IpFamily, networks: &[Cidr]) -> Vec<Cidr> {
    networks.iter().copied().filter(|network| family.has(network.first())).collect()
}

/// Networks as ranges that do not overlap.
pub(crate) fn ranges(networks: &[Cidr]) -> Vec<Element> {
    let within = |inner: &Cidr, outer: &Cidr| outer.prefix() < inner.prefix() && outer.contains(inner.first());
    let mut outer: Vec<Cidr> =
        networks.iter().filter(|inner| !networks.iter().any(|outer| within(inner, outer))).copied().collect();
    outer.sort_unstable();
    outer.dedup();
    outer.iter().map(|network| Element::network(network.first(), network.prefix())).collect()
}
