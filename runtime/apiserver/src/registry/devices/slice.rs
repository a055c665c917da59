//! DeviceClasses, and the ResourceSlices in which drivers tell of their devices.

use kiln_apimachinery::{meta, time};
use serde_json::{Value, json};

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
