//! Cells that are more than a field.

use jiff::Timestamp;
use kiln_apimachinery::{meta, time};
use serde_json::Value;

/// What stands for nothing.
const NONE: &str = "<none>";

fn or(text: String, otherwise: &str) -> Value {
    if text.is_empty() { otherwise.into() } else { text.into() }
}

fn items<'a>(object: &'a Value, path: &[&str]) -> &'a [Value] {
    meta::at(object, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(crate) fn none(_: &Value, _: Timestamp) -> Value {
    NONE.into()
}

pub(crate) fn node_status(node: &Value, _: Timestamp) -> Value {
    let ready = items(node, &["status", "conditions"]).iter().find(|c| meta::text(c, &["type"]) == "Ready");
    let mut parts = vec![match ready.map(|c| meta::text(c, &["status"])) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }];
    if meta::at(node, &["spec", "unschedulable"]) == Some(&Value::Bool(true)) {
        parts.push("SchedulingDisabled");
    }
    parts.join(",").into()
}

pub(crate) fn node_roles(node: &Value, _: Timestamp) -> Value {
    let role = |(key, value): (&str, &str)| match key {
        "kubernetes.io/role" if !value.is_empty() => Some(value.to_owned()),
        _ => key.strip_prefix("node-role.kubernetes.io/").filter(|r| !r.is_empty()).map(Into::into),
    };
    let mut roles: Vec<String> = meta::labels(node).into_iter().filter_map(role).collect();
    roles.sort_unstable();
    roles.dedup();
    or(roles.join(","), NONE)
}

fn node_address(node: &Value, kind: &str) -> Value {
    let found = items(node, &["status", "addresses"]).iter().find(|a| meta::text(a, &["type"]) == kind);
    or(found.map(|a| meta::text(a, &["address"]).to_owned()).unwrap_or_default(), NONE)
}

pub(crate) fn node_internal_ip(node: &Value, _: Timestamp) -> Value {
    node_address(node, "InternalIP")
}

pub(crate) fn node_external_ip(node: &Value, _: Timestamp) -> Value {
    node_address(node, "ExternalIP")
}

fn node_info(node: &Value, key: &str) -> Value {
    or(meta::text(node, &["status", "nodeInfo", key]).to_owned(), "<unknown>")
}

pub(crate) fn node_os_image(node: &Value, _: Timestamp) -> Value {
    node_info(node, "osImage")
}

pub(crate) fn node_kernel(node: &Value, _: Timestamp) -> Value {
    node_info(node, "kernelVersion")
}

pub(crate) fn node_runtime(node: &Value, _: Timestamp) -> Value {
    node_info(node, "containerRuntimeVersion")
}

pub(crate) fn config_map_data(object: &Value, _: Timestamp) -> Value {
    let n = |key: &str| object.get(key).and_then(Value::as_object).map_or(0, serde_json::Map::len);
    (n("data") + n("binaryData")).into()
}

fn first_text<'a>(object: &'a Value, paths: &[&[&str]]) -> &'a str {
    paths.iter().map(|p| meta::text(object, p)).find(|t| !t.is_empty()).unwrap_or_default()
}

pub(crate) fn event_first_seen(event: &Value, now: Timestamp) -> Value {
    let since = first_text(event, &[&["firstTimestamp"], &["deprecatedFirstTimestamp"], &["eventTime"]]);
    time::age(Some(since), now).into()
}

pub(crate) fn event_last_seen(event: &Value, now: Timestamp) -> Value {
    let paths: &[&[&str]] = &[
        &["series", "lastObservedTime"],
        &["lastTimestamp"],
        &["deprecatedLastTimestamp"],
        &["firstTimestamp"],
        &["eventTime"],
    ];
    time::age(Some(first_text(event, paths)), now).into()
}

fn about<'a>(event: &'a Value, key: &str) -> &'a str {
    first_text(event, &[&["involvedObject", key], &["regarding", key]])
}

pub(crate) fn event_object(event: &Value, _: Timestamp) -> Value {
    let (kind, name) = (about(event, "kind").to_lowercase(), about(event, "name"));
    if name.is_empty() { kind.into() } else { format!("{kind}/{name}").into() }
}

pub(crate) fn event_subobject(event: &Value, _: Timestamp) -> Value {
    about(event, "fieldPath").into()
}

pub(crate) fn event_source(event: &Value, _: Timestamp) -> Value {
    let component = first_text(
        event,
        &[
            &["source", "component"],
            &["deprecatedSource", "component"],
            &["reportingComponent"],
            &["reportingController"],
        ],
    );
    let host = first_text(event, &[&["source", "host"], &["deprecatedSource", "host"], &["reportingInstance"]]);
    if host.is_empty() { component.into() } else { format!("{component}, {host}").into() }
}

pub(crate) fn event_message(event: &Value, _: Timestamp) -> Value {
    first_text(event, &[&["message"], &["note"]]).trim().into()
}

pub(crate) fn event_count(event: &Value, _: Timestamp) -> Value {
    let count = ["count", "deprecatedCount"].iter().find_map(|k| event.get(*k).and_then(Value::as_i64));
    let series = meta::at(event, &["series", "count"]).and_then(Value::as_i64);
    series.or(count).filter(|n| *n > 0).unwrap_or(1).into()
}

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

pub(crate) fn pod_ready(pod: &Value, _: Timestamp) -> Value {
    let ready =
        items(pod, &["status", "containerStatuses"]).iter().filter(|s| s.get("ready") == Some(&Value::Bool(true)));
    format!("{}/{}", ready.count(), items(pod, &["spec", "containers"]).len()).into()
}

pub(crate) fn pod_status(pod: &Value, _: Timestamp) -> Value {
    if meta::is_terminating(pod) {
        return "Terminating".into();
    }
    let waiting = items(pod, &["status", "containerStatuses"])
        .iter()
        .map(|s| first_text(s, &[&["state", "waiting", "reason"], &["state", "terminated", "reason"]]))
        .find(|r| !r.is_empty());
    let reason = meta::text(pod, &["status", "reason"]);
    match (waiting, reason) {
        (Some(waiting), _) => waiting.into(),
        (None, "") => or(meta::text(pod, &["status", "phase"]).to_owned(), "Unknown"),
        (None, reason) => reason.into(),
    }
}

pub(crate) fn pod_restarts(pod: &Value, _: Timestamp) -> Value {
    let all = items(pod, &["status", "containerStatuses"]).iter();
    all.filter_map(|s| s.get("restartCount").and_then(Value::as_i64)).sum::<i64>().to_string().into()
}

pub(crate) fn pod_ip(pod: &Value, _: Timestamp) -> Value {
    or(meta::text(pod, &["status", "podIP"]).to_owned(), NONE)
}

pub(crate) fn pod_node(pod: &Value, _: Timestamp) -> Value {
    or(meta::text(pod, &["spec", "nodeName"]).to_owned(), NONE)
}

pub(crate) fn pod_nominated(pod: &Value, _: Timestamp) -> Value {
    or(meta::text(pod, &["status", "nominatedNodeName"]).to_owned(), NONE)
}

pub(crate) fn csr_duration(csr: &Value, _: Timestamp) -> Value {
    match meta::at(csr, &["spec", "expirationSeconds"]).and_then(Value::as_i64) {
        Some(seconds) => time::human_duration(seconds).into(),
        None => NONE.into(),
    }
}

pub(crate) fn csr_condition(csr: &Value, _: Timestamp) -> Value {
    let has = |t: &str| items(csr, &["status", "conditions"]).iter().any(|c| meta::text(c, &["type"]) == t);
    let mut parts = vec![match () {
        () if has("Denied") => "Denied",
        () if has("Approved") => "Approved",
        () => "Pending",
    }];
    if has("Failed") {
        parts.push("Failed");
    }
    if !meta::text(csr, &["status", "certificate"]).is_empty() {
        parts.push("Issued");
    }
    parts.join(",").into()
}

pub(crate) fn binding_role(binding: &Value, _: Timestamp) -> Value {
    format!("{}/{}", meta::text(binding, &["roleRef", "kind"]), meta::text(binding, &["roleRef", "name"])).into()
}

fn subjects(binding: &Value, kind: &str) -> Value {
    let mine = items(binding, &["subjects"]).iter().filter(|s| meta::text(s, &["kind"]) == kind);
    let name = |s: &Value| match meta::text(s, &["namespace"]) {
        "" => meta::text(s, &["name"]).to_owned(),
        ns => format!("{ns}/{}", meta::text(s, &["name"])),
    };
    mine.map(name).collect::<Vec<_>>().join(", ").into()
}

pub(crate) fn binding_users(binding: &Value, _: Timestamp) -> Value {
    subjects(binding, "User")
}

pub(crate) fn binding_groups(binding: &Value, _: Timestamp) -> Value {
    subjects(binding, "Group")
}

pub(crate) fn binding_accounts(binding: &Value, _: Timestamp) -> Value {
    subjects(binding, "ServiceAccount")
}
