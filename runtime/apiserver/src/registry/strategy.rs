//! What a kind does that rows can't say: defaults, what writers may not set, validation.

use jiff::Timestamp;
use kiln_apimachinery::names::{self, NameRule};
use kiln_apimachinery::{FieldError, meta};
use serde_json::Value;

use crate::user::UserInfo;

/// Who writes, when, and to which part of the object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writer<'a> {
    pub(crate) user: &'a UserInfo,
    pub(crate) now: Timestamp,
    /// Subresource written; empty for the object itself.
    pub(crate) subresource: &'a str,
}

/// The hooks of a kind. Objects are of their kind's types before any of them is called.
pub(crate) trait Strategy: Send + Sync {
    /// The rule for names.
    fn name_rule(&self) -> NameRule {
        names::dns1123_subdomain
    }

    /// Fills in what the writer left out.
    fn default(&self, _object: &mut Value) {}

    /// Sets and removes what writers have no say in, before a create.
    fn prepare_create(&self, _writer: &Writer<'_>, _object: &mut Value) {}

    /// The same before an update, with the stored object.
    fn prepare_update(&self, writer: &Writer<'_>, new: &mut Value, old: &Value) {
        split_status(writer, new, old);
    }

    /// The rules for any state of the object.
    fn validate(&self, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// The rules for a change.
    fn validate_update(&self, _new: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// The rules for what one writer changes; kinds whose subresources have rules of their own tell them apart here.
    fn validate_write(&self, _writer: &Writer<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        errors.extend(self.validate_update(new, old));
        errors
    }

    /// How many seconds an object that is deleted has left before it goes: `None` for a kind that goes at once.
    /// `requested` is what the delete asked for.
    fn graceful_delete(&self, _object: &Value, _requested: Option<i64>) -> Option<i64> {
        None
    }
}

/// A kind that is stored as it comes.
pub(crate) struct Plain;

impl Strategy for Plain {}

/// An update of the object leaves `status` alone; one of `status` leaves everything else but metadata alone.
pub(crate) fn split_status(writer: &Writer<'_>, new: &mut Value, old: &Value) {
    match writer.subresource {
        "" => keep(new, old, "status"),
        "status" => {
            let status = new.get("status").cloned();
            let metadata = new.get("metadata").cloned();
            *new = old.clone();
            put(new, "status", status);
            put(new, "metadata", metadata);
        }
        _ => {}
    }
}

/// Gives `new` the `key` that `old` has, or has not.
pub(crate) fn keep(new: &mut Value, old: &Value, key: &str) {
    put(new, key, old.get(key).cloned());
}

/// Sets or removes a key of an object.
pub(crate) fn put(object: &mut Value, key: &str, value: Option<Value>) {
    let map = meta::object_mut(object);
    match value {
        Some(value) => map.insert(key.to_owned(), value),
        None => map.remove(key),
    };
}

/// Sets a key that is absent or null.
pub(crate) fn default_to(object: &mut Value, key: &str, value: impl Into<Value>) {
    let slot = meta::object_mut(object).entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = value.into();
    }
}

/// A complaint if a field differs between two states.
pub(crate) fn immutable(new: &Value, old: &Value, path: &[&str], errors: &mut Vec<FieldError>) {
    let (new, old) = (meta::at(new, path), meta::at(old, path));
    if new != old {
        let shown = new.cloned().unwrap_or_default();
        errors.push(FieldError::invalid(path.join("."), &shown, "field is immutable"));
    }
}
