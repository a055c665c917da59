//! The controllers of `apps`.

mod defaults;

use kiln_apimachinery::meta;
use serde_json::Value;

use super::controllers::without_status;
use super::view::make;
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
}

/// Annotations go on to the replica sets, so that a change of them counts as one of the deployment.
fn annotations(object: &Value) -> Option<&Value> {
    meta::at(object, &["metadata", "annotations"]).filter(|a| !super::view::is_zero(Some(a)))
}

impl Strategy for ReplicaSets {
    fn default(&self, object: &mut Value) {
        defaults::replica_set(object);
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        without_status(object);
        default_to(make(object, "status"), "replicas", 0);
    }
}

impl Strategy for StatefulSets {
    fn default(&self, object: &mut Value) {
        defaults::stateful_set(object);
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        without_status(object);
        default_to(make(object, "status"), "replicas", 0);
    }
}

impl Strategy for DaemonSets {
    fn default(&self, object: &mut Value) {
        defaults::daemon_set(object);
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        without_status(object);
        defaults::daemon_set(object);
    }
}

impl Strategy for Revisions {
    fn default(&self, object: &mut Value) {
        default_to(object, "revision", 0);
    }
}
