//! Which endpoints traffic may go to from this node: by the traffic policies, by the hints of topology, and with endpoints that are
//! going as the last resort.

use super::model::{Endpoint, ServicePort};

/// Where this node is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) node: String,
    /// The value of `topology.kubernetes.io/zone`; empty if it has none.
    pub(crate) zone: String,
}

/// The endpoints of a port that are used.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Choice<'a> {
    /// For traffic that may go anywhere.
    pub(crate) cluster: Vec<&'a Endpoint>,
    /// For traffic that must stay on this node.
    pub(crate) local: Vec<&'a Endpoint>,
    /// Whether any endpoint in the cluster could be used.
    pub(crate) any: bool,
}

impl<'a> Choice<'a> {
    /// All that are used, each once.
    pub(crate) fn all(&self) -> impl Iterator<Item = &'a Endpoint> {
        let more = self.local.iter().filter(|local| !self.cluster.contains(local));
        self.cluster.iter().chain(more).copied()
    }
}

/// What the hints of all ready endpoints agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hints {
    None,
    Node,
    Zone,
}

/// Chooses among the endpoints of a port.
pub(crate) fn choose<'a>(port: &ServicePort, endpoints: &'a [Endpoint], place: &Place) -> Choice<'a> {
    let mut choice = Choice::default();
    let going = |endpoint: &&Endpoint| !endpoint.ready && endpoint.serving && endpoint.terminating;
    if port.uses_cluster() {
        let hints = hints(endpoints, place);
        let ready = endpoints.iter().filter(|endpoint| endpoint.ready && is_meant(endpoint, hints, place));
        choice.cluster = ready.collect();
        if choice.cluster.is_empty() {
            choice.cluster = endpoints.iter().filter(|endpoint| endpoint.serving && endpoint.terminating).collect();
        }
        choice.any = !choice.cluster.is_empty();
    }
    if port.uses_local() {
        choice.any |= endpoints.iter().any(|endpoint| endpoint.ready || going(&endpoint));
        choice.local = endpoints.iter().filter(|endpoint| endpoint.local && endpoint.ready).collect();
        if choice.local.is_empty() {
            choice.local = endpoints.iter().filter(|endpoint| endpoint.local && going(endpoint)).collect();
        }
    }
    choice
}

fn is_meant(endpoint: &Endpoint, hints: Hints, place: &Place) -> bool {
    match hints {
        Hints::None => true,
        Hints::Node => endpoint.nodes.contains(&place.node),
        Hints::Zone => endpoint.zones.contains(&place.zone),
    }
}

/// Hints count if every ready endpoint has them and some are for here.
fn hints(endpoints: &[Endpoint], place: &Place) -> Hints {
    let ready = || endpoints.iter().filter(|endpoint| endpoint.ready);
    let hinted = |names: fn(&Endpoint) -> &Vec<String>, own: &String| {
        ready().all(|endpoint| !names(endpoint).is_empty()) && ready().any(|endpoint| names(endpoint).contains(own))
    };
    if hinted(|endpoint| &endpoint.nodes, &place.node) {
        Hints::Node
    } else if hinted(|endpoint| &endpoint.zones, &place.zone) {
        Hints::Zone
    } else {
        Hints::None
    }
}
