//! Services, what stands behind them, and what lets traffic in.

mod addresses;
mod cells;
pub(crate) mod cluster_ips;
mod columns;
mod endpoints;
mod ingress;
mod policy;
mod service;
mod service_rules;

use columns as c;

use crate::registry::resource::{PROXY_VERBS, Resource, core, v1};

const NETWORKING: &str = "networking.k8s.io";

/// The rows. One kind, one paragraph: a table reads better than a tower.
#[rustfmt::skip]
pub(crate) fn rows() -> Vec<Resource> {
    vec![
        core("Service", "services").short(&["svc"]).in_all().with_status().subresource_as("proxy", PROXY_VERBS, ("", "v1", "ServiceProxyOptions"))
            .selectable(&["spec.clusterIP", "spec.type"]).columns(c::SERVICE).create_on_update().strategy(service::Services),
        core("Endpoints", "endpoints").short(&["ep"]).columns(c::ENDPOINTS).create_on_update()
            .strategy(endpoints::Endpoints),
        v1("discovery.k8s.io", "EndpointSlice", "endpointslices").generations()
            .columns(c::ENDPOINT_SLICE).strategy(endpoints::EndpointSlices),
        v1(NETWORKING, "Ingress", "ingresses").short(&["ing"]).with_status().generations()
            .columns(c::INGRESS).strategy(ingress::Ingresses),
        v1(NETWORKING, "IngressClass", "ingressclasses").cluster().generations()
            .columns(c::INGRESS_CLASS).strategy(ingress::IngressClasses),
        v1(NETWORKING, "NetworkPolicy", "networkpolicies").short(&["netpol"]).generations()
            .columns(c::NETWORK_POLICY).strategy(policy::NetworkPolicies),
        v1(NETWORKING, "IPAddress", "ipaddresses").cluster().short(&["ip"])
            .columns(c::IP_ADDRESS).strategy(addresses::IpAddresses),
        v1(NETWORKING, "ServiceCIDR", "servicecidrs").cluster().with_status()
            .columns(c::SERVICE_CIDR).strategy(addresses::ServiceCidrs),
    ]
}
