//! The rules for the controllers of `apps`.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, meta, names};
use serde_json::{Value, json};

use super::rolling;
use crate::registry::strategy::{keep, put};
use crate::registry::workloads::check::{Report, claim_spec, is_empty_selector, selects, template};
use crate::registry::workloads::controllers::spec;
use crate::registry::workloads::view::{get, int, items, make, text};

const PATH: Path<'static> = Path::new("spec");

/// What of a stateful set may change.
const CHANGEABLE: &[&str] = &[
    "replicas",
    "template",
    "updateStrategy",
    "minReadySeconds",
    "ordinals",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
];

/// A selector, which must select something, and the template's labels. `kind` is as the complaint has it.
fn selector(spec: &Value, kind: &str, required: bool, r: &mut Report) {
    let at = PATH.child("selector");
    match get(spec, "selector") {
        None if required => return r.required(&at, ""),
        None => {}
        Some(selector) => {
            r.selector(Some(selector), &at);
            if is_empty_selector(selector) {
                r.invalid(&at, selector.clone(), &format!("empty selector is invalid for {kind}"));
            }
        }
    }
    let template = spec.get("template").unwrap_or(&Value::Null);
    let selected = selects(spec.get("selector"), meta::at(template, &["metadata", "labels"]));
    template::is_selected(selected, template, &PATH.child("template"), r);
}

fn check_template(spec: &Value, kind: &str, r: &mut Report) {
    let at = PATH.child("template");
    let none = json!({});
    let template = get(spec, "template").unwrap_or(&none);
    template::check(template, &at, r);
    template::runs_for_good(template, kind, &at, r);
}

/// A selector says whose the pods are, for good.
pub(super) fn selector_stays(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut r = Report::default();
    r.immutable(spec(new), spec(old), "selector", &PATH);
    r.0
}

pub(super) fn deployment(object: &Value) -> Vec<FieldError> {
    let (spec, mut r) = (spec(object), Report::default());
    r.nonnegative(spec, "replicas", &PATH);
    selector(spec, "deployment", true, &mut r);
    check_template(spec, "ReplicaSet", &mut r);
    rolling::deployment(spec.get("strategy").unwrap_or(&Value::Null), &PATH.child("strategy"), &mut r);
    for key in ["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
        r.nonnegative(spec, key, &PATH);
    }
    if let Some(deadline) = int(spec, "progressDeadlineSeconds")
        && deadline <= int(spec, "minReadySeconds").unwrap_or(0)
    {
        r.invalid(&PATH.child("progressDeadlineSeconds"), deadline, "must be greater than minReadySeconds");
    }
    r.0
}

pub(super) fn replica_set(object: &Value) -> Vec<FieldError> {
    let (spec, mut r) = (spec(object), Report::default());
    for key in ["replicas", "minReadySeconds"] {
        r.nonnegative(spec, key, &PATH);
    }
    selector(spec, "deployment", true, &mut r);
    check_template(spec, "ReplicaSet", &mut r);
    r.0
}

pub(super) fn daemon_set(object: &Value) -> Vec<FieldError> {
    let (spec, mut r) = (spec(object), Report::default());
    selector(spec, "daemonset", false, &mut r);
    check_template(spec, "DaemonSet", &mut r);
    r.nonnegative(spec, "minReadySeconds", &PATH);
    rolling::daemon_set(spec.get("updateStrategy").unwrap_or(&Value::Null), &PATH.child("updateStrategy"), &mut r);
    r.nonnegative(spec, "revisionHistoryLimit", &PATH);
    r.0
}

pub(super) fn stateful_set(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let (set, mut r) = (spec(object), Report::default());
    match text(set, "podManagementPolicy") {
        "" => r.required(&PATH.child("podManagementPolicy"), ""),
        "OrderedReady" | "Parallel" => {}
        other => r.invalid(&PATH.child("podManagementPolicy"), other, "must be 'OrderedReady' or 'Parallel'"),
    }
    rolling::stateful_set(set.get("updateStrategy").unwrap_or(&Value::Null), &PATH.child("updateStrategy"), &mut r);
    if let Some(policy) = get(set, "persistentVolumeClaimRetentionPolicy") {
        let at = PATH.child("persistentVolumeClaimRetentionPolicy");
        for key in ["whenDeleted", "whenScaled"] {
            let word = text(policy, key);
            if !matches!(word, "Retain" | "Delete") {
                r.unsupported(&at.child(key), word, &["Retain", "Delete"]);
            }
        }
    }
    // Neither can change any more, so that what is there is borne with.
    if old.is_none() {
        let claims = PATH.child("volumeClaimTemplates");
        for (i, claim) in items(set, "volumeClaimTemplates").iter().enumerate() {
            claim_spec(claim.get("spec").unwrap_or(&Value::Null), &claims.index(i).child("spec"), &mut r);
        }
        let service = text(set, "serviceName");
        if !service.is_empty() {
            r.name(&PATH.child("serviceName"), service, names::dns1123_label);
        }
    }
    for key in ["replicas", "minReadySeconds"] {
        r.nonnegative(set, key, &PATH);
    }
    if let Some(ordinals) = get(set, "ordinals") {
        r.nonnegative(ordinals, "start", &PATH.child("ordinals"));
    }
    selector(set, "statefulset", true, &mut r);
    check_template(&with_claims(set), "StatefulSet", &mut r);
    if let Some(old) = old {
        let mut munged = set.clone();
        for key in CHANGEABLE {
            keep(&mut munged, spec(old), key);
        }
        if munged != *spec(old) {
            let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                       'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                       'minReadySeconds' are forbidden";
            r.forbidden(&PATH, why);
        }
    }
    r.0
}

/// The template as its pods will be: with the claims' volumes, and names of their own.
fn with_claims(set: &Value) -> Value {
    let mut out = set.clone();
    let claims: Vec<String> = items(set, "volumeClaimTemplates").iter().map(|c| meta::name(c).to_owned()).collect();
    let pod = make(make(&mut out, "template"), "spec");
    for key in ["subdomain", "hostname"] {
        put(pod, key, None);
    }
    if claims.is_empty() {
        return out;
    }
    let own = items(pod, "volumes").iter().filter(|v| !claims.iter().any(|c| c == text(v, "name"))).cloned();
    let made = claims.iter().map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
    let volumes: Vec<Value> = made.chain(own).collect();
    pod["volumes"] = volumes.into();
    out
}
