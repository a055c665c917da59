//! Namespaces: a phase, and a finalizer of their own that the namespace controller removes once they are empty.

use kiln_apimachinery::names::{self, NameRule};
use kiln_apimachinery::{FieldError, meta};
use serde_json::{Value, json};

use crate::registry::strategy::{Strategy, Writer, keep, put, split_status};

/// The finalizer in `spec.finalizers`.
const FINALIZER: &str = "kubernetes";
/// The label with the namespace's name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub(crate) struct Namespaces;

impl Strategy for Namespaces {
    fn name_rule(&self) -> NameRule {
        names::dns1123_label
    }

    fn default(&self, object: &mut Value) {
        let name = meta::name(object).to_owned();
        if !name.is_empty() {
            let metadata = meta::metadata_mut(object);
            meta::object_mut(metadata.entry("labels").or_insert(Value::Null)).insert(NAME_LABEL.into(), name.into());
        }
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        let spec = meta::child(object, "spec");
        let mut finalizers: Vec<Value> = spec.get("finalizers").and_then(Value::as_array).cloned().unwrap_or_default();
        if !finalizers.iter().any(|f| f == FINALIZER) {
            finalizers.push(FINALIZER.into());
        }
        spec.insert("finalizers".into(), finalizers.into());
        put(object, "status", Some(json!({"phase": "Active"})));
    }

    fn prepare_update(&self, writer: &Writer<'_>, new: &mut Value, old: &Value) {
        match writer.subresource {
            "finalize" => {
                let finalizers = meta::at(new, &["spec", "finalizers"]).cloned();
                let metadata = new.get("metadata").cloned();
                *new = old.clone();
                put(new, "metadata", metadata);
                meta::child(new, "spec").insert("finalizers".into(), finalizers.unwrap_or_else(|| json!([])));
            }
            _ => {
                split_status(writer, new, old);
                keep(new, old, "spec");
            }
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let list = meta::strings(meta::at(object, &["spec", "finalizers"]));
        let mut errors = Vec::new();
        for finalizer in list {
            for why in names::qualified_name(finalizer) {
                errors.push(FieldError::invalid("spec.finalizers", &finalizer.into(), &why));
            }
            if finalizer != FINALIZER && !finalizer.contains('/') {
                errors.push(FieldError::invalid(
                    "spec.finalizers",
                    &finalizer.into(),
                    "name is neither a standard finalizer name nor is it fully qualified",
                ));
            }
        }
        errors
    }
}
