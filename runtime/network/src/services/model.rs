//! What the proxy needs to know of a Service and of who stands behind it, taken from the API's objects.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Service, ServicePort as ApiPort};
use k8s_openapi::api::discovery::v1::{Endpoint as ApiEndpoint, EndpointSlice};

use crate::Cidr;

/// The label by which a slice, or a Service, is another proxy's.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// The label of Services without an address, which need no proxy.
const HEADLESS: &str = "service.kubernetes.io/headless";
/// How long a client sticks to an endpoint if nothing is said.
const STICKY: u64 = 10_800;

/// One of the two families of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum IpFamily {
    V4,
    V6,
}

impl IpFamily {
    pub(crate) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub(crate) fn has(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }
}

/// A protocol that Services have, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Protocol {
    Tcp = 6,
    Udp = 17,
    Sctp = 132,
}

impl Protocol {
    fn of(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// One port of a Service, in one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServicePort {
    /// The port's name, by which endpoints have theirs.
    pub(crate) name: String,
    pub(crate) family: IpFamily,
    pub(crate) protocol: Protocol,
    pub(crate) cluster_ip: IpAddr,
    pub(crate) port: u16,
    pub(crate) node_port: Option<u16>,
    pub(crate) external_ips: Vec<IpAddr>,
    /// Addresses of load balancers whose packets arrive with them as their destination.
    pub(crate) balancer_ips: Vec<IpAddr>,
    /// Who may use those; anyone if it is empty.
    pub(crate) source_ranges: Vec<Cidr>,
    /// How long a client sticks to an endpoint, if it does.
    pub(crate) affinity: Option<Duration>,
    pub(crate) external_local: bool,
    pub(crate) internal_local: bool,
}

impl ServicePort {
    /// Whether it can be reached by more than its cluster IP.
    pub(crate) fn is_external(&self) -> bool {
        self.node_port.is_some() || !self.external_ips.is_empty() || !self.balancer_ips.is_empty()
    }

    /// Whether traffic may ever go to any endpoint of the cluster.
    pub(crate) fn uses_cluster(&self) -> bool {
        !self.internal_local || self.is_external()
    }

    /// Whether some traffic may only go to endpoints of this node.
    pub(crate) fn uses_local(&self) -> bool {
        self.internal_local || (self.external_local && self.is_external())
    }
}

/// All ports of a Service, in each of its families; none if it is not for this proxy.
pub(crate) fn ports(service: &Service) -> Vec<ServicePort> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let labels = service.metadata.labels.as_ref();
    let has = |label| labels.is_some_and(|labels: &BTreeMap<String, String>| labels.contains_key(label));
    let is_external_name = spec.type_.as_deref() == Some("ExternalName");
    if is_external_name || has(PROXY_NAME) || has(HEADLESS) {
        return Vec::new();
    }
    let first = spec.cluster_ip.iter();
    let addresses = spec.cluster_ips.as_ref().map_or_else(|| first.collect(), |all| all.iter().collect::<Vec<_>>());
    let mut found = Vec::new();
    for address in addresses.into_iter().filter_map(|text| text.parse::<IpAddr>().ok()) {
        let family = if address.is_ipv4() { IpFamily::V4 } else { IpFamily::V6 };
        found.extend(spec.ports.iter().flatten().filter_map(|port| service_port(service, port, address, family)));
    }
    found
}

fn service_port(service: &Service, port: &ApiPort, cluster_ip: IpAddr, family: IpFamily) -> Option<ServicePort> {
    let spec = service.spec.as_ref()?;
    let of_family = |text: &String| text.parse().ok().filter(|address| family.has(*address));
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    let vips = ingress.iter().filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"));
    let ranges = spec.load_balancer_source_ranges.iter().flatten().filter_map(|text| text.parse::<Cidr>().ok());
    let mut source_ranges: Vec<_> = ranges.filter(|range| family.has(range.first())).collect();
    if source_ranges.iter().any(|range| range.prefix() == 0) {
        source_ranges.clear();
    }
    let is_outer = matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"))
        || spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty());
    let sticky = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
    let sticky = sticky.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(STICKY);
    Some(ServicePort {
        name: port.name.clone().unwrap_or_default(),
        family,
        protocol: Protocol::of(port.protocol.as_deref())?,
        cluster_ip,
        port: u16::try_from(port.port).ok()?,
        node_port: port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0),
        external_ips: spec.external_ips.iter().flatten().filter_map(of_family).collect(),
        balancer_ips: vips.filter_map(|ingress| ingress.ip.as_ref()).filter_map(of_family).collect(),
        source_ranges,
        affinity: (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| Duration::from_secs(sticky)),
        external_local: is_outer && spec.external_traffic_policy.as_deref() == Some("Local"),
        internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
    })
}

/// The port at which a load balancer asks whether this node has endpoints of a Service.
pub(crate) fn health_check_port(service: &Service) -> Option<u16> {
    let spec = service.spec.as_ref()?;
    let needs =
        spec.type_.as_deref() == Some("LoadBalancer") && spec.external_traffic_policy.as_deref() == Some("Local");
    spec.health_check_node_port.filter(|_| needs).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)
}

/// Who stands behind a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    /// Whether it is on this node.
    pub(crate) local: bool,
    pub(crate) ready: bool,
    pub(crate) serving: bool,
    pub(crate) terminating: bool,
    /// Nodes and zones that it is meant for.
    pub(crate) nodes: Vec<String>,
    pub(crate) zones: Vec<String>,
}

/// The Service that a slice is of: `namespace/name`. None if it is another proxy's or nobody's.
pub(crate) fn service_of(slice: &EndpointSlice) -> Option<(&str, &str)> {
    let labels = slice.metadata.labels.as_ref()?;
    if labels.contains_key(PROXY_NAME) || labels.contains_key(HEADLESS) {
        return None;
    }
    let name = labels.get("kubernetes.io/service-name").filter(|name| !name.is_empty())?;
    Some((slice.metadata.namespace.as_deref()?, name))
}

/// All endpoints of a port, in the order of their addresses. Of two with one address and port the one that is not going counts.
pub(crate) fn endpoints<'a>(
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    port: &ServicePort,
    node: &str,
) -> Vec<Endpoint> {
    let mut found: BTreeMap<(IpAddr, u16), Endpoint> = BTreeMap::new();
    for slice in slices {
        let kind = if port.family == IpFamily::V4 { "IPv4" } else { "IPv6" };
        if slice.address_type != kind {
            continue;
        }
        let ports = slice.ports.iter().flatten().filter(|own| {
            own.name.as_deref().unwrap_or_default() == port.name
                && Protocol::of(own.protocol.as_deref()) == Some(port.protocol)
        });
        for number in ports.filter_map(|own| u16::try_from(own.port?).ok()) {
            for endpoint in slice.endpoints.iter().flatten().filter_map(|endpoint| one(endpoint, number, node)) {
                let key = (endpoint.address, number);
                if !endpoint.terminating || !found.contains_key(&key) {
                    found.insert(key, endpoint);
                }
            }
        }
    }
    found.into_values().collect()
}

fn one(endpoint: &ApiEndpoint, port: u16, node: &str) -> Option<Endpoint> {
    let address: IpAddr = endpoint.addresses.first()?.parse().ok()?;
    if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
        return None;
    }
    let conditions = endpoint.conditions.as_ref();
    let hints = endpoint.hints.as_ref();
    let nodes = hints.and_then(|hints| hints.for_nodes.as_ref()).into_iter().flatten();
    let zones = hints.and_then(|hints| hints.for_zones.as_ref()).into_iter().flatten();
    Some(Endpoint {
        address,
        port,
        local: endpoint.node_name.as_deref() == Some(node),
        ready: conditions.and_then(|conditions| conditions.ready).unwrap_or(true),
        serving: conditions.and_then(|conditions| conditions.serving).unwrap_or(true),
        terminating: conditions.and_then(|conditions| conditions.terminating).unwrap_or(false),
        nodes: nodes.map(|node| node.name.clone()).collect(),
        zones: zones.map(|zone| zone.name.clone()).collect(),
    })
}
