//! NetworkPolicies as what they mean, apart from any pod.

use std::sync::Arc;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::labels::Labels;
use super::views::protocol;
use crate::Cidr;

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Policy {
    /// The namespace that it is for.
    pub(super) namespace: String,
    /// The pods there.
    pub(super) pods: Labels,
    /// What may come in; none if the policy does not say.
    pub(super) ingress: Option<Vec<Rule>>,
    /// What may go out; none if the policy does not say.
    pub(super) egress: Option<Vec<Rule>>,
}

/// What a policy lets through: any of the peers at any of the ports.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Rule {
    /// All if it is none.
    pub(super) peers: Option<Vec<Peer>>,
    /// All if it is none.
    pub(super) ports: Option<Vec<Port>>,
}

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Peer {
    /// Pods.
    Pods(Namespaces, Labels),
    /// Addresses, but for some.
    Block(Cidr, Vec<Cidr>),
}

/// Where pods are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Namespaces {
    /// In this one.
    One(Arc<str>),
    /// In those with such labels.
    Labelled(Labels),
}

/// A port of a protocol.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Port {
    /// From one number to another.
    Range(u8, u16, u16),
    /// The one that the pod which is called has under this name.
    Named(u8, String),
}

impl Policy {
    /// Reads one. What cannot be read lets nothing through.
    pub(super) fn of(policy: &NetworkPolicy) -> Self {
        let namespace: Arc<str> = policy.metadata.namespace.as_deref().unwrap_or_default().into();
        let spec = policy.spec.as_ref();
        let ingress = spec.and_then(|spec| spec.ingress.as_deref()).unwrap_or_default();
        let egress = spec.and_then(|spec| spec.egress.as_deref()).unwrap_or_default();
        let types = spec.and_then(|spec| spec.policy_types.as_deref()).unwrap_or_default();
        let is_for = |kind: &str, by_default: bool| {
            if types.is_empty() { by_default } else { types.iter().any(|known| known == kind) }
        };
        let rule = |peers: &Option<Vec<NetworkPolicyPeer>>, ports: &Option<Vec<NetworkPolicyPort>>| {
            let peers = peers.as_deref().filter(|peers| !peers.is_empty());
            let ports = ports.as_deref().filter(|ports| !ports.is_empty());
            Rule {
                peers: peers.map(|peers| peers.iter().filter_map(|peer| read_peer(peer, &namespace)).collect()),
                ports: ports.map(|ports| ports.iter().map(port).collect()),
            }
        };
        Self {
            pods: spec.and_then(|spec| spec.pod_selector.as_ref()).map(Labels::of).unwrap_or_default(),
            ingress: is_for("Ingress", true).then(|| ingress.iter().map(|i| rule(&i.from, &i.ports)).collect()),
            egress: is_for("Egress", !egress.is_empty())
                .then(|| egress.iter().map(|e| rule(&e.to, &e.ports)).collect()),
            namespace: namespace.to_string(),
        }
    }
}

fn read_peer(peer: &NetworkPolicyPeer, own: &Arc<str>) -> Option<Peer> {
    if let Some(block) = &peer.ip_block {
        let except = block.except.iter().flatten().filter_map(|cidr| cidr.parse().ok()).collect();
        return Some(Peer::Block(block.cidr.parse().ok()?, except));
    }
    let pods = peer.pod_selector.as_ref().map(Labels::of).unwrap_or_default();
    let namespaces = match &peer.namespace_selector {
        Some(selector) => Namespaces::Labelled(Labels::of(selector)),
        None => Namespaces::One(Arc::clone(own)),
    };
    Some(Peer::Pods(namespaces, pods))
}

fn port(port: &NetworkPolicyPort) -> Port {
    let number = |number: i32| u16::try_from(number).unwrap_or_default();
    let protocol = protocol(port.protocol.as_deref().unwrap_or_default());
    match &port.port {
        None => Port::Range(protocol, 0, u16::MAX),
        Some(IntOrString::Int(first)) => {
            Port::Range(protocol, number(*first), port.end_port.map_or_else(|| number(*first), number))
        }
        Some(IntOrString::String(name)) => Port::Named(protocol, name.clone()),
    }
}
