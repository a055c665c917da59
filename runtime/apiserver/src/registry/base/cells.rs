//! Cells of nodes, settings and events that are more than a field.

use jiff::Timestamp;
use kiln_apimachinery::{meta, time};
use serde_json::Value;

use crate::registry::cells::{NONE, first_text, items, or};

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
    let version = node_info(node, "kernelVersion");
    match meta::text(node, &["status", "nodeInfo", "architecture"]) {
        "" => version,
        architecture => format!("{} ({architecture})", version.as_str().unwrap_or_default()).into(),
    }
}

pub(crate) fn node_runtime(node: &Value, _: Timestamp) -> Value {
    node_info(node, "containerRuntimeVersion")
}

pub(crate) fn config_map_data(object: &Value, _: Timestamp) -> Value {
    let n = |key: &str| object.get(key).and_then(Value::as_object).map_or(0, serde_json::Map::len);
    (n("data") + n("binaryData")).into()
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

/// `used/hard` of the resources for which `wanted` holds.
fn quota(object: &Value, wanted: fn(&str) -> bool) -> Value {
    let hard = meta::at(object, &["status", "hard"]).and_then(Value::as_object).into_iter().flatten();
    let text = |v: Option<&Value>| match v {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => "0".to_owned(),
    };
    let pair = |(name, limit): (&String, &Value)| {
        let used = text(meta::at(object, &["status", "used", name]));
        format!("{name}: {used}/{}", text(Some(limit)))
    };
    hard.filter(|(name, _)| wanted(name)).map(pair).collect::<Vec<_>>().join(", ").into()
}

pub(crate) fn quota_requests(object: &Value, _: Timestamp) -> Value {
    quota(object, |name| !name.starts_with("limits."))
}

pub(crate) fn quota_limits(object: &Value, _: Timestamp) -> Value {
    quota(object, |name| name.starts_with("limits."))
}

fn health(component: &Value) -> Option<&Value> {
    items(component, &["conditions"]).iter().find(|c| meta::text(c, &["type"]) == "Healthy")
}

pub(crate) fn component_status(component: &Value, _: Timestamp) -> Value {
    match health(component).map(|c| meta::text(c, &["status"])) {
        Some("True") => "Healthy",
        Some(_) => "Unhealthy",
        None => "Unknown",
    }
    .into()
}

pub(crate) fn component_message(component: &Value, _: Timestamp) -> Value {
    health(component).map(|c| meta::text(c, &["message"])).unwrap_or_default().into()
}

pub(crate) fn component_error(component: &Value, _: Timestamp) -> Value {
    health(component).map(|c| meta::text(c, &["error"])).unwrap_or_default().into()
}
