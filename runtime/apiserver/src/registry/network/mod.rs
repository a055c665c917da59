//! Services and what stands behind them.

mod cells;
mod columns;
mod service;

use columns as c;

use crate::registry::resource::{Resource, core, v1};

/// The rows. One kind, one paragraph: a table reads better than a tower.
#[rustfmt::skip]
pub(crate) fn rows() -> Vec<Resource> {
    vec![
        core("Service", "services").short(&["svc"]).in_all().with_status().fields(&["spec", "status"])
            .selectable(&["spec.clusterIP", "spec.type"]).columns(c::SERVICE).create_on_update().strategy(service::Services),
        core("Endpoints", "endpoints").short(&["ep"]).fields(&["subsets"]).columns(c::ENDPOINTS).create_on_update(),
        v1("discovery.k8s.io", "EndpointSlice", "endpointslices").fields(&["addressType", "endpoints", "ports"]).generations(),
    ]
}
