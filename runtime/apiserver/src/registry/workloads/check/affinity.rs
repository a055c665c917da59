//! Where a pod wants to be, by nodes and by other pods.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::{meta, names};
use serde_json::Value;

use super::Report;
use crate::registry::workloads::view::{get, int, items, text};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub(super) fn check(affinity: &Value, path: &Path<'_>, r: &mut Report) {
    if let Some(node) = get(affinity, "nodeAffinity") {
        node_affinity(node, &path.child("nodeAffinity"), r);
    }
    for key in ["podAffinity", "podAntiAffinity"] {
        if let Some(pods) = get(affinity, key) {
            pod_affinity(pods, &path.child(key), r);
        }
    }
}

fn node_affinity(affinity: &Value, path: &Path<'_>, r: &mut Report) {
    if let Some(selector) = get(affinity, REQUIRED) {
        let path = path.child(REQUIRED);
        let terms = items(selector, "nodeSelectorTerms");
        let path = path.child("nodeSelectorTerms");
        if terms.is_empty() {
            r.required(&path, "must have at least one node selector term");
        }
        for (i, term) in terms.iter().enumerate() {
            node_term(term, true, &path.index(i), r);
        }
    }
    let path = path.child(PREFERRED);
    for (i, preferred) in items(affinity, PREFERRED).iter().enumerate() {
        let path = path.index(i);
        weight(preferred, &path, r);
        node_term(preferred.get("preference").unwrap_or(&Value::Null), false, &path.child("preference"), r);
    }
}

fn weight(term: &Value, path: &Path<'_>, r: &mut Report) {
    let weight = int(term, "weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        r.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

/// A term about nodes; `values` asks for values that labels can have.
fn node_term(term: &Value, values: bool, path: &Path<'_>, r: &mut Report) {
    let expressions = path.child("matchExpressions");
    for (i, requirement) in items(term, "matchExpressions").iter().enumerate() {
        node_requirement(requirement, values, &expressions.index(i), r);
    }
    let fields = path.child("matchFields");
    for (i, requirement) in items(term, "matchFields").iter().enumerate() {
        field_requirement(requirement, &fields.index(i), r);
    }
}

fn node_requirement(requirement: &Value, labels: bool, path: &Path<'_>, r: &mut Report) {
    let values = meta::strings(requirement.get("values"));
    let at = path.child("values");
    match text(requirement, "operator") {
        "In" | "NotIn" if values.is_empty() => {
            r.required(&at, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            r.forbidden(&at, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }
        "Gt" | "Lt" if values.len() != 1 => {
            r.required(&at, "must be specified single value when `operator` is 'Lt' or 'Gt'");
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => r.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    r.name(&path.child("key"), text(requirement, "key"), names::qualified_name);
    for (i, value) in values.into_iter().enumerate().filter(|_| labels) {
        r.name(&at.index(i), value, names::label_value);
    }
}

fn field_requirement(requirement: &Value, path: &Path<'_>, r: &mut Report) {
    let values = meta::strings(requirement.get("values"));
    let at = path.child("values");
    match text(requirement, "operator") {
        "In" | "NotIn" if values.len() != 1 => {
            r.required(&at, "must be only one value when `operator` is 'In' or 'NotIn' for node field selector");
        }
        "In" | "NotIn" => {}
        other => r.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    match text(requirement, "key") {
        "metadata.name" => {
            for (i, value) in values.into_iter().enumerate() {
                r.name(&at.index(i), value, names::dns1123_subdomain);
            }
        }
        other => r.invalid(&path.child("key"), other, "not a valid field selector key"),
    }
}

fn pod_affinity(affinity: &Value, path: &Path<'_>, r: &mut Report) {
    let required = path.child(REQUIRED);
    for (i, term) in items(affinity, REQUIRED).iter().enumerate() {
        pod_term(term, &required.index(i), r);
    }
    let preferred = path.child(PREFERRED);
    for (i, weighted) in items(affinity, PREFERRED).iter().enumerate() {
        let path = preferred.index(i);
        weight(weighted, &path, r);
        pod_term(weighted.get("podAffinityTerm").unwrap_or(&Value::Null), &path.child("podAffinityTerm"), r);
    }
}

fn pod_term(term: &Value, path: &Path<'_>, r: &mut Report) {
    r.selector(term.get("labelSelector"), &path.child("labelSelector"));
    r.selector(term.get("namespaceSelector"), &path.child("namespaceSelector"));
    for name in meta::strings(term.get("namespaces")) {
        r.name(&path.child("namespace"), name, names::dns1123_label);
    }
    label_keys(term, path, r);
    let key = text(term, "topologyKey");
    if key.is_empty() {
        r.required(&path.child("topologyKey"), "can not be empty");
    }
    r.name(&path.child("topologyKey"), key, names::qualified_name);
}

/// Label keys whose values a pod gives itself.
pub(super) fn label_keys(term: &Value, path: &Path<'_>, r: &mut Report) {
    let selector = get(term, "labelSelector");
    let lists = ["matchLabelKeys", "mismatchLabelKeys"].map(|key| (key, meta::strings(term.get(key))));
    for (key, list) in &lists {
        let path = path.child(key);
        if list.is_empty() {
            continue;
        }
        if selector.is_none() {
            r.forbidden(&path, "must not be specified when labelSelector is not set");
            continue;
        }
        for (i, label) in list.iter().enumerate() {
            r.name(&path.index(i), label, names::qualified_name);
        }
    }
    let [(_, matched), (_, mismatched)] = &lists;
    if let Some(selector) = selector {
        let mut seen: Vec<&str> = meta::string_map(selector.get("matchLabels")).into_keys().collect();
        for expression in items(selector, "matchExpressions") {
            let key = text(expression, "key");
            if let Some(i) = matched.iter().position(|k| *k == key)
                && seen.contains(&key)
            {
                r.invalid(&path.index(i), key, "exists in both matchLabelKeys and labelSelector");
            }
            seen.push(key);
        }
    }
    let path = path.child("matchLabelKeys");
    for (i, key) in matched.iter().enumerate().filter(|(_, k)| mismatched.contains(k)) {
        r.invalid(&path.index(i), *key, "exists in both matchLabelKeys and mismatchLabelKeys");
    }
}
