//! Autoscalers: what they aim at, and where they are.

use jiff::Timestamp;
use kiln_apimachinery::meta;
use serde_json::Value;

use crate::registry::cells::NONE;
use crate::registry::workloads::autoscaling::CONVERSION;
use crate::registry::workloads::view::{get, int, items, text};

/// Metrics that are shown; the rest is counted.
const SHOWN: usize = 2;
const UNKNOWN: &str = "<unknown>";

pub(in crate::registry::workloads) fn reference(scaler: &Value, _: Timestamp) -> Value {
    let of = |key: &str| meta::text(scaler, &["spec", "scaleTargetRef", key]);
    format!("{}/{}", of("kind"), of("name")).into()
}

pub(in crate::registry::workloads) fn minimum(scaler: &Value, _: Timestamp) -> Value {
    let found = meta::at(scaler, &["spec", "minReplicas"]).and_then(Value::as_i64);
    found.map_or_else(|| "<unset>".into(), |n| n.to_string().into())
}

pub(in crate::registry::workloads) fn targets(scaler: &Value, _: Timestamp) -> Value {
    // Version 1 keeps most of what is aimed at elsewhere; the row is the same.
    if text(scaler, "apiVersion") == "autoscaling/v1" {
        let mut whole = scaler.clone();
        (CONVERSION.to_stored)(&mut whole);
        return metrics(&whole);
    }
    metrics(scaler)
}

fn metrics(scaler: &Value) -> Value {
    let none = Value::Null;
    let specs = items(scaler.get("spec").unwrap_or(&none), "metrics");
    let now = items(scaler.get("status").unwrap_or(&none), "currentMetrics");
    if specs.is_empty() {
        return NONE.into();
    }
    let shown = specs.iter().enumerate().take(SHOWN).map(|(i, spec)| metric(spec, now.get(i)));
    let list = shown.collect::<Vec<_>>().join(", ");
    match specs.len() {
        n if n > SHOWN => format!("{list} + {} more...", n - SHOWN).into(),
        _ => list.into(),
    }
}

fn metric(spec: &Value, status: Option<&Value>) -> String {
    let part = match text(spec, "type") {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".into(),
    };
    let none = Value::Null;
    let source = spec.get(part).unwrap_or(&none);
    let target = source.get("target").unwrap_or(&none);
    let current = status.and_then(|s| get(s, part)).map(|s| s.get("current").unwrap_or(&none));
    let amount = |key: &str| current.map_or(UNKNOWN.to_owned(), |c| or_zero(text(c, key)));
    let is_average = get(target, "averageValue").is_some();
    match part {
        "pods" => format!("{}/{}", amount("averageValue"), text(target, "averageValue")),
        "external" | "object" if is_average => {
            let known = current.and_then(|c| get(c, "averageValue")).and_then(Value::as_str);
            format!("{}/{} (avg)", known.unwrap_or(UNKNOWN), text(target, "averageValue"))
        }
        "external" | "object" => format!("{}/{}", amount("value"), text(target, "value")),
        _ if is_average => {
            format!("{}: {}/{}", text(source, "name"), amount("averageValue"), text(target, "averageValue"))
        }
        _ => {
            let percent = |n: i64| format!("{n}%");
            let known = current.and_then(|c| int(c, "averageUtilization")).map_or(UNKNOWN.into(), percent);
            let wanted = int(target, "averageUtilization").map_or("<auto>".into(), percent);
            format!("{}: {known}/{wanted}", text(source, "name"))
        }
    }
}

fn or_zero(amount: &str) -> String {
    if amount.is_empty() { "0".into() } else { amount.to_owned() }
}
