//! DeviceClasses, and the ResourceSlices in which drivers tell of their devices.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, meta, time};
use serde_json::{Value, json};

use super::rules;
use crate::registry::rules::{Errors, list};
use crate::registry::strategy::{Strategy, Writer, default_to};

pub(crate) struct Classes;

impl Strategy for Classes {
    fn default(&self, object: &mut Value) {
        meta::child(object, "spec");
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        // Behind a gate that is off by default.
        meta::child(object, "spec").remove("extendedResourceName");
    }

    fn prepare_update(&self, _writer: &Writer<'_>, new: &mut Value, old: &Value) {
        if meta::at(old, &["spec", "extendedResourceName"]).is_none() {
            meta::child(new, "spec").remove("extendedResourceName");
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let Some(spec) = object.get("spec") else { return errors };
        rules::selectors(&Path::new("spec.selectors"), list(spec, "selectors"), &mut errors);
        let path = Path::new("spec.config");
        for (i, entry) in list(spec, "config").iter().enumerate() {
            rules::configuration(&path.index(i), entry, &mut errors);
        }
        errors
    }
}

pub(crate) struct Slices;

impl Strategy for Slices {
    fn default(&self, object: &mut Value) {
        meta::child(object, "spec");
        if let Some(pool) = object.pointer_mut("/spec/pool").filter(|p| p.is_object()) {
            default_to(pool, "generation", 0);
        }
    }

    fn prepare_create(&self, writer: &Writer<'_>, object: &mut Value) {
        stamp_taints(writer, object, &Value::Null);
    }

    fn prepare_update(&self, writer: &Writer<'_>, new: &mut Value, old: &Value) {
        stamp_taints(writer, new, old);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        object.get("spec").map(|spec| rules::slice(spec, None)).unwrap_or_default()
    }

    fn validate_write(&self, _writer: &Writer<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        new.get("spec").map(|spec| rules::slice(spec, old.get("spec"))).unwrap_or_default()
    }
}

/// A taint without a time was added now, or when the stored one was that is the same otherwise.
fn stamp_taints(writer: &Writer<'_>, slice: &mut Value, old: &Value) {
    let known = |device: usize, taint: &Value| -> Option<Value> {
        let taints = old.pointer(&format!("/spec/devices/{device}/taints"))?.as_array()?;
        let same = |t: &&Value| ["key", "value", "effect"].iter().all(|k| t.get(*k) == taint.get(*k));
        taints.iter().find(same)?.get("timeAdded").cloned()
    };
    let devices = slice.pointer_mut("/spec/devices").and_then(Value::as_array_mut);
    for (i, device) in devices.into_iter().flatten().enumerate() {
        for taint in device.get_mut("taints").and_then(Value::as_array_mut).into_iter().flatten() {
            let time = known(i, taint).unwrap_or_else(|| json!(time::rfc3339(writer.now)));
            default_to(taint, "timeAdded", time);
        }
    }
}
