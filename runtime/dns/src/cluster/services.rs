//! Records of Services.

use std::collections::HashSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{EndpointPort, EndpointSlice};
use kiln_client::ObjectRef;

use super::request::{OfService, dashed};
use super::{BY_SERVICE, Cluster, Found, TTL, addresses};
use crate::wire::{Name, Record, kind};

/// Where a Service is reached: one address and one port, and the labels of its name below the Service's.
struct Place {
    /// None: the Service itself.
    host: Option<String>,
    address: IpAddr,
    /// None if it has no port, or any.
    port: Option<u16>,
}

impl Cluster {
    pub(super) fn service(&self, name: &Name, kind: u16, of: &OfService<'_>) -> Found {
        let Some(service) = self.services.get(&ObjectRef::namespaced(of.namespace, of.service)) else {
            return self.no_name();
        };
        if is_external(&service) {
            return self.external(name, kind, of, &service);
        }
        let cluster_ips = cluster_ips(&service);
        let places = if is_headless(&cluster_ips) || of.endpoint.is_some() {
            self.endpoints(of)
        } else {
            of_cluster_ips(&service, &cluster_ips, of.port)
        };
        if places.is_empty() {
            return self.no_name();
        }
        match kind {
            kind::SRV => self.srv(name, of, &places),
            _ => self.have(addresses(name, kind, places.iter().map(|place| place.address)), Vec::new()),
        }
    }

    /// A Service that is another name.
    fn external(&self, name: &Name, kind: u16, of: &OfService<'_>, service: &Service) -> Found {
        let target = service.spec.as_ref().and_then(|spec| spec.external_name.as_deref());
        // An address as a name is no name; CoreDNS has nothing for it either.
        let target = target.filter(|target| target.parse::<IpAddr>().is_err()).and_then(Name::parse);
        let (Some(target), None, None) = (target, of.endpoint, of.port) else { return self.no_name() };
        let record = Record::name(name, kind::CNAME, TTL, &target);
        match kind {
            kind::CNAME => self.have(vec![record], Vec::new()),
            kind::SRV => self.have(Vec::new(), Vec::new()),
            // A name that is its own has no records.
            _ if target == *name => self.have(Vec::new(), Vec::new()),
            _ => Found::Alias { record, target },
        }
    }

    /// Ready endpoints.
    fn endpoints(&self, of: &OfService<'_>) -> Vec<Place> {
        let mut places = Vec::new();
        for slice in self.slices.by_index(BY_SERVICE, &format!("{}/{}", of.namespace, of.service)) {
            // Without ports there still are addresses.
            let none = [EndpointPort::default()];
            let ports = slice.ports.as_deref().filter(|ports| !ports.is_empty()).unwrap_or(&none);
            let wanted = |port: &&EndpointPort| {
                of.port.is_none_or(|(name, protocol)| {
                    let is = |value: &Option<String>, wanted: &str| {
                        wanted.is_empty() || value.as_deref().unwrap_or_default().eq_ignore_ascii_case(wanted)
                    };
                    is(&port.name, name) && is(&port.protocol, protocol)
                })
            };
            for (host, address) in ready(&slice) {
                if of.endpoint.is_some_and(|endpoint| !endpoint.eq_ignore_ascii_case(&host)) {
                    continue;
                }
                places.extend(ports.iter().filter(wanted).map(|port| Place {
                    host: Some(host.clone()),
                    address,
                    port: port.port.and_then(|port| u16::try_from(port).ok()),
                }));
            }
        }
        places
    }

    fn srv(&self, name: &Name, of: &OfService<'_>, places: &[Place]) -> Found {
        // CoreDNS shares a weight of 100 out among all places.
        let weight = u16::try_from(100 / places.len()).unwrap_or(1).max(1);
        let (mut answers, mut additional) = (Vec::new(), Vec::new());
        let (mut targets, mut helped) = (HashSet::new(), HashSet::new());
        for place in places {
            let Some(port) = place.port else { continue };
            let host = place.host.as_deref();
            if targets.insert((host, port))
                && let Some(target) = self.service_name(host, of)
            {
                answers.push(Record::srv(name, TTL, weight, port, &target));
            }
            if helped.insert((host, place.address))
                && let Some(target) = self.service_name(host, of)
            {
                additional.push(Record::address(&target, TTL, place.address));
            }
        }
        self.have(answers, additional)
    }

    fn service_name(&self, host: Option<&str>, of: &OfService<'_>) -> Option<Name> {
        Name::join(host.into_iter().chain([of.service, of.namespace, "svc"]), self.zone.octets())
    }
}

/// Host names and addresses of a slice's ready endpoints. One of which it is not known counts as ready.
pub(super) fn ready(slice: &EndpointSlice) -> impl Iterator<Item = (String, IpAddr)> {
    let is_ready = |conditions: Option<bool>| conditions != Some(false);
    let endpoints = slice
        .endpoints
        .iter()
        .flatten()
        .filter(move |endpoint| is_ready(endpoint.conditions.as_ref().and_then(|c| c.ready)));
    endpoints.flat_map(|endpoint| {
        endpoint.addresses.iter().filter_map(|address| {
            let host = endpoint.hostname.as_ref().filter(|host| !host.is_empty());
            Some((host.cloned().unwrap_or_else(|| dashed(address)), address.parse().ok()?))
        })
    })
}

/// A Service's own addresses, as they stand there.
pub(super) fn cluster_ips(service: &Service) -> Vec<&str> {
    let Some(spec) = &service.spec else { return Vec::new() };
    match spec.cluster_ips.as_deref() {
        Some(ips) if !ips.is_empty() => ips.iter().map(String::as_str).collect(),
        _ => spec.cluster_ip.as_deref().into_iter().collect(),
    }
}

fn is_headless(cluster_ips: &[&str]) -> bool {
    cluster_ips.first() == Some(&"None")
}

fn is_external(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName")
}

fn of_cluster_ips(service: &Service, cluster_ips: &[&str], port: Option<(&str, &str)>) -> Vec<Place> {
    let addresses: Vec<IpAddr> = cluster_ips.iter().filter_map(|ip| ip.parse().ok()).collect();
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let place = |port, address| Place { host: None, address, port };
    if ports.is_empty() && port.is_none() {
        return addresses.into_iter().map(|address| place(None, address)).collect();
    }
    let wanted = ports.iter().filter(|candidate| {
        port.is_none_or(|(name, protocol)| {
            let is = |value: &str, wanted: &str| wanted.is_empty() || value.eq_ignore_ascii_case(wanted);
            is(candidate.name.as_deref().unwrap_or_default(), name)
                && is(candidate.protocol.as_deref().unwrap_or("TCP"), protocol)
        })
    });
    let numbers = wanted.map(|port| u16::try_from(port.port).ok());
    numbers.flat_map(|number| addresses.iter().map(move |address| place(number, *address))).collect()
}
