//! Events, in the shape of the core group (which is stored) and in that of `events.k8s.io`.

use kiln_apimachinery::{FieldError, meta};
use serde_json::Value;

use crate::registry::resource::Conversion;
use crate::registry::strategy::{Strategy, Writer};

/// Paths that field selectors may name, in either shape.
pub(crate) const SELECTABLE: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
    "regarding.kind",
    "regarding.namespace",
    "regarding.name",
    "regarding.uid",
    "regarding.apiVersion",
    "regarding.resourceVersion",
    "regarding.fieldPath",
    "reportingController",
];

/// Core name and new name of the fields that differ.
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("count", "deprecatedCount"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("reportingComponent", "reportingController"),
];

/// Between the two shapes.
pub(crate) const CONVERSION: Conversion = Conversion { to_stored, from_stored };

fn to_stored(object: &mut Value) {
    rename(object, |(core, new)| (new, core));
    set_api_version(object, "v1");
}

fn from_stored(object: &mut Value) {
    rename(object, |(core, new)| (core, new));
    set_api_version(object, "events.k8s.io/v1");
    // Here they are there only if they say something.
    for key in ["reportingController", "reportingInstance"] {
        if meta::text(object, &[key]).is_empty() {
            meta::object_mut(object).remove(key);
        }
    }
}

fn rename(object: &mut Value, direction: fn((&'static str, &'static str)) -> (&'static str, &'static str)) {
    let map = meta::object_mut(object);
    for (from, to) in RENAMED.iter().copied().map(direction) {
        if let Some(value) = map.remove(from) {
            map.insert(to.into(), value);
        }
    }
}

fn set_api_version(object: &mut Value, text: &str) {
    meta::object_mut(object).insert("apiVersion".into(), text.into());
}

pub(crate) struct Events;

impl Strategy for Events {
    fn prepare_update(&self, _writer: &Writer<'_>, _new: &mut Value, _old: &Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let field = if object.get("regarding").is_some() { "regarding" } else { "involvedObject" };
        let about = meta::text(object, &[field, "namespace"]);
        let home = meta::namespace(object);
        // Events about cluster-scoped objects are kept in `default`, or where their writer lives.
        if !about.is_empty() && about != home {
            errors.push(FieldError::invalid(
                format!("{field}.namespace"),
                &about.into(),
                "does not match event.namespace",
            ));
        }
        errors
    }
}
