//! Ports of the node that pods take.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerPort, Pod};

use crate::resources::is_sidecar;

/// Address, protocol and number.
type Port<'a> = (&'a str, &'a str, i32);

const ANY: &str = "0.0.0.0";

/// Whether a port of a pod is taken by another.
pub(super) fn conflict(pod: &Pod, others: &[Arc<Pod>]) -> bool {
    let taken: Vec<Port<'_>> = others.iter().flat_map(|other| of_pod(other)).collect();
    of_pod(pod).any(|port| taken.iter().any(|other| clash(port, *other)))
}

fn of_pod(pod: &Pod) -> impl Iterator<Item = Port<'_>> {
    let spec = pod.spec.iter();
    let containers = spec.flat_map(|spec| {
        spec.containers.iter().chain(spec.init_containers.iter().flatten().filter(|init| is_sidecar(init)))
    });
    containers.flat_map(|container| container.ports.iter().flatten()).filter_map(taken)
}

fn taken(port: &ContainerPort) -> Option<Port<'_>> {
    let number = port.host_port.filter(|number| *number > 0)?;
    let address = port.host_ip.as_deref().filter(|address| !address.is_empty()).unwrap_or(ANY);
    Some((address, port.protocol.as_deref().filter(|protocol| !protocol.is_empty()).unwrap_or("TCP"), number))
}

fn clash(a: Port<'_>, b: Port<'_>) -> bool {
    a.1 == b.1 && a.2 == b.2 && (a.0 == b.0 || a.0 == ANY || b.0 == ANY)
}
