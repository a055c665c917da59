//! What a custom kind does: defaults, the split of `status`, generations, validation.

use std::sync::Arc;

use kiln_apimachinery::{FieldError, FieldErrorKind, meta};
use serde_json::Value;

use super::{Custom, rules, schema};
use crate::registry::strategy::{Strategy, Writer, put, split_status};

/// The hooks of a custom kind.
pub(super) struct Kind(pub(super) Arc<Custom>);

impl Kind {
    /// The rules for a whole object.
    fn check(&self, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let root = self.0.schema.root();
        let mut errors = schema::check_change(root, new, old, "");
        if let Some(scale) = &self.0.scale {
            errors.extend(scale.validate(new, true, true));
        }
        self.rest(new, old, errors)
    }

    /// The rules beside those of the schema itself.
    fn rest(&self, new: &Value, old: Option<&Value>, mut errors: Vec<FieldError>) -> Vec<FieldError> {
        let root = self.0.schema.root();
        errors.extend(schema::validate_embedded(root, new));
        // Lists that were not unique before need not become so.
        if old.is_none_or(|old| schema::unique(root, old).is_empty()) {
            errors.extend(schema::unique(root, new));
        }
        if root.has_rules() && errors.iter().any(blocks) {
            let why = "some validation rules were not checked because the object was invalid; correct the existing errors \
                       to complete validation";
            errors.push(FieldError::invalid("<nil>", &Value::Null, why));
        } else {
            errors.extend(rules::check(root, new, old));
        }
        errors
    }
}

/// True for complaints that keep rules in CEL from being asked.
fn blocks(error: &FieldError) -> bool {
    use FieldErrorKind::{NotSupported, Required, TooLong, TooMany, TypeInvalid};
    matches!(error.kind, NotSupported | Required | TooLong | TooMany | TypeInvalid)
}

impl Kind {
    /// What admission has added is pruned like what clients send, and may have left things to fill in.
    fn tidy(&self, object: &mut Value) {
        schema::prune(self.0.schema.root(), object);
        self.default(object);
    }
}

impl Strategy for Kind {
    fn default(&self, object: &mut Value) {
        let root = self.0.schema.root();
        schema::nulls(Some(root), object);
        schema::defaults(root, object);
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        self.tidy(object);
        if self.0.has_status {
            put(object, "status", None);
        }
    }

    fn prepare_update(&self, writer: &Writer<'_>, new: &mut Value, old: &Value) {
        self.tidy(new);
        if self.0.has_status {
            split_status(writer, new, old);
            if writer.subresource == "status" {
                keep_metadata(new, old);
            }
        } else if new.get("status") != old.get("status") {
            // Without a part of its own the status counts as any other field.
            let generation = meta::at(old, &["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0);
            meta::metadata_mut(new).insert("generation".into(), (generation + 1).into());
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        self.check(object, None)
    }

    fn validate_write(&self, writer: &Writer<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        if writer.subresource != "status" {
            return self.check(new, Some(old));
        }
        let root = self.0.schema.root();
        let mut errors = match (root.property("status"), new.get("status")) {
            (Some(schema), Some(status)) => schema::check_change(schema, status, old.get("status"), "status"),
            _ => Vec::new(),
        };
        if let Some(scale) = &self.0.scale {
            errors.extend(scale.validate(new, false, true));
        }
        self.rest(new, Some(old), errors)
    }
}

/// A write of the status leaves metadata as it is, but for its owners.
fn keep_metadata(new: &mut Value, old: &Value) {
    let metadata = meta::metadata_mut(new);
    let told = [metadata.remove("managedFields"), metadata.remove("resourceVersion")];
    if let Some(before) = old.get("metadata").and_then(Value::as_object) {
        *metadata = before.clone();
    }
    for (key, value) in ["managedFields", "resourceVersion"].into_iter().zip(told) {
        match value {
            Some(value) => metadata.insert(key.into(), value),
            None => metadata.remove(key),
        };
    }
}
