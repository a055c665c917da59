//! ResourceClaims and the templates that pods make them from.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, meta};
use serde_json::{Value, json};

use super::rules;
use crate::registry::rules::{Errors, immutable};
use crate::registry::strategy::{Strategy, Writer, default_to, put, split_status};

pub(crate) struct Claims;

impl Strategy for Claims {
    fn default(&self, object: &mut Value) {
        meta::child(object, "spec");
        if let Some(spec) = object.get_mut("spec") {
            default_spec(spec);
        }
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        put(object, "status", Some(json!({})));
    }

    fn prepare_update(&self, writer: &Writer<'_>, new: &mut Value, old: &Value) {
        split_status(writer, new, old);
        if writer.subresource == "status" {
            forget_devices(new, old);
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        if let Some(spec) = object.get("spec") {
            rules::claim_spec(&Path::new("spec"), spec, &mut errors);
        }
        errors
    }

    fn validate_write(&self, writer: &Writer<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        if writer.subresource == "status" { rules::claim_status(new, old) } else { fixed_spec(new, old) }
    }
}

/// What was asked for can't be changed.
fn fixed_spec(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    immutable(&Path::new("spec"), new.get("spec"), old.get("spec"), &mut errors);
    errors
}

pub(crate) struct Templates;

impl Strategy for Templates {
    fn default(&self, object: &mut Value) {
        meta::child(object, "spec");
        let Some(template) = object.get_mut("spec") else { return };
        meta::child(template, "spec");
        if let Some(spec) = template.get_mut("spec") {
            default_spec(spec);
        }
    }

    fn prepare_update(&self, _writer: &Writer<'_>, _new: &mut Value, _old: &Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        if let Some(spec) = meta::at(object, &["spec", "spec"]) {
            rules::claim_spec(&Path::new("spec.spec"), spec, &mut errors);
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        fixed_spec(new, old)
    }
}

fn list<'a>(value: &'a mut Value, path: &str) -> impl Iterator<Item = &'a mut Value> {
    value.pointer_mut(path).and_then(Value::as_array_mut).into_iter().flatten()
}

fn default_spec(spec: &mut Value) {
    default_to(spec, "devices", json!({}));
    for request in list(spec, "/devices/requests") {
        if let Some(exactly) = request.get_mut("exactly").filter(|e| e.is_object()) {
            default_request(exactly);
        }
        list(request, "/firstAvailable").for_each(default_request);
    }
}

fn default_request(request: &mut Value) {
    default_to(request, "allocationMode", "ExactCount");
    let count = request.get("count").and_then(Value::as_i64).unwrap_or(0);
    if meta::text(request, &["allocationMode"]) == "ExactCount" && count == 0 {
        meta::object_mut(request).insert("count".into(), 1.into());
    }
}

/// What names a device: driver, pool, device and share.
fn device(value: &Value) -> [&str; 4] {
    ["driver", "pool", "device", "shareID"].map(|key| meta::text(value, &[key]))
}

/// A device that is given back takes what was said of it along.
fn forget_devices(new: &mut Value, old: &Value) {
    let results = |claim: &Value| -> Vec<Value> {
        let found = claim.pointer("/status/allocation/devices/results").and_then(Value::as_array);
        found.cloned().unwrap_or_default()
    };
    let kept = results(new);
    let gone: Vec<Value> = results(old).into_iter().filter(|r| !kept.iter().any(|k| device(k) == device(r))).collect();
    let Some(devices) = new.pointer_mut("/status/devices").and_then(Value::as_array_mut) else { return };
    devices.retain(|d| !gone.iter().any(|g| device(g) == device(d)));
    if devices.is_empty() {
        meta::child(new, "status").remove("devices");
    }
}
