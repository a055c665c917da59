//! Whom an endpoint is meant for: its own zone or node, as a Service's `trafficDistribution` asks (KEP-4444, KEP-3015), or zones
//! by their share of the CPUs, as the older annotation `service.kubernetes.io/topology-mode: Auto` asks (KEP-2433).

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, EndpointSlice, ForNode, ForZone};

use super::plan::Plan;
use super::topology::{Note, Topology};

/// Annotations that ask for zones by their share of the CPUs; the first that is there counts.
const ANNOTATIONS: [&str; 2] = ["service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"];

/// Sets the hints of what the plan writes, and adds to it slices that must be written for their hints alone.
pub(super) fn apply(
    plan: &mut Plan,
    service: &Service,
    family: &str,
    existing: &[Arc<EndpointSlice>],
    topology: &Topology,
) -> Vec<Note> {
    let unchanged = plan.unchanged(existing);
    if is_automatic(service) {
        return topology.add_hints(plan, service, family, &unchanged);
    }
    let notes = topology.drop_hints(service, family);
    let wanted = service.spec.as_ref().and_then(|spec| spec.traffic_distribution.as_deref());
    let distribution = match wanted {
        Some("PreferClose" | "PreferSameZone") => Distribution::Zone,
        Some("PreferSameNode") => Distribution::Node,
        _ => Distribution::Cluster,
    };
    set(plan, &unchanged, |endpoint| distribution.hints(endpoint));
    notes
}

/// Sets the hints of all slices that are not as wanted: `None` leaves an endpoint as it is.
pub(super) fn set(
    plan: &mut Plan,
    unchanged: &[Arc<EndpointSlice>],
    hints: impl Fn(&Endpoint) -> Option<Option<EndpointHints>>,
) {
    let differs = |endpoint: &Endpoint| hints(endpoint).is_some_and(|wanted| wanted != endpoint.hints);
    let more = unchanged.iter().filter(|slice| slice.endpoints.iter().flatten().any(differs));
    plan.update.extend(more.map(|slice| (**slice).clone()));
    for endpoint in
        plan.create.iter_mut().chain(&mut plan.update).flat_map(|slice| slice.endpoints.iter_mut().flatten())
    {
        if let Some(wanted) = hints(endpoint) {
            endpoint.hints = wanted;
        }
    }
}

/// Whether the older annotation asks for hints.
fn is_automatic(service: &Service) -> bool {
    let annotations = service.metadata.annotations.as_ref();
    let mode = ANNOTATIONS.iter().find_map(|key| annotations?.get(*key));
    mode.is_some_and(|mode| mode == "Auto" || mode == "auto")
}

enum Distribution {
    Cluster,
    Zone,
    Node,
}

impl Distribution {
    fn hints(&self, endpoint: &Endpoint) -> Option<Option<EndpointHints>> {
        if matches!(self, Self::Cluster) {
            return Some(None);
        }
        if !is_ready(endpoint) {
            return None;
        }
        let for_zones = endpoint.zone.clone().map(|name| vec![ForZone { name }]);
        let node = endpoint.node_name.clone().filter(|_| matches!(self, Self::Node));
        let for_nodes = node.map(|name| vec![ForNode { name }]);
        Some((for_zones.is_some() || for_nodes.is_some()).then_some(EndpointHints { for_nodes, for_zones }))
    }
}

pub(super) fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().is_some_and(|conditions| conditions.ready == Some(true))
}
