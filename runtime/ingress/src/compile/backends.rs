//! The backends, and their endpoints out of EndpointSlices.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kiln_client::ObjectRef;

use super::{Compiler, service_of};
use crate::upstream::{Backend, Protocol};

/// A port as an Ingress names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum PortRef {
    Name(String),
    Number(i32),
}

/// What makes a backend: two Ingresses that mean the same share it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) service: ObjectRef,
    pub(super) port: PortRef,
    /// What the annotation says.
    pub(super) protocol: Option<Protocol>,
}

/// All backends. Cloning it gives another handle of the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backends {
    all: Arc<Mutex<HashMap<Key, Arc<Backend>>>>,
}

impl Backends {
    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Backend>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(super) fn replace(&self, all: HashMap<Key, Arc<Backend>>) {
        *self.all.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Backend>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn of(&self, service: &ObjectRef) -> Vec<(Key, Arc<Backend>)> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|(key, _)| key.service == *service).map(|(key, b)| (key.clone(), b.clone())).collect()
    }
}

impl Compiler {
    /// Gives a Service's backends the endpoints that it has now.
    pub(super) fn refresh(&self, service: &ObjectRef) {
        for (key, backend) in self.backends.of(service) {
            self.fill(&key, &backend);
        }
    }

    /// Gives a backend its endpoints.
    pub(super) fn fill(&self, key: &Key, backend: &Backend) {
        let service = self.services.get(&key.service);
        if let Some(service) = service.as_ref().filter(|_| self.names.are_allowed())
            && let Some(name) = external_name(service)
        {
            let port = external_port(service, &key.port);
            let addresses = port.map(|port| self.names.get(name).into_iter().map(move |ip| SocketAddr::new(ip, port)));
            return backend.set(key.protocol.unwrap_or(Protocol::Http), addresses.into_iter().flatten().collect());
        }
        let port = service.as_ref().and_then(|service| find_port(service, &key.port));
        let (Some(service), Some(port)) = (&service, port) else {
            return backend.set(key.protocol.unwrap_or(Protocol::Http), Vec::new());
        };
        let slices: Vec<_> = self.slices.in_namespace(&key.service.namespace);
        let slices = slices.iter().filter(|slice| service_of(slice).as_ref() == Some(&key.service));
        let protocol = key.protocol.unwrap_or_else(|| Protocol::of_port(port.app_protocol.as_deref()));
        backend.set(protocol, addresses(service, port, slices.map(|slice| &**slice), &self.node));
    }
}

/// What a Service of the type ExternalName stands for.
pub(super) fn external_name(service: &Service) -> Option<&str> {
    let spec = service.spec.as_ref().filter(|spec| spec.type_.as_deref() == Some("ExternalName"))?;
    spec.external_name.as_deref().map(|name| name.trim_end_matches('.'))
}

/// The port of what it stands for: a number is that, whether the Service lists it or not.
fn external_port(service: &Service, wanted: &PortRef) -> Option<u16> {
    match wanted {
        PortRef::Number(number) => u16::try_from(*number).ok(),
        PortRef::Name(name) => {
            let mut ports = service.spec.as_ref()?.ports.iter().flatten();
            u16::try_from(ports.find(|port| port.name.as_ref() == Some(name))?.port).ok()
        }
    }
}

fn find_port<'a>(service: &'a Service, wanted: &PortRef) -> Option<&'a ServicePort> {
    let spec = service.spec.as_ref().filter(|spec| spec.type_.as_deref() != Some("ExternalName"))?;
    spec.ports.iter().flatten().find(|port| match wanted {
        PortRef::Name(name) => port.name.as_ref() == Some(name),
        PortRef::Number(number) => port.port == *number,
    })
}

/// Where the endpoints of a port are: the ready ones, else those that end but serve still (KEP-1669). On a Service with both families
/// they are there twice, and those of its first family are taken. With `PreferSameNode` those on this node are taken, if there are any.
fn addresses<'a>(
    service: &Service,
    port: &ServicePort,
    slices: impl Iterator<Item = &'a EndpointSlice>,
    node: &str,
) -> Vec<SocketAddr> {
    let mut found: Vec<Found> = Vec::new();
    for slice in slices {
        let named = |name: &Option<String>| name.as_deref().unwrap_or_default().to_owned();
        let ports = slice.ports.iter().flatten();
        let mut ports = ports.filter(|p| named(&p.name) == named(&port.name) && p.protocol.as_deref() != Some("UDP"));
        let Some(number) = ports.find_map(|port| u16::try_from(port.port?).ok()) else { continue };
        found.extend(slice.endpoints.iter().flatten().filter_map(|endpoint| Found::new(endpoint, number, node)));
    }
    let spec = service.spec.as_ref();
    let families = spec.and_then(|spec| spec.ip_families.as_deref()).unwrap_or_default();
    let prefers_node = spec.and_then(|spec| spec.traffic_distribution.as_deref()) == Some("PreferSameNode");
    let is_first = |found: &Found| families.first().is_none_or(|first| (first == "IPv6") == found.address.is_ipv6());
    prefer(&mut found, |found| found.is_ready);
    prefer(&mut found, is_first);
    if prefers_node {
        prefer(&mut found, |found| found.is_here);
    }
    found.into_iter().map(|found| found.address).collect()
}

/// Keeps those that are better, if any are.
fn prefer<T>(all: &mut Vec<T>, is_better: impl Fn(&T) -> bool) {
    if all.iter().any(&is_better) {
        all.retain(is_better);
    }
}

struct Found {
    address: SocketAddr,
    is_ready: bool,
    is_here: bool,
}

impl Found {
    /// An endpoint that can be used at all.
    fn new(endpoint: &Endpoint, port: u16, node: &str) -> Option<Self> {
        let conditions = endpoint.conditions.as_ref();
        let is_ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
        let is_serving = conditions.and_then(|conditions| conditions.serving).unwrap_or(is_ready);
        if !is_ready && !is_serving {
            return None;
        }
        let address: IpAddr = endpoint.addresses.first()?.parse().ok()?;
        let is_here = endpoint.node_name.as_deref() == Some(node);
        Some(Self { address: SocketAddr::new(address, port), is_ready, is_here })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn found(service: Value, slices: &[Value], port: &PortRef) -> Vec<String> {
        let service: Service = serde_json::from_value(json!({"metadata": {}, "spec": service})).unwrap();
        let slices: Vec<EndpointSlice> = slices.iter().map(|s| serde_json::from_value(s.clone()).unwrap()).collect();
        let Some(port) = find_port(&service, port) else { return vec!["no port".to_owned()] };
        addresses(&service, port, slices.iter(), "here").iter().map(ToString::to_string).collect()
    }

    fn slice(family: &str, endpoints: Value) -> Value {
        let ports = json!([{"name": "web", "port": 8080}, {"name": "admin", "port": 9090}]);
        json!({"metadata": {}, "addressType": family, "endpoints": endpoints, "ports": ports})
    }

    #[test]
    fn the_endpoints_of_a_port_are_those_that_are_ready() {
        let ports = json!([{"name": "web", "port": 80}, {"name": "admin", "port": 81}]);
        let service = json!({"ports": ports});
        let slices = [
            slice(
                "IPv4",
                json!([{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"], "conditions": {"ready": false}}]),
            ),
            slice("IPv4", json!([{"addresses": ["10.0.0.3"], "conditions": {"ready": true}}])),
        ];
        for (port, expected) in [
            (PortRef::Number(80), &["10.0.0.1:8080", "10.0.0.3:8080"][..]),
            (PortRef::Name("admin".to_owned()), &["10.0.0.1:9090", "10.0.0.3:9090"]),
            (PortRef::Number(8080), &["no port"]),
            (PortRef::Name("other".to_owned()), &["no port"]),
        ] {
            assert_eq!(found(service.clone(), &slices, &port), expected, "{port:?}");
        }
        let external = json!({"type": "ExternalName", "ports": ports});
        assert_eq!(found(external, &slices, &PortRef::Number(80)), ["no port"]);
    }

    #[test]
    fn endpoints_that_end_are_used_when_there_is_no_other() {
        let service = json!({"ports": [{"name": "web", "port": 80}]});
        let ending = json!([
            {"addresses": ["10.0.0.1"], "conditions": {"ready": false, "serving": true, "terminating": true}},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": false, "serving": false, "terminating": true}},
        ]);
        assert_eq!(found(service, &[slice("IPv4", ending)], &PortRef::Number(80)), ["10.0.0.1:8080"]);
    }

    #[test]
    fn of_two_families_the_first_is_taken_and_of_nodes_this_one_if_it_is_preferred() {
        let slices = [
            slice(
                "IPv6",
                json!([{"addresses": ["fd00::1"], "nodeName": "here"}, {"addresses": ["fd00::2"], "nodeName": "there"}]),
            ),
            slice(
                "IPv4",
                json!([{"addresses": ["10.0.0.1"], "nodeName": "here"}, {"addresses": ["10.0.0.2"], "nodeName": "there"}]),
            ),
        ];
        let service = json!({"ports": [{"name": "web", "port": 80}], "ipFamilies": ["IPv4", "IPv6"]});
        assert_eq!(found(service, &slices, &PortRef::Number(80)), ["10.0.0.1:8080", "10.0.0.2:8080"]);
        let service = json!({
            "ports": [{"name": "web", "port": 80}],
            "ipFamilies": ["IPv6", "IPv4"],
            "trafficDistribution": "PreferSameNode",
        });
        assert_eq!(found(service, &slices, &PortRef::Number(80)), ["[fd00::1]:8080"]);
    }
}
