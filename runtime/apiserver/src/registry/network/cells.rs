//! Cells of Services that are more than a field.

use jiff::Timestamp;
use kiln_apimachinery::meta;
use serde_json::Value;

use crate::registry::cells::{NONE, first_text, items, or};

pub(crate) fn service_cluster_ip(service: &Value, _: Timestamp) -> Value {
    or(meta::text(service, &["spec", "clusterIP"]).to_owned(), NONE)
}

pub(crate) fn service_external_ip(service: &Value, _: Timestamp) -> Value {
    let mut ips: Vec<&str> = items(service, &["status", "loadBalancer", "ingress"])
        .iter()
        .map(|i| first_text(i, &[&["ip"], &["hostname"]]))
        .filter(|t| !t.is_empty())
        .collect();
    match meta::text(service, &["spec", "type"]) {
        "ExternalName" => meta::text(service, &["spec", "externalName"]).into(),
        kind => {
            let balancer = kind == "LoadBalancer";
            ips.extend(meta::strings(meta::at(service, &["spec", "externalIPs"])));
            or(ips.join(","), if balancer { "<pending>" } else { NONE })
        }
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
        let ports = items(subset, &["ports"]);
        for ip in items(subset, &["addresses"]).iter().map(|a| meta::text(a, &["ip"])) {
            if ports.is_empty() {
                all.push(ip.to_owned());
            }
            all.extend(
                ports.iter().map(|p| format!("{ip}:{}", p.get("port").and_then(Value::as_i64).unwrap_or_default())),
            );
        }
    }
    let more = all.len().saturating_sub(3);
    let mut text = all.into_iter().take(3).collect::<Vec<_>>().join(",");
    if more > 0 {
        text.push_str(&format!(" + {more} more..."));
    }
    or(text, NONE)
}
