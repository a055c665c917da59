//! The rules for autoscalers: what they scale, by what they measure, and how fast.

use kiln_apimachinery::FieldError;
use kiln_apimachinery::names;
use kiln_apimachinery::path::Path;
use serde_json::Value;

use crate::registry::workloads::check::{NEGATIVE, NOT_POSITIVE, Report, quantity, resources};
use crate::registry::workloads::controllers::spec;
use crate::registry::workloads::view::{get, int, items, text};

const SOURCES: [(&str, &str); 5] = [
    ("object", "Object"),
    ("external", "External"),
    ("pods", "Pods"),
    ("resource", "Resource"),
    ("containerResource", "ContainerResource"),
];
const KINDS: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];
const MAX_PERIOD: i64 = 1800;
const MAX_WINDOW: i64 = 3600;

/// Which references to other objects are borne with.
#[derive(Clone, Copy)]
struct Reference {
    any_version: bool,
    no_group: bool,
}

pub(super) fn validate(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let (scaler, mut r, path) = (spec(object), Report::default(), Path::new("spec"));
    let minimum = int(scaler, "minReplicas");
    let lowest = i64::from(old.and_then(|o| int(spec(o), "minReplicas")) != Some(0));
    if let Some(n) = minimum.filter(|n| *n < lowest) {
        r.invalid(&path.child("minReplicas"), n, &format!("must be greater than or equal to {lowest}"));
    }
    let maximum = int(scaler, "maxReplicas").unwrap_or(0);
    let at = path.child("maxReplicas");
    if maximum == 0 {
        r.required(&at, "must be set and greater than 0");
    } else if maximum < 0 {
        r.invalid(&at, maximum, "must be greater than or equal to 1");
    }
    if minimum.is_some_and(|n| maximum < n) {
        r.invalid(&at, maximum, "must be greater than or equal to `minReplicas`");
    }
    let none = Value::Null;
    let target = scaler.get("scaleTargetRef").unwrap_or(&none);
    let before = old.and_then(|o| spec(o).get("scaleTargetRef"));
    let same = |key| before.is_some_and(|b| text(b, key) == text(target, key));
    let rule = Reference {
        any_version: same("apiVersion") && same("kind"),
        no_group: text(target, "kind") == "ReplicationController",
    };
    reference(target, rule, &path.child("scaleTargetRef"), &mut r);
    metrics(scaler, old, &path.child("metrics"), &mut r);
    if let Some(behavior) = get(scaler, "behavior") {
        let at = path.child("behavior");
        for key in ["scaleUp", "scaleDown"] {
            if let Some(rules) = get(behavior, key) {
                scaling(rules, &at.child(key), &mut r);
            }
        }
    }
    r.0
}

/// What is wrong with the group and version of a reference.
fn version(target: &Value, no_group: bool) -> Option<String> {
    let version = text(target, "apiVersion");
    match version.matches('/').count() {
        0 if no_group => None,
        0 => Some("apiVersion must specify API group".into()),
        1 if !version.starts_with('/') || no_group => None,
        1 => Some("apiVersion must specify API group".into()),
        _ => Some(format!("unexpected GroupVersion string: {version}")),
    }
}

fn reference(target: &Value, rule: Reference, path: &Path<'_>, r: &mut Report) {
    for key in ["kind", "name"] {
        match text(target, key) {
            "" => r.required(&path.child(key), ""),
            found => r.name(&path.child(key), found, names::path_segment),
        }
    }
    if let Some(why) = version(target, rule.no_group).filter(|_| !rule.any_version) {
        r.invalid(&path.child("apiVersion"), text(target, "apiVersion"), &why);
    }
}

fn metrics(scaler: &Value, old: Option<&Value>, all: &Path<'_>, r: &mut Report) {
    let described = |metric: &Value| get(metric, "object").and_then(|o| get(o, "describedObject")).cloned();
    let mut before = old.map_or(&[][..], |o| items(spec(o), "metrics")).iter().filter_map(described);
    let rule = Reference { any_version: before.any(|d| version(&d, true).is_some()), no_group: true };
    let list = items(scaler, "metrics");
    for (i, found) in list.iter().enumerate() {
        metric(found, rule, &all.index(i), r);
    }
    let outside = list.iter().any(|m| matches!(text(m, "type"), "Object" | "External"));
    if int(scaler, "minReplicas") == Some(0) && !outside {
        r.forbidden(all, "must specify at least one Object or External metric to support scaling to zero replicas");
    }
}

fn metric(metric: &Value, rule: Reference, path: &Path<'_>, r: &mut Report) {
    let kind = text(metric, "type");
    let at = path.child("type");
    if kind.is_empty() {
        r.required(&at, "must specify a metric source type");
    }
    if !KINDS.contains(&kind) {
        r.unsupported(&at, kind, KINDS);
    }
    let present: Vec<&str> = SOURCES.iter().map(|(key, _)| *key).filter(|key| get(metric, key).is_some()).collect();
    if let Some(first) = present.first()
        && let Some(found) = get(metric, first)
    {
        source(first, found, rule, &path.child(first), r);
    }
    let expected = SOURCES.iter().find(|(_, k)| *k == kind).map(|(key, _)| *key);
    match expected {
        Some(key) if get(metric, key).is_none() => {
            r.required(&path.child(key), "must populate information for the given metric source");
        }
        Some(_) => {}
        None => r.unsupported(&at, kind, KINDS),
    }
    if present.len() != 1 {
        for key in present.into_iter().filter(|key| Some(*key) != expected) {
            r.forbidden(&path.child(key), "must populate the given metric source only");
        }
    }
}

fn source(key: &str, source: &Value, rule: Reference, path: &Path<'_>, r: &mut Report) {
    let none = Value::Null;
    if key == "object" {
        let described = source.get("describedObject").unwrap_or(&none);
        reference(described, rule, &path.child("describedObject"), r);
    }
    if matches!(key, "object" | "external" | "pods") {
        let at = path.child("metric.name");
        match source.get("metric").map_or("", |m| text(m, "name")) {
            "" => r.required(&at, "must specify a metric name"),
            name => r.name(&at, name, names::path_segment),
        }
    } else {
        match text(source, "name") {
            "" => r.required(&path.child("name"), "must specify a resource name"),
            name if key == "containerResource" => resources::container_resource(name, &path.child("name"), r),
            _ => {}
        }
    }
    if key == "containerResource" {
        match text(source, "container") {
            "" => r.required(&path.child("container"), "must specify a container"),
            name => r.name(&path.child("container"), name, names::dns1123_label),
        }
    }
    target(key, source.get("target").unwrap_or(&none), &path.child("target"), r);
}

fn target(key: &str, target: &Value, path: &Path<'_>, r: &mut Report) {
    let kind = text(target, "type");
    if kind.is_empty() {
        r.required(&path.child("type"), "must specify a metric target type");
    }
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        r.invalid(&path.child("type"), kind, "must be either Utilization, Value, or AverageValue");
    }
    for key in ["value", "averageValue"] {
        if let Some(q) = quantity(target, key).filter(|q| q.is_zero() || q.is_negative()) {
            r.invalid(&path.child(key), q.to_string(), "must be positive");
        }
    }
    let percent = int(target, "averageUtilization");
    if let Some(n) = percent.filter(|n| *n < 1) {
        r.invalid(&path.child("averageUtilization"), n, "must be greater than 0");
    }
    let (value, average) = (get(target, "value").is_some(), get(target, "averageValue").is_some());
    let average_at = path.child("averageValue");
    match key {
        "object" if !value && !average => r.required(&average_at, "must set either a target value or averageValue"),
        "external" if !value && !average => {
            r.required(&average_at, "must set either a target value for metric or a per-pod target");
        }
        "external" if value && average => {
            let why = "may not set both a target value for metric and a per-pod target";
            r.forbidden(&path.child("value"), why);
        }
        "pods" if !average => r.required(&average_at, "must specify a positive target averageValue"),
        "resource" | "containerResource" if percent.is_none() && !average => {
            let why = "must set either a target raw value or a target utilization";
            r.required(&path.child("averageUtilization"), why);
        }
        "resource" | "containerResource" if percent.is_some() && average => {
            r.forbidden(&average_at, "may not set both a target raw value and a target utilization");
        }
        _ => {}
    }
}

fn scaling(rules: &Value, path: &Path<'_>, r: &mut Report) {
    if let Some(n) = int(rules, "stabilizationWindowSeconds") {
        let at = path.child("stabilizationWindowSeconds");
        if n < 0 {
            r.invalid(&at, n, "must be greater than or equal to zero");
        } else if n > MAX_WINDOW {
            r.invalid(&at, n, &format!("must be less than or equal to {MAX_WINDOW}"));
        }
    }
    if let Some(policy) = get(rules, "selectPolicy").and_then(Value::as_str) {
        let known = &["Disabled", "Max", "Min"];
        if !known.contains(&policy) {
            r.unsupported(&path.child("selectPolicy"), policy, known);
        }
    }
    let all = path.child("policies");
    let policies = items(rules, "policies");
    if policies.is_empty() {
        r.required(&all, "must specify at least one Policy");
    }
    for (i, policy) in policies.iter().enumerate() {
        let path = all.index(i);
        let kind = text(policy, "type");
        if !matches!(kind, "Pods" | "Percent") {
            r.unsupported(&path.child("type"), kind, &["Percent", "Pods"]);
        }
        for key in ["value", "periodSeconds"] {
            let n = int(policy, key).unwrap_or(0);
            if n <= 0 {
                r.invalid(&path.child(key), n, NOT_POSITIVE);
            }
        }
        if let Some(n) = int(policy, "periodSeconds").filter(|n| *n > MAX_PERIOD) {
            r.invalid(&path.child("periodSeconds"), n, &format!("must be less than or equal to {MAX_PERIOD}"));
        }
    }
    if let Some(tolerance) = quantity(rules, "tolerance").filter(|q| q.is_negative()) {
        r.invalid(&path.child("tolerance"), tolerance.to_string(), NEGATIVE);
    }
}
