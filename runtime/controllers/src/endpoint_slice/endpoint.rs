//! What the endpoints of a Service should be.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
use kiln_client::{ObjectRef, Store};

use crate::pods::is_ready;
use crate::service_pods::{addresses_of, find_port, has_address, hostname, is_endpoint, target};

/// Endpoints by what makes them the same endpoint as before, whatever else of them changes.
pub(crate) type Endpoints = BTreeMap<EndpointKey, Endpoint>;
/// What endpoints of one slice have in common.
pub(crate) type PortsKey = Vec<(Option<String>, Option<String>, Option<i32>, Option<String>)>;

/// Addresses, hostname, and whom it leads to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EndpointKey {
    addresses: Vec<String>,
    hostname: String,
    namespace: String,
    name: String,
}

impl EndpointKey {
    pub(crate) fn of(endpoint: &Endpoint) -> Self {
        let mut addresses = endpoint.addresses.clone();
        addresses.sort();
        let target = endpoint.target_ref.as_ref();
        Self {
            addresses,
            hostname: endpoint.hostname.clone().unwrap_or_default(),
            namespace: target.and_then(|target| target.namespace.clone()).unwrap_or_default(),
            name: target.and_then(|target| target.name.clone()).unwrap_or_default(),
        }
    }
}

/// A set of ports, in whatever order they are.
pub(crate) fn ports_key(ports: &[EndpointPort]) -> PortsKey {
    let one = |port: &EndpointPort| (port.name.clone(), port.protocol.clone(), port.port, port.app_protocol.clone());
    let mut key: PortsKey = ports.iter().map(one).collect();
    key.sort();
    key
}

/// Whether two states of the same endpoint are equal but for hints.
pub(crate) fn is_equal(a: &Endpoint, b: &Endpoint) -> bool {
    let target = |endpoint: &Endpoint| {
        let mut target = endpoint.target_ref.clone();
        if let Some(target) = &mut target {
            target.resource_version = None;
        }
        target
    };
    a.node_name == b.node_name && a.zone == b.zone && a.conditions == b.conditions && target(a) == target(b)
}

/// Endpoints that share their ports.
pub(crate) struct Group {
    pub(crate) ports: Vec<EndpointPort>,
    pub(crate) endpoints: Endpoints,
}

/// The families of addresses that a Service has.
pub(super) fn families(service: &Service) -> Vec<&'static str> {
    let spec = service.spec.as_ref();
    let known = spec.and_then(|spec| spec.ip_families.as_deref()).unwrap_or_default();
    let families: Vec<_> = ["IPv4", "IPv6"].into_iter().filter(|family| known.iter().any(|k| k == family)).collect();
    match (families.is_empty(), has_address(service)) {
        (false, _) => families,
        (true, true) => {
            let v6 = spec.and_then(|spec| spec.cluster_ip.as_deref()).is_some_and(|address| address.contains(':'));
            vec![if v6 { "IPv6" } else { "IPv4" }]
        }
        (true, false) => vec!["IPv4", "IPv6"],
    }
}

/// The endpoints of one family, by their ports; and why a Pod was left out that should be among them, if one was.
pub(super) fn wanted(
    service: &Service,
    pods: &[&Pod],
    nodes: &Store<Node>,
    family: &str,
) -> (BTreeMap<PortsKey, Group>, Option<String>) {
    let unready_too = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or_default();
    let mut groups = BTreeMap::<PortsKey, Group>::new();
    let mut skipped = None;
    for pod in pods.iter().filter(|pod| is_endpoint(pod, true)) {
        let ports = ports(service, pod);
        let group = groups.entry(ports_key(&ports)).or_insert_with(|| Group { ports, endpoints: Endpoints::new() });
        let node_name = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
        let node = nodes.get(&ObjectRef::cluster(node_name));
        // A Pod that says it is on a node that is not there will be removed; until then nobody is sent to it.
        if node.is_none() && !unready_too {
            let name = |meta: &Option<String>| meta.clone().unwrap_or_default();
            let (pod, namespace) = (name(&pod.metadata.name), name(&service.metadata.namespace));
            let service = name(&service.metadata.name);
            skipped = Some(format!("skipping Pod {pod} for Service {namespace}/{service}: Node {node_name} Not Found"));
            continue;
        }
        let endpoint = endpoint(service, pod, node.as_deref(), family == "IPv6", unready_too);
        if !endpoint.addresses.is_empty() {
            group.endpoints.insert(EndpointKey::of(&endpoint), endpoint);
        }
    }
    (groups, skipped)
}

fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let port = |port: &k8s_openapi::api::core::v1::ServicePort| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(find_port(pod, port)?),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            app_protocol: port.app_protocol.clone(),
        })
    };
    ports.filter_map(port).collect()
}

fn endpoint(service: &Service, pod: &Pod, node: Option<&Node>, v6: bool, unready_too: bool) -> Endpoint {
    let (serving, terminating) = (is_ready(pod), pod.metadata.deletion_timestamp.is_some());
    let zone = node.and_then(|node| node.metadata.labels.as_ref()?.get("topology.kubernetes.io/zone"));
    Endpoint {
        addresses: addresses_of(pod, v6).map(|address| address.to_string()).collect(),
        conditions: Some(EndpointConditions {
            // None is ready that is going, for clients that know of no other condition.
            ready: Some(unready_too || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        deprecated_topology: None,
        hints: None,
        hostname: hostname(pod, service),
        node_name: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).filter(|name| !name.is_empty()),
        target_ref: Some(target(pod)),
        zone: zone.filter(|zone| !zone.is_empty()).cloned(),
    }
}
