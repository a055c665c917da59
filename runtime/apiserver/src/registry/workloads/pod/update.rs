//! What may change of a pod: its images, how long it may run, which taints it bears, and what it waits for.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, diff, meta};
use serde_json::Value;

use crate::registry::strategy::{keep, put};
use crate::registry::workloads::check::{Report, between, pod_annotations, pod_annotations_update, spec};
use crate::registry::workloads::view::{get, get_mut, int, items, items_mut, text};

const MAX: i64 = i32::MAX as i64;
const CHANGEABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
                          `spec.tolerations` (only additions to existing tolerations),\
                          `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";

/// The rules for a write of the pod itself.
pub(super) fn validate(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut r = Report::default();
    spec::pod(new, &mut r);
    pod_annotations_update(new, old, &Path::new("metadata.annotations"), &mut r);
    let none = Value::Null;
    let (new, old) = (new.get("spec").unwrap_or(&none), old.get("spec").unwrap_or(&none));
    if !changes(new, old, &mut r) || new == old {
        return r.0;
    }
    let path = Path::new("spec");
    let mut munged = new.clone();
    for list in ["containers", "initContainers"] {
        for (container, before) in items_mut(&mut munged, list).iter_mut().zip(items(old, list)) {
            keep(container, before, "image");
        }
    }
    for key in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        keep(&mut munged, old, key);
    }
    let grace = |spec: &Value| int(spec, "terminationGracePeriodSeconds");
    if grace(old).is_some_and(|g| g < 0) && grace(new) == Some(1) {
        keep(&mut munged, old, "terminationGracePeriodSeconds");
    }
    if !items(old, "schedulingGates").is_empty() {
        gated(new, old, &mut munged, &path, &mut r);
    }
    if munged != *old {
        let why = format!("pod updates may not change fields other than {CHANGEABLE}\n{}", diff(old, &munged));
        r.forbidden(&path, &why);
    }
    r.0
}

/// The rules of single fields; false if the rest makes no sense to check.
fn changes(new: &Value, old: &Value, r: &mut Report) -> bool {
    let path = Path::new("spec");
    for list in ["containers", "initContainers"] {
        if items(new, list).len() != items(old, list).len() {
            r.forbidden(&path.child(list), "pod updates may not add or remove containers");
            return false;
        }
    }
    let at = path.child("activeDeadlineSeconds");
    match (int(new, "activeDeadlineSeconds"), int(old, "activeDeadlineSeconds")) {
        (Some(now), _) if !(0..=MAX).contains(&now) => {
            r.invalid(&at, now, &between(0, MAX));
            return false;
        }
        (Some(now), Some(before)) if before < now => {
            r.invalid(&at, now, "must be less than or equal to previous value");
            return false;
        }
        (None, Some(_)) => r.invalid(&at, Value::Null, "must not update from a positive integer to nil value"),
        _ => {}
    }
    let at = path.child("tolerations");
    let without_seconds = |toleration: &Value| {
        let mut out = toleration.clone();
        put(&mut out, "tolerationSeconds", None);
        out
    };
    let now: Vec<Value> = items(new, "tolerations").iter().map(without_seconds).collect();
    if items(old, "tolerations").iter().any(|t| !now.contains(&without_seconds(t))) {
        r.forbidden(&at, "existing toleration can not be modified except its tolerationSeconds");
    }
    let before: Vec<&str> = items(old, "schedulingGates").iter().map(|g| text(g, "name")).collect();
    let all = path.child("schedulingGates");
    for (i, gate) in items(new, "schedulingGates").iter().enumerate() {
        let name = text(gate, "name");
        if !before.contains(&name) {
            let why = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            r.forbidden(&all.index(i).child("name"), &why);
        }
    }
    true
}

/// A pod that waits may be narrowed down to fewer nodes.
fn gated(new: &Value, old: &Value, munged: &mut Value, path: &Path<'_>, r: &mut Report) {
    let selector = |spec: &Value| -> Vec<(String, String)> {
        let map = meta::string_map(spec.get("nodeSelector"));
        map.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    };
    let now = selector(new);
    if selector(old).iter().any(|pair| !now.contains(pair)) {
        let shown = new.get("nodeSelector").cloned().unwrap_or_default();
        let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        r.invalid(&path.child("nodeSelector"), shown, why);
    }
    keep(munged, old, "nodeSelector");
    let node = |spec: &Value| meta::at(spec, &["affinity", "nodeAffinity"]).cloned();
    if node(new) == node(old) {
        return;
    }
    terms(new, old, &path.child("affinity.nodeAffinity"), r);
    let had = get(old, "affinity").is_some();
    let Some(affinity) = get_mut(munged, "affinity") else { return keep(munged, old, "affinity") };
    put(affinity, "nodeAffinity", node(old));
    if !had && affinity.as_object().is_some_and(serde_json::Map::is_empty) {
        put(munged, "affinity", None);
    }
}

fn terms(new: &Value, old: &Value, path: &Path<'_>, r: &mut Report) {
    let of = |spec: &Value| {
        let found = meta::at(spec, &["affinity", "nodeAffinity", REQUIRED]);
        found.map_or_else(Vec::new, |s| items(s, "nodeSelectorTerms").to_vec())
    };
    let (now, before) = (of(new), of(old));
    let at = path.child(REQUIRED);
    let at = at.child("nodeSelectorTerms");
    if !before.is_empty() && now.len() != before.len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        return r.invalid(&at, now, why);
    }
    for (i, (now, before)) in now.iter().zip(&before).enumerate() {
        let grows = |key| items(now, key).starts_with(items(before, key));
        let empty = |term: &Value| items(term, "matchExpressions").is_empty() && items(term, "matchFields").is_empty();
        if !grows("matchExpressions") || !grows("matchFields") || (empty(before) && !empty(now)) {
            r.invalid(&at.index(i), now.clone(), "only additions are allowed (no mutations or deletions)");
        }
    }
}

/// The rules for a write of the ephemeral containers: they come, and stay.
pub(super) fn ephemeral_containers(new: &Value, old: &Value) -> Vec<FieldError> {
    if meta::annotation(old, "kubernetes.io/config.mirror").is_some() {
        return vec![FieldError::forbidden("", "static pods do not support ephemeral containers")];
    }
    let mut r = Report::default();
    spec::pod(new, &mut r);
    let none = Value::Null;
    let (new, old) = (new.get("spec").unwrap_or(&none), old.get("spec").unwrap_or(&none));
    let path = Path::new("spec.ephemeralContainers");
    for before in items(old, "ephemeralContainers") {
        let name = text(before, "name");
        match items(new, "ephemeralContainers").iter().find(|c| text(c, "name") == name) {
            None => r.forbidden(&path, &format!("existing ephemeral containers {name:?} may not be removed\n")),
            Some(now) if now != before => {
                let diff = diff(before, now);
                let why = format!("existing ephemeral containers {name:?} may not be changed\n{diff}");
                r.forbidden(&path, &why);
            }
            Some(_) => {}
        }
    }
    r.0
}

/// The annotations of a pod whose status is written.
pub(super) fn annotations(new: &Value, old: &Value, r: &mut Report) {
    let path = Path::new("metadata.annotations");
    pod_annotations_update(new, old, &path, r);
    let spec = new.get("spec").unwrap_or(&Value::Null);
    pod_annotations(meta::at(new, &["metadata", "annotations"]), spec, &path, r);
}
