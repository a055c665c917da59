//! Services, endpoints, nodes, ingresses and policies.

use kiln_apimachinery::meta;
use serde_json::Value;

use super::addresses::{address, network};
use super::{has, items};

const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const INGRESS_CLASS: &str = "kubernetes.io/ingress.class";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const SLICE_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

pub(super) fn service(service: &Value, out: &mut Vec<String>) {
    let spec = service.get("spec").unwrap_or(&Value::Null);
    let (kind, text) = (meta::text(spec, &["type"]), |key: &str| meta::text(spec, &[key]));
    if meta::annotation(service, TOPOLOGY_HINTS).is_some() {
        out.push(format!(
            "annotation {TOPOLOGY_HINTS} is deprecated, please use service.kubernetes.io/topology-mode instead"
        ));
    }
    let (ip, external) = (text("clusterIP"), meta::strings(spec.get("externalIPs")));
    if !ip.is_empty() && ip != "None" {
        list("spec.clusterIPs", &meta::strings(spec.get("clusterIPs")), out);
    }
    let headless = kind == "ClusterIP" && ip == "None";
    if headless {
        if !text("loadBalancerIP").is_empty() {
            out.push("spec.loadBalancerIP is ignored for headless services".into());
        }
        if !external.is_empty() {
            out.push("spec.externalIPs is ignored for headless services".into());
        }
        if text("sessionAffinity") != "None" {
            out.push("spec.SessionAffinity is ignored for headless services".into());
        }
    }
    list("spec.externalIPs", &external, out);
    if !external.is_empty() && !headless && kind != "ExternalName" {
        out.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".into());
    }
    out.extend(address("spec.loadBalancerIP", text("loadBalancerIP")));
    for (i, range) in meta::strings(spec.get("loadBalancerSourceRanges")).iter().enumerate() {
        out.extend(network(&format!("spec.loadBalancerSourceRanges[{i}]"), range));
    }
    if kind == "ExternalName" && !external.is_empty() {
        out.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".into());
    }
    if kind != "ExternalName" && !text("externalName").is_empty() {
        out.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".into());
    }
    if text("trafficDistribution") == "PreferClose" {
        out.push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".into());
    }
}

fn list(path: &str, ips: &[&str], out: &mut Vec<String>) {
    out.extend(ips.iter().enumerate().filter_map(|(i, ip)| address(&format!("{path}[{i}]"), ip)));
}

pub(super) fn endpoints(object: &Value, out: &mut Vec<String>) {
    if meta::labels(object).get(MANAGED_BY) == Some(&"endpoint-controller") {
        return;
    }
    for (i, subset) in items(object, &["subsets"]).iter().enumerate() {
        for key in ["addresses", "notReadyAddresses"] {
            for (j, found) in items(subset, &[key]).iter().enumerate() {
                out.extend(address(&format!("subsets[{i}].{key}[{j}].ip"), meta::text(found, &["ip"])));
            }
        }
    }
}

pub(super) fn slice(object: &Value, out: &mut Vec<String>) {
    const OURS: [&str; 2] = ["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"];
    if meta::labels(object).get(SLICE_MANAGED_BY).is_some_and(|by| OURS.contains(by)) {
        return;
    }
    for (i, endpoint) in items(object, &["endpoints"]).iter().enumerate() {
        list(&format!("endpoints[{i}].addresses"), &meta::strings(endpoint.get("addresses")), out);
    }
}

pub(super) fn node(object: &Value, out: &mut Vec<String>) {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    if has(spec, "configSource") {
        out.push("spec.configSource: the feature is removed".into());
    }
    if !meta::text(spec, &["externalID"]).is_empty() {
        out.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".into());
    }
    for (i, cidr) in meta::strings(spec.get("podCIDRs")).iter().enumerate() {
        out.extend(network(&format!("spec.podCIDRs[{i}]"), cidr));
    }
}

pub(super) fn ingress(object: &Value, out: &mut Vec<String>) {
    let class = meta::at(object, &["spec", "ingressClassName"]).filter(|c| !c.is_null());
    if meta::annotation(object, INGRESS_CLASS).is_some() && class.is_none() {
        out.push(format!("annotation {INGRESS_CLASS:?} is deprecated, please use 'spec.ingressClassName' instead"));
    }
}

/// The addresses that a load balancer has given.
pub(super) fn balancer(object: &Value, out: &mut Vec<String>) {
    for (i, ingress) in items(object, &["status", "loadBalancer", "ingress"]).iter().enumerate() {
        out.extend(address(&format!("status.loadBalancer.ingress[{i}]"), meta::text(ingress, &["ip"])));
    }
}

pub(super) fn pod_status(pod: &Value, out: &mut Vec<String>) {
    for key in ["podIPs", "hostIPs"] {
        for (i, found) in items(pod, &["status", key]).iter().enumerate() {
            out.extend(address(&format!("status.{key}[{i}].ip"), meta::text(found, &["ip"])));
        }
    }
}

pub(super) fn policy(object: &Value, out: &mut Vec<String>) {
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (i, rule) in items(object, &["spec", direction]).iter().enumerate() {
            for (j, peer) in items(rule, &[peers]).iter().enumerate() {
                let Some(block) = peer.get("ipBlock").filter(|b| !b.is_null()) else { continue };
                let at = format!("spec.{direction}[{i}].{peers}[{j}].ipBlock");
                out.extend(network(&format!("{at}.cidr"), meta::text(block, &["cidr"])));
                for (k, except) in meta::strings(block.get("except")).iter().enumerate() {
                    out.extend(network(&format!("{at}.except[{k}]"), except));
                }
            }
        }
    }
}
