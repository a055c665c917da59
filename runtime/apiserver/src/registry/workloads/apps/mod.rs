//! The controllers of `apps`.

mod defaults;
mod rolling;
mod validate;

use kiln_apimachinery::names::{self, NameRule};
use kiln_apimachinery::{FieldError, meta};
use serde_json::Value;

use super::check::Report;
use super::controllers::{REPLICAS, collisions, counts, status, without_status};
use super::view::{get, get_mut, is_zero, make};
use crate::registry::strategy::{Strategy, Writer, default_to, put, split_status};

pub(crate) struct Deployments;
pub(crate) struct ReplicaSets;
pub(crate) struct StatefulSets;
pub(crate) struct DaemonSets;
pub(crate) struct Revisions;

impl Strategy for Deployments {
    fn default(&self, object: &mut Value) {
        defaults::deployment(object);
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        without_status(object);
    }

    fn prepare_update(&self, writer: &Writer<'_>, new: &mut Value, old: &Value) {
        split_status(writer, new, old);
        match writer.subresource {
            "status" => {
                let labels = meta::at(old, &["metadata", "labels"]).cloned();
                put(make(new, "metadata"), "labels", labels);
            }
            _ if annotations(new) != annotations(old) => {
                let generation = meta::at(old, &["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0);
                meta::metadata_mut(new).insert("generation".into(), (generation + 1).into());
            }
            _ => {}
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validate::deployment(object)
    }

    fn validate_write(&self, writer: &Writer<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        if writer.subresource != "status" {
            let mut errors = validate::deployment(new);
            errors.extend(validate::selector_stays(new, old));
            return errors;
        }
        let mut r = Report::default();
        let all = [
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "terminatingReplicas",
            "collisionCount",
        ];
        counts(status(new), &all, REPLICAS, &mut r);
        collisions(new, old, &mut r);
        r.0
    }
}

/// Annotations go on to the replica sets, so that a change of them counts as one of the deployment.
fn annotations(object: &Value) -> Option<&Value> {
    meta::at(object, &["metadata", "annotations"]).filter(|a| !is_zero(Some(a)))
}

impl Strategy for ReplicaSets {
    fn default(&self, object: &mut Value) {
        defaults::replica_set(object);
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        without_status(object);
        default_to(make(object, "status"), "replicas", 0);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validate::replica_set(object)
    }

    fn validate_write(&self, writer: &Writer<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        if writer.subresource != "status" {
            let mut errors = validate::replica_set(new);
            errors.extend(validate::selector_stays(new, old));
            return errors;
        }
        let mut r = Report::default();
        let all = [
            "replicas",
            "fullyLabeledReplicas",
            "readyReplicas",
            "availableReplicas",
            "observedGeneration",
            "terminatingReplicas",
        ];
        counts(status(new), &all, REPLICAS, &mut r);
        r.0
    }
}

impl Strategy for StatefulSets {
    fn name_rule(&self) -> NameRule {
        names::dns1123_label
    }

    fn default(&self, object: &mut Value) {
        defaults::stateful_set(object);
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        without_status(object);
        let status = make(object, "status");
        default_to(status, "replicas", 0);
        default_to(status, "availableReplicas", 0);
        drop_max_unavailable(object, None);
    }

    fn prepare_update(&self, writer: &Writer<'_>, new: &mut Value, old: &Value) {
        split_status(writer, new, old);
        drop_max_unavailable(new, Some(old));
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validate::stateful_set(object, None)
    }

    fn validate_write(&self, writer: &Writer<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        if writer.subresource != "status" {
            return validate::stateful_set(new, Some(old));
        }
        let mut r = Report::default();
        let all = [
            "replicas",
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
            "observedGeneration",
            "collisionCount",
        ];
        let parts: Vec<_> = REPLICAS
            .iter()
            .map(|(part, whole, shown)| {
                (*part, *whole, if *whole == "readyReplicas" { "status.readyReplicas" } else { shown })
            })
            .collect();
        counts(status(new), &all, &parts, &mut r);
        collisions(new, old, &mut r);
        r.0
    }
}

/// A field that is behind a gate, and kept where it is in use already.
fn drop_max_unavailable(object: &mut Value, old: Option<&Value>) {
    let used = old.and_then(|o| meta::at(o, &["spec", "updateStrategy", "rollingUpdate", "maxUnavailable"])).is_some();
    let rolling = get_mut(object, "spec").and_then(|s| get_mut(s, "updateStrategy"));
    if let Some(rolling) = rolling.and_then(|s| get_mut(s, "rollingUpdate"))
        && !used
    {
        put(rolling, "maxUnavailable", None);
    }
}

/// An annotation that counts the changes of a daemon set's template, for old clients.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn generation(object: &Value) -> i64 {
    meta::annotation(object, TEMPLATE_GENERATION).and_then(|n| n.parse().ok()).unwrap_or(0)
}

impl Strategy for DaemonSets {
    fn default(&self, object: &mut Value) {
        defaults::daemon_set(object);
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        without_status(object);
        defaults::daemon_set_status(object);
        if generation(object) < 1 {
            meta::set_annotation(object, TEMPLATE_GENERATION, "1");
        }
    }

    fn prepare_update(&self, writer: &Writer<'_>, new: &mut Value, old: &Value) {
        split_status(writer, new, old);
        if writer.subresource.is_empty() {
            let template = |o: &Value| meta::at(o, &["spec", "template"]).cloned();
            let now = generation(old) + i64::from(template(new) != template(old));
            meta::set_annotation(new, TEMPLATE_GENERATION, &now.to_string());
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validate::daemon_set(object)
    }

    fn validate_write(&self, writer: &Writer<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        if writer.subresource != "status" {
            let mut errors = validate::daemon_set(new);
            errors.extend(validate::selector_stays(new, old));
            return errors;
        }
        let mut r = Report::default();
        let all = [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ];
        counts(status(new), &all, &[], &mut r);
        collisions(new, old, &mut r);
        r.0
    }
}

impl Strategy for Revisions {
    fn default(&self, object: &mut Value) {
        default_to(object, "revision", 0);
    }

    fn prepare_update(&self, _writer: &Writer<'_>, _new: &mut Value, _old: &Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut r = Report::default();
        let whole = kiln_apimachinery::path::Path::new("");
        r.nonnegative(object, "revision", &whole);
        match get(object, "data") {
            None => r.required(&whole.child("data"), "data is mandatory"),
            Some(data) if !data.is_object() => r.required(&whole.child("data"), "data must be a valid JSON object"),
            Some(_) => {}
        }
        r.0
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut r = Report::default();
        r.immutable(new, old, "data", &kiln_apimachinery::path::Path::new(""));
        r.0
    }
}
