//! What is tried out, by what the cluster has.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kiln_dns::addon;
use kiln_kubelet::server::PORT as KUBELET;
use kiln_network::Cidr;

use super::place;
use crate::node::cluster::ClusterSettings;

/// Services that are tried at most: the picture is for a person.
const SERVICES: usize = 20;
const DNS: u16 = 53;
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What the API shows.
pub(super) struct Cluster {
    /// The name of this node.
    pub(super) own: String,
    pub(super) settings: ClusterSettings,
    pub(super) nodes: Vec<Node>,
    pub(super) services: Vec<Service>,
    pub(super) slices: Vec<EndpointSlice>,
}

/// Whom to try.
pub(super) struct Plan {
    /// Other nodes by their names: the node, and its pods.
    pub(super) nodes: Vec<(String, Target, Target)>,
    pub(super) dns: Vec<Target>,
    pub(super) services: Vec<Target>,
}

/// One to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) what: String,
    pub(super) at: Option<String>,
    pub(super) how: How,
}

/// How it is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum How {
    /// A connection must come about.
    Connect(SocketAddr),
    /// There must be any answer: a connection that is refused is as good, since somebody refused it.
    Knock(SocketAddr),
    /// A name must have this address, if it is known.
    Name { server: SocketAddr, name: String, wanted: Option<IpAddr> },
    /// The root's name servers must be told: somebody outside was asked.
    Outside(SocketAddr),
    /// Not at all, for this reason.
    Not(String),
}

impl Target {
    fn not(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { what: what.into(), at: None, how: How::Not(why.into()) }
    }
}

/// Chooses whom to try.
pub(super) fn plan(cluster: &Cluster) -> Plan {
    let others = cluster.nodes.iter().filter(|node| node.metadata.name.as_deref() != Some(&cluster.own));
    let mut nodes: Vec<_> = others.map(|node| cluster.other(node)).collect();
    nodes.sort_by(|a, b| a.0.cmp(&b.0));
    Plan { nodes, dns: cluster.dns(), services: cluster.services() }
}

impl Cluster {
    fn other(&self, node: &Node) -> (String, Target, Target) {
        let name = node.metadata.name.clone().unwrap_or_default();
        let addresses = node.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
        let internal = addresses.iter().filter(|address| address.type_ == "InternalIP");
        let address: Option<IpAddr> = internal.filter_map(|address| address.address.parse().ok()).next();
        let itself = match address {
            Some(address) => {
                let at = SocketAddr::new(address, KUBELET);
                Target { what: "node".to_owned(), at: Some(address.to_string()), how: How::Knock(at) }
            }
            None => Target::not("node", "it has told no address yet"),
        };
        (name.clone(), itself, self.pods_of(node, &name))
    }

    /// A pod of a node that stands behind a Service, and does not use the node's own addresses.
    fn pods_of(&self, node: &Node, name: &str) -> Target {
        let ranges = node.spec.as_ref().and_then(|spec| spec.pod_cidrs.as_deref()).unwrap_or_default();
        let ranges: Vec<Cidr> = ranges.iter().filter_map(|range| range.parse().ok()).collect();
        if ranges.is_empty() {
            return Target::not("pods", "the node has no range of addresses for pods yet");
        }
        let endpoints = self.slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
        let here = endpoints.filter(|endpoint| endpoint.node_name.as_deref() == Some(name));
        let addresses = here.flat_map(|endpoint| endpoint.addresses.iter().filter_map(|address| address.parse().ok()));
        let pod = addresses.into_iter().find(|address: &IpAddr| ranges.iter().any(|range| range.contains(*address)));
        match pod {
            // Port 1 is nobody's: that the pod says so is the answer.
            Some(pod) => {
                Target { what: "pods".to_owned(), at: Some(pod.to_string()), how: How::Knock(SocketAddr::new(pod, 1)) }
            }
            None => Target::not("pods", "no pod there stands behind a Service"),
        }
    }

    fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        let is = |value: &Option<String>, wanted: &str| value.as_deref() == Some(wanted);
        self.services
            .iter()
            .find(|service| is(&service.metadata.name, name) && is(&service.metadata.namespace, namespace))
    }

    fn dns(&self) -> Vec<Target> {
        let Some(service) = self.service(addon::NAMESPACE, addon::NAME) else {
            let why = format!(
                "there is no Service {}/{}: it was left out by --disable dns, or the server has not made it yet",
                addon::NAMESPACE,
                addon::NAME
            );
            return vec![Target::not("DNS", why)];
        };
        let domain = match self.settings.cluster_domain.as_str() {
            "" => "cluster.local",
            domain => domain,
        };
        let api = self.service("default", "kubernetes").and_then(|api| addresses(api).into_iter().next());
        let mut targets = Vec::new();
        for address in addresses(service) {
            let (server, name) = (SocketAddr::new(address, DNS), format!("kubernetes.default.svc.{domain}"));
            let target = |what: String, how: How| Target { what, at: Some(address.to_string()), how };
            let wanted = api.filter(|api| api.is_ipv4());
            targets.push(target(name.clone(), How::Name { server, name, wanted }));
            targets.push(target("names outside".to_owned(), How::Outside(server)));
        }
        targets
    }

    fn services(&self) -> Vec<Target> {
        let targets = self.services.iter().filter_map(|service| self.port_of(service));
        targets.take(SERVICES).collect()
    }

    /// A Service's first address and first port of TCP.
    fn port_of(&self, service: &Service) -> Option<Target> {
        let address = addresses(service).into_iter().next()?;
        let ports = service.spec.as_ref()?.ports.as_deref()?;
        let port = ports.iter().find(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"))?;
        let port = u16::try_from(port.port).ok()?;
        let (namespace, name) = (service.metadata.namespace.as_deref()?, service.metadata.name.as_deref()?);
        let what = format!("{namespace}/{name}");
        let own = |slice: &&EndpointSlice| {
            slice.metadata.namespace.as_deref() == Some(namespace)
                && slice
                    .metadata
                    .labels
                    .as_ref()
                    .and_then(|labels| labels.get(SERVICE_NAME))
                    .is_some_and(|of| of == name)
        };
        let mut endpoints = self.slices.iter().filter(own).flat_map(|slice| slice.endpoints.iter().flatten());
        let is_ready = endpoints
            .any(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false));
        let (at, how) = (place(address, port), How::Connect(SocketAddr::new(address, port)));
        let how = if is_ready { how } else { How::Not("it has no endpoint that is ready".to_owned()) };
        Some(Target { what, at: Some(at), how })
    }
}

/// A Service's own addresses.
fn addresses(service: &Service) -> Vec<IpAddr> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let ips = spec.cluster_ips.iter().flatten().chain(spec.cluster_ip.iter().filter(|_| spec.cluster_ips.is_none()));
    ips.filter_map(|ip| ip.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read<T: serde::de::DeserializeOwned>(object: Value) -> T {
        serde_json::from_value(object).unwrap()
    }

    fn node(name: &str, address: &str, range: &str) -> Node {
        read(json!({
            "metadata": {"name": name},
            "spec": {"podCIDRs": [range]},
            "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]},
        }))
    }

    fn service(namespace: &str, name: &str, ip: &str, port: u16) -> Service {
        read(json!({
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"clusterIP": ip, "clusterIPs": [ip], "ports": [{"port": port, "protocol": "TCP"}]},
        }))
    }

    fn slice(namespace: &str, service: &str, endpoints: Value) -> EndpointSlice {
        let labels = json!({"kubernetes.io/service-name": service});
        read(json!({
            "metadata": {"namespace": namespace, "name": service, "labels": labels},
            "addressType": "IPv4",
            "endpoints": endpoints,
        }))
    }

    #[test]
    fn what_is_tried_follows_from_what_there_is() {
        let cluster = Cluster {
            own: "hub".to_owned(),
            settings: ClusterSettings::default(),
            nodes: vec![
                node("pi", "10.0.0.2", "10.42.1.0/24"),
                node("hub", "10.0.0.1", "10.42.0.0/24"),
                node("a", "10.0.0.3", "10.42.2.0/24"),
            ],
            services: vec![
                service("default", "kubernetes", "10.43.0.1", 443),
                service("kube-system", "kube-dns", "10.43.0.10", 53),
                service("default", "idle", "10.43.0.9", 80),
                service("default", "headless", "None", 80),
            ],
            slices: vec![
                slice("default", "kubernetes", json!([{"addresses": ["10.0.0.1"]}])),
                // One pod of the node has the node's own address.
                slice(
                    "default",
                    "web",
                    json!([{"addresses": ["10.0.0.2"], "nodeName": "pi"}, {"addresses": ["10.42.1.7"], "nodeName": "pi"}]),
                ),
                slice(
                    "default",
                    "idle",
                    json!([{"addresses": ["10.42.1.8"], "nodeName": "pi", "conditions": {"ready": false}}]),
                ),
                slice("kube-system", "kube-dns", json!([{"addresses": ["10.43.0.10"]}])),
            ],
        };
        let plan = plan(&cluster);
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let [(first, _, nobody), (second, itself, pods)] = plan.nodes.as_slice() else { panic!("two others") };
        assert_eq!((first.as_str(), second.as_str()), ("a", "pi"));
        assert_eq!(
            (&itself.how, &pods.how),
            (&How::Knock(address("10.0.0.2:10250")), &How::Knock(address("10.42.1.7:1")))
        );
        assert!(matches!(nobody.how, How::Not(_)));
        let [inside, outside] = plan.dns.as_slice() else { panic!("two questions") };
        let name = "kubernetes.default.svc.cluster.local".to_owned();
        let server = address("10.43.0.10:53");
        assert_eq!(inside.how, How::Name { server, name, wanted: Some(address("10.43.0.1:1").ip()) });
        assert_eq!(outside.how, How::Outside(server));
        let services: Vec<_> =
            plan.services.iter().map(|target| (target.what.as_str(), matches!(target.how, How::Connect(_)))).collect();
        assert_eq!(services, [("default/kubernetes", true), ("kube-system/kube-dns", true), ("default/idle", false)]);
    }
}
