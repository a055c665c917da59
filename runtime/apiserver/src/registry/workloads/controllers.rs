//! Pod templates that stand alone, and the oldest of the controllers.

use serde_json::Value;

use super::defaults;
use super::view::{get_mut, is_zero, make};
use crate::registry::strategy::{Strategy, Writer, default_to, put, split_status};

/// A new object has no status; what is written of one later, its controller writes.
pub(super) fn without_status(object: &mut Value) {
    put(object, "status", Some(Value::Object(serde_json::Map::new())));
}

pub(crate) struct PodTemplates;

impl Strategy for PodTemplates {
    fn default(&self, object: &mut Value) {
        make(object, "template");
        defaults::template(object);
    }

    fn prepare_update(&self, _writer: &Writer<'_>, _new: &mut Value, _old: &Value) {}
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
        default_to(object, "status", serde_json::json!({}));
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
}
