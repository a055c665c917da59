//! Pod templates that stand alone, the oldest of the controllers, and what the controllers share.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, meta};
use serde_json::{Map, Value, json};

use super::check::{Report, template};
use super::defaults;
use super::view::{entries, get, get_mut, int, is_zero, make};
use crate::registry::strategy::{Strategy, Writer, default_to, put, split_status};

/// A new object has no status; what is written of one later, its controller writes.
pub(super) fn without_status(object: &mut Value) {
    put(object, "status", Some(Value::Object(Map::new())));
}

/// Counts in a status: none is negative, and some are parts of others.
pub(super) fn counts(status: &Value, counts: &[&str], parts: &[(&str, &str, &str)], r: &mut Report) {
    let path = Path::new("status");
    for key in counts {
        r.nonnegative(status, key, &path);
    }
    for (part, whole, shown) in parts {
        let count = int(status, part).unwrap_or(0);
        if count > int(status, whole).unwrap_or(0) {
            r.invalid(&path.child(part), count, &format!("cannot be greater than {shown}"));
        }
    }
}

/// The count of names that were taken never goes back.
pub(super) fn collisions(new: &Value, old: &Value, r: &mut Report) {
    let of = |object: &Value| object.get("status").and_then(|s| int(s, "collisionCount"));
    if let Some(before) = of(old) {
        let now = of(new).unwrap_or(0);
        if now < before {
            r.invalid(&Path::new("status.collisionCount"), now, "cannot be decremented");
        }
    }
}

/// The status of an object, or nothing.
pub(super) fn status(object: &Value) -> &Value {
    object.get("status").unwrap_or(&Value::Null)
}

/// The specification of an object, or nothing.
pub(super) fn spec(object: &Value) -> &Value {
    object.get("spec").unwrap_or(&Value::Null)
}

pub(crate) struct PodTemplates;

impl Strategy for PodTemplates {
    fn default(&self, object: &mut Value) {
        make(object, "template");
        defaults::template(object);
    }

    fn prepare_update(&self, _writer: &Writer<'_>, _new: &mut Value, _old: &Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut r = Report::default();
        template::check(object.get("template").unwrap_or(&Value::Null), &Path::new("template"), &mut r);
        r.0
    }
}

pub(crate) struct ReplicationControllers;

impl Strategy for ReplicationControllers {
    fn default(&self, object: &mut Value) {
        let labels = defaults::template_labels(object);
        let spec = make(object, "spec");
        default_to(spec, "replicas", 1);
        defaults::template(spec);
        if let Some(labels) = labels
            && is_zero(spec.get("selector"))
        {
            put(spec, "selector", Some(labels));
        }
        defaults::labels_from_template(object);
        default_to(object, "status", json!({}));
        if let Some(status) = get_mut(object, "status") {
            default_to(status, "replicas", 0);
        }
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        without_status(object);
        default_to(make(object, "status"), "replicas", 0);
    }

    fn prepare_update(&self, writer: &Writer<'_>, new: &mut Value, old: &Value) {
        split_status(writer, new, old);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut r = Report::default();
        let (spec, path) = (spec(object), Path::new("spec"));
        for key in ["minReadySeconds", "replicas"] {
            r.nonnegative(spec, key, &path);
        }
        if entries(spec, "selector").next().is_none() {
            r.required(&path.child("selector"), "");
        }
        let at = path.child("template");
        let Some(template) = get(spec, "template") else {
            r.required(&at, "");
            return r.0;
        };
        let labels = meta::string_map(meta::at(template, &["metadata", "labels"]));
        let selected = meta::string_map(spec.get("selector")).iter().all(|(k, v)| labels.get(k) == Some(v));
        template::is_selected(selected, template, &at, &mut r);
        template::check(template, &at, &mut r);
        template::runs_for_good(template, "ReplicationController", &at, &mut r);
        r.0
    }

    fn validate_write(&self, writer: &Writer<'_>, new: &Value, _old: &Value) -> Vec<FieldError> {
        if writer.subresource != "status" {
            return self.validate(new);
        }
        let mut r = Report::default();
        let all = ["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration"];
        counts(status(new), &all, REPLICAS, &mut r);
        r.0
    }
}

/// Which counts of replicas are parts of which.
pub(super) const REPLICAS: &[(&str, &str, &str)] = &[
    ("fullyLabeledReplicas", "replicas", "status.replicas"),
    ("updatedReplicas", "replicas", "status.replicas"),
    ("currentReplicas", "replicas", "status.replicas"),
    ("readyReplicas", "replicas", "status.replicas"),
    ("availableReplicas", "replicas", "status.replicas"),
    ("availableReplicas", "readyReplicas", "readyReplicas"),
];
