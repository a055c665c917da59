//! Cells of Services and what stands behind and before them that are more than a field.

use jiff::Timestamp;
use kiln_apimachinery::meta;
use serde_json::Value;

use crate::registry::cells::{NONE, UNSET, default_name, first_text, items, or, three};

pub(crate) fn service_cluster_ip(service: &Value, _: Timestamp) -> Value {
    let first = meta::strings(meta::at(service, &["spec", "clusterIPs"])).first().copied().unwrap_or_default();
    or(first.to_owned(), NONE)
}

/// Addresses or names of load balancers, each once, in order.
fn balancers(object: &Value) -> String {
    let mut out: Vec<&str> = items(object, &["status", "loadBalancer", "ingress"])
        .iter()
        .map(|i| first_text(i, &[&["ip"], &["hostname"]]))
        .filter(|t| !t.is_empty())
        .collect();
    out.sort_unstable();
    out.dedup();
    out.join(",")
}

pub(crate) fn service_external_ip(service: &Value, _: Timestamp) -> Value {
    let given = meta::strings(meta::at(service, &["spec", "externalIPs"])).join(",");
    match meta::text(service, &["spec", "type"]) {
        "ExternalName" => meta::text(service, &["spec", "externalName"]).into(),
        "LoadBalancer" => {
            let all = [balancers(service), given];
            or(all.into_iter().filter(|t| !t.is_empty()).collect::<Vec<_>>().join(","), "<pending>")
        }
        "ClusterIP" | "NodePort" => or(given, NONE),
        _ => "<unknown>".into(),
    }
}

pub(crate) fn service_ports(service: &Value, _: Timestamp) -> Value {
    let port = |p: &Value| {
        let protocol = first_text(p, &[&["protocol"]]);
        let number = p.get("port").and_then(Value::as_i64).unwrap_or_default();
        match p.get("nodePort").and_then(Value::as_i64).filter(|n| *n > 0) {
            Some(node) => format!("{number}:{node}/{protocol}"),
            None => format!("{number}/{protocol}"),
        }
    };
    or(items(service, &["spec", "ports"]).iter().map(port).collect::<Vec<_>>().join(","), NONE)
}

pub(crate) fn service_selector(service: &Value, _: Timestamp) -> Value {
    let pairs = meta::string_map(meta::at(service, &["spec", "selector"]));
    or(pairs.into_iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(","), NONE)
}

pub(crate) fn endpoints(object: &Value, _: Timestamp) -> Value {
    let mut all = Vec::new();
    for subset in items(object, &["subsets"]) {
        let ips = || items(subset, &["addresses"]).iter().map(|a| meta::text(a, &["ip"]));
        let ports = items(subset, &["ports"]);
        if ports.is_empty() {
            all.extend(ips().map(str::to_owned));
        }
        for port in ports.iter().map(|p| p.get("port").and_then(Value::as_i64).unwrap_or_default()) {
            all.extend(
                ips().map(|ip| if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }),
            );
        }
    }
    three(&all, NONE)
}

pub(crate) fn slice_ports(slice: &Value, _: Timestamp) -> Value {
    let port = |p: &Value| match (p.get("port").and_then(Value::as_i64), p.get("name").and_then(Value::as_str)) {
        (Some(number), _) => number.to_string(),
        (None, Some(name)) => name.to_owned(),
        (None, None) => "*".to_owned(),
    };
    three(&items(slice, &["ports"]).iter().map(port).collect::<Vec<_>>(), UNSET)
}

pub(crate) fn slice_endpoints(slice: &Value, _: Timestamp) -> Value {
    let endpoints = items(slice, &["endpoints"]).iter();
    let all = endpoints.flat_map(|e| meta::strings(e.get("addresses"))).map(str::to_owned);
    three(&all.collect::<Vec<_>>(), UNSET)
}

pub(crate) fn ingress_class(ingress: &Value, _: Timestamp) -> Value {
    meta::at(ingress, &["spec", "ingressClassName"]).and_then(Value::as_str).unwrap_or(NONE).into()
}

pub(crate) fn ingress_hosts(ingress: &Value, _: Timestamp) -> Value {
    let rules = items(ingress, &["spec", "rules"]);
    let hosts: Vec<&str> = rules.iter().map(|r| meta::text(r, &["host"])).filter(|h| !h.is_empty()).take(3).collect();
    match hosts.join(",") {
        none if none.is_empty() => "*".into(),
        text if hosts.len() == 3 && rules.len() > 3 => format!("{text} + {} more...", rules.len() - 3).into(),
        text => text.into(),
    }
}

pub(crate) fn ingress_address(ingress: &Value, _: Timestamp) -> Value {
    balancers(ingress).into()
}

pub(crate) fn ingress_ports(ingress: &Value, _: Timestamp) -> Value {
    if items(ingress, &["spec", "tls"]).is_empty() { "80" } else { "80, 443" }.into()
}

pub(crate) fn ingress_class_name(class: &Value, _: Timestamp) -> Value {
    default_name(class, &["ingressclass.kubernetes.io/is-default-class"])
}

pub(crate) fn ingress_class_parameters(class: &Value, _: Timestamp) -> Value {
    let Some(parameters) = meta::at(class, &["spec", "parameters"]).filter(|p| p.is_object()) else {
        return NONE.into();
    };
    let text = |key: &str| meta::text(parameters, &[key]);
    let group = parameters.get("apiGroup").map(|_| format!(".{}", text("apiGroup"))).unwrap_or_default();
    format!("{}{group}/{}", text("kind"), text("name")).into()
}

pub(crate) fn policy_selector(policy: &Value, _: Timestamp) -> Value {
    let selector = meta::at(policy, &["spec", "podSelector"]).cloned().unwrap_or_default();
    let pairs = meta::string_map(selector.get("matchLabels"));
    let mut terms: Vec<String> = pairs.into_iter().map(|(k, v)| format!("{k}={v}")).collect();
    for expression in items(&selector, &["matchExpressions"]) {
        let key = meta::text(expression, &["key"]);
        let mut values = meta::strings(expression.get("values"));
        values.sort_unstable();
        let values = values.join(",");
        terms.push(match meta::text(expression, &["operator"]) {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    terms.sort();
    or(terms.join(","), NONE)
}

pub(crate) fn address_parent(address: &Value, _: Timestamp) -> Value {
    let Some(parent) = meta::at(address, &["spec", "parentRef"]).filter(|p| p.is_object()) else { return NONE.into() };
    let text = |key: &str| meta::text(parent, &[key]);
    let dot = if text("group").is_empty() { "" } else { "." };
    let resource = format!("{}{dot}{}", text("resource"), text("group")).to_lowercase();
    let namespace = if text("namespace").is_empty() { String::new() } else { format!("/{}", text("namespace")) };
    format!("{resource}{namespace}/{}", text("name")).into()
}

pub(crate) fn service_cidrs(cidr: &Value, _: Timestamp) -> Value {
    meta::strings(meta::at(cidr, &["spec", "cidrs"])).join(",").into()
}
