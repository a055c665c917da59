//! What a name below the cluster's domain asks for.

use std::net::{IpAddr, Ipv4Addr};

/// The parts of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request<'a> {
    /// `svc` or `pod` itself.
    Root,
    /// A namespace below either.
    Namespace(&'a str),
    /// A pod by its address.
    Pod { namespace: &'a str, pod: &'a str },
    /// A Service, or something of it.
    Service(OfService<'a>),
}

/// A Service, or something of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OfService<'a> {
    pub(super) namespace: &'a str,
    pub(super) service: &'a str,
    /// One of its endpoints, by its host name.
    pub(super) endpoint: Option<&'a str>,
    /// One of its ports, by its name and protocol.
    pub(super) port: Option<(&'a str, &'a str)>,
}

impl<'a> Request<'a> {
    /// From the labels below the domain, in lower case, the first one first. None if no such name can be.
    pub(super) fn parse(labels: &[&'a str]) -> Option<Self> {
        let (&root, labels) = labels.split_last()?;
        if root != "svc" && root != "pod" {
            return None;
        }
        let Some((&namespace, labels)) = labels.split_last() else { return Some(Self::Root) };
        let Some((&of, labels)) = labels.split_last() else { return Some(Self::Namespace(namespace)) };
        if root == "pod" {
            // As CoreDNS has it, what stands before a pod's name is not looked at, up to two labels.
            return (labels.len() <= 2).then_some(Self::Pod { namespace, pod: of });
        }
        let (endpoint, port) = match *labels {
            [] => (None, None),
            [endpoint] => (Some(endpoint), None),
            [port, protocol] => (None, Some((bare(port), bare(protocol)))),
            _ => return None,
        };
        Some(Self::Service(OfService { namespace, service: of, endpoint, port }))
    }
}

fn bare(label: &str) -> &str {
    label.strip_prefix('_').unwrap_or(label)
}

/// The address that is a pod's name: dashes for dots or colons.
pub(super) fn pod_address(pod: &str) -> Option<IpAddr> {
    if pod.matches('-').count() == 3 && !pod.contains("--") {
        return pod.replace('-', ".").parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    }
    pod.replace('-', ":").parse().ok()
}

/// The host name of an endpoint that was given none: its address with dashes.
pub(super) fn dashed(address: &str) -> String {
    if address.contains(':') {
        let mut name = address.replace(':', "-");
        if name.ends_with('-') {
            name.push('0');
        }
        return name;
    }
    address.replace('.', "-")
}
