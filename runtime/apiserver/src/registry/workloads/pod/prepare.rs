//! What writers of pods have no say in.

use std::collections::HashMap;

use kiln_apimachinery::meta;
use serde_json::{Value, json};

use crate::registry::strategy::{keep, put};
use crate::registry::workloads::view::{fill, get, get_mut, int, items, items_mut, make, text};
use crate::warnings::app_armor_profile;

/// A pod with gates waits for them, and says so.
pub(super) fn scheduling_gates(pod: &mut Value) {
    if items(pod.get("spec").unwrap_or(&Value::Null), "schedulingGates").is_empty() {
        return;
    }
    make(pod, "status")["conditions"] = json!([{
        "type": "PodScheduled",
        "status": "False",
        "reason": "SchedulingGated",
        "message": "Scheduling is blocked due to non-empty scheduling gates",
    }]);
}

/// Terms that name label keys get the pod's own values of them, once.
pub(super) fn match_labels(pod: &mut Value) {
    let labels: HashMap<String, String> =
        meta::labels(pod).into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let Some(spec) = get_mut(pod, "spec") else { return };
    if let Some(affinity) = get_mut(spec, "affinity") {
        for kind in ["podAffinity", "podAntiAffinity"] {
            let Some(affinity) = get_mut(affinity, kind) else { continue };
            for term in items_mut(affinity, "requiredDuringSchedulingIgnoredDuringExecution") {
                apply_keys(term, &labels);
            }
            for weighted in items_mut(affinity, "preferredDuringSchedulingIgnoredDuringExecution") {
                if let Some(term) = get_mut(weighted, "podAffinityTerm") {
                    apply_keys(term, &labels);
                }
            }
        }
    }
    for constraint in items_mut(spec, "topologySpreadConstraints") {
        apply_keys(constraint, &labels);
    }
}

fn apply_keys(term: &mut Value, labels: &HashMap<String, String>) {
    let mut more = Vec::new();
    for (list, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        for key in items(term, list).iter().filter_map(Value::as_str) {
            if let Some(value) = labels.get(key) {
                more.push(json!({"key": key, "operator": operator, "values": [value]}));
            }
        }
    }
    if more.is_empty() {
        return;
    }
    if let Some(selector) = get_mut(term, "labelSelector") {
        let list = meta::object_mut(selector).entry("matchExpressions").or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut() {
            list.extend(more);
        }
    }
}

/// Profiles of AppArmor that are told in the old way, by annotations, become fields.
pub(super) fn app_armor(pod: &mut Value) {
    const PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
    let notes: HashMap<String, Value> = meta::string_map(meta::at(pod, &["metadata", "annotations"]))
        .into_iter()
        .filter_map(|(key, note)| Some((key.strip_prefix(PREFIX)?.to_owned(), app_armor_profile(note)?)))
        .collect();
    let windows = meta::text(pod, &["spec", "os", "name"]) == "windows";
    let Some(spec) = get_mut(pod, "spec").filter(|_| !notes.is_empty() && !windows) else { return };
    let of_pod = get(spec, "securityContext").and_then(|c| get(c, "appArmorProfile")).cloned();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in items_mut(spec, list) {
            let Some(profile) = notes.get(text(container, "name")) else { continue };
            let own = get(container, "securityContext").and_then(|c| get(c, "appArmorProfile"));
            if own.is_none() && of_pod.as_ref() != Some(profile) {
                put(make(container, "securityContext"), "appArmorProfile", Some(profile.clone()));
            }
        }
    }
}

/// A write of the status leaves the specification and the owners as they are.
pub(super) fn status(new: &mut Value, old: &Value) {
    keep(new, old, "spec");
    keep_metadata(new, old, &["ownerReferences"]);
    let before = old.get("status").cloned().unwrap_or_else(|| json!({}));
    let status = make(new, "status");
    fill_from(status, &before, "qosClass");
    fill_from(status, &before, "observedGeneration");
    let mut generations: HashMap<&str, Vec<i64>> = HashMap::new();
    for condition in items(&before, "conditions").iter().rev() {
        let generation = int(condition, "observedGeneration").unwrap_or(0);
        generations.entry(text(condition, "type")).or_default().push(generation);
    }
    for condition in items_mut(status, "conditions") {
        let generation = generations.get_mut(text(condition, "type")).and_then(Vec::pop).unwrap_or(0);
        if generation != 0 {
            fill(condition, "observedGeneration", generation);
        }
    }
}

fn fill_from(object: &mut Value, from: &Value, key: &str) {
    if let Some(value) = get(from, key) {
        fill(object, key, value.clone());
    }
}

fn keep_metadata(new: &mut Value, old: &Value, keys: &[&str]) {
    let old = old.get("metadata").unwrap_or(&Value::Null);
    if let Some(metadata) = get_mut(new, "metadata") {
        for key in keys {
            put(metadata, key, old.get(*key).cloned());
        }
    }
}

/// Metadata that a write to a part of the pod leaves alone.
const PART: &[&str] = &["labels", "annotations", "finalizers", "ownerReferences"];

/// Nothing but the ephemeral containers changes.
pub(super) fn ephemeral_containers(new: &mut Value, old: &Value) {
    let containers = meta::at(new, &["spec", "ephemeralContainers"]).cloned();
    keep(new, old, "spec");
    keep(new, old, "status");
    keep_metadata(new, old, PART);
    put(make(new, "spec"), "ephemeralContainers", containers);
}

/// Nothing but resources and how they are resized changes. What has other containers than the old is left for validation
/// to refuse.
pub(super) fn resize(new: &mut Value, old: &Value) {
    let none = Value::Null;
    let (new_spec, old_spec) = (new.get("spec").unwrap_or(&none), old.get("spec").unwrap_or(&none));
    let same = |list| items(new_spec, list).len() == items(old_spec, list).len();
    if !same("containers") || !same("initContainers") {
        return;
    }
    let whole = new_spec.get("resources").cloned();
    let lists =
        ["containers", "initContainers"].map(|list| (list, resized(items(new_spec, list), items(old_spec, list))));
    keep(new, old, "spec");
    keep(new, old, "status");
    keep_metadata(new, old, PART);
    let spec = make(new, "spec");
    put(spec, "resources", whole);
    for (list, containers) in lists {
        if !containers.is_empty() {
            put(spec, list, Some(containers.into()));
        }
    }
}

fn resized(new: &[Value], old: &[Value]) -> Vec<Value> {
    if new.iter().zip(old).any(|(n, o)| text(n, "name") != text(o, "name")) {
        return new.to_vec();
    }
    let merge = |(new, old): (&Value, &Value)| {
        let mut merged = old.clone();
        keep(&mut merged, new, "resources");
        keep(&mut merged, new, "resizePolicy");
        merged
    };
    new.iter().zip(old).map(merge).collect()
}
