//! The rules that PersistentVolumeClaims keep.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::quantity::Quantity;
use kiln_apimachinery::{FieldError, diff, meta, names};
use serde_json::Value;

use super::cells::BETA_CLASS;
use super::volume_rules::{access_modes, positive, volume_mode};
use crate::registry::rules::{self, Errors, given, name, one_of, quantities, required, selector, text};

const RESIZE: &[&str] = &[
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

pub(super) fn validate(claim: &Value) -> Errors {
    let mut errors = Errors::new();
    let Some(spec) = claim.get("spec") else { return errors };
    let path = Path::new("spec");
    if let Some(found) = given(spec, "selector") {
        selector::label_selector(&path.child("selector"), found, &mut errors);
    }
    access_modes(&path.child("accessModes"), spec, "at least 1 access mode is required", &mut errors);
    let resources = path.child("resources");
    match meta::at(spec, &["resources", "requests", "storage"]) {
        None => errors.push(FieldError::required(resources.key("storage"), "")),
        Some(amount) => positive(&resources.key("storage"), amount, &mut errors),
    }
    for key in ["storageClassName", "volumeAttributesClassName"] {
        let class = text(spec, key);
        if !class.is_empty() {
            name(&path.child(key), class, names::dns1123_subdomain, &mut errors);
        }
    }
    volume_mode(&path.child("volumeMode"), spec, &mut errors);
    let (source, reference) = (given(spec, "dataSource"), given(spec, "dataSourceRef"));
    for (key, found) in [("dataSource", source), ("dataSourceRef", reference)] {
        if let Some(found) = found {
            data_source(&path.child(key), found, &mut errors);
        }
    }
    if let (Some(source), Some(reference)) = (source, reference) {
        let same = ["apiGroup", "kind", "name"].iter().all(|key| text(source, key) == text(reference, key));
        let shown = "spec.dataSource".into();
        if !text(reference, "namespace").is_empty() {
            let why = "may not be specified when dataSourceRef.namespace is specified";
            errors.push(FieldError::invalid(path, &shown, why));
        } else if !same {
            errors.push(FieldError::invalid(path, &shown, "must match dataSourceRef"));
        }
    }
    errors
}

fn data_source(path: &Path<'_>, source: &Value, errors: &mut Errors) {
    required(&path.child("name"), text(source, "name"), errors);
    required(&path.child("kind"), text(source, "kind"), errors);
    match text(source, "apiGroup") {
        "" if text(source, "kind") != "PersistentVolumeClaim" => {
            let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.push(FieldError::invalid(path, &text(source, "kind").into(), why));
        }
        "" => {}
        group => name(&path.child("apiGroup"), group, names::dns1123_subdomain, errors),
    }
    if !text(source, "namespace").is_empty() {
        name(&path.child("namespace"), text(source, "namespace"), names::dns1123_label, errors);
    }
}

fn storage(value: &Value, path: &[&str]) -> Quantity {
    meta::at(value, path).map_or(Quantity::ZERO, quantities::read)
}

pub(super) fn validate_update(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    let (Some(spec), Some(was)) = (new.get("spec"), old.get("spec")) else { return errors };
    let bound = text(&new["status"], "phase") == "Bound";
    let mut wanted = spec.clone();
    let mut before = was.clone();
    // Which volume it is bound to is set once.
    if text(was, "volumeName").is_empty() {
        copy(&mut before, spec, "volumeName");
    }
    let beta = |o: &Value| meta::annotation(o, BETA_CLASS).map(str::to_owned);
    let class = |s: &Value| given(s, "storageClassName").and_then(Value::as_str).map(str::to_owned);
    let upgraded = beta(old).is_some()
        && class(was).is_none()
        && class(spec) == beta(old)
        && (beta(new).is_none() || beta(new) == beta(old));
    if upgraded {
        copy(&mut wanted, was, "storageClassName");
    } else {
        if beta(new) != beta(old) {
            let field = format!("metadata.annotations[{BETA_CLASS}]");
            let shown = beta(new).unwrap_or_default().into();
            errors.push(FieldError::invalid(field, &shown, rules::IMMUTABLE));
        }
        // A claim that waits for a class gets the default one once there is one.
        if class(spec).is_some() && class(was).is_none() && beta(old).is_none_or(|b| Some(b) == class(spec)) {
            copy(&mut wanted, was, "storageClassName");
        }
    }
    let size = ["resources", "requests", "storage"];
    if bound {
        copy(&mut wanted, was, "volumeAttributesClassName");
        let kept = meta::at(was, &size).cloned();
        if let (Some(kept), Some(requests)) = (kept, wanted.pointer_mut("/resources/requests")) {
            meta::object_mut(requests).insert("storage".into(), kept);
        }
    }
    if !same_spec(&wanted, &before) {
        let why = format!(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n{}",
            diff(&before, &wanted)
        );
        errors.push(FieldError::forbidden("spec", &why));
    }
    let (new_size, old_size) = (storage(spec, &size), storage(was, &size));
    if new_size < old_size && new_size <= storage(old, &["status", "capacity", "storage"]) {
        let why = "field can not be less than status.capacity";
        errors.push(FieldError::forbidden("spec.resources.requests.storage", why));
    }
    rules::immutable(&Path::new("volumeMode"), spec.get("volumeMode"), was.get("volumeMode"), &mut errors);
    let attributes = "volumeAttributesClassName";
    let has_current = meta::at(old, &["status", "currentVolumeAttributesClassName"]).is_some();
    if has_current && given(spec, attributes) != given(was, attributes) {
        let what = match given(spec, attributes).and_then(Value::as_str) {
            None => "nil",
            Some("") => "empty string",
            Some(_) => "",
        };
        if !what.is_empty() {
            let why = format!("update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil");
            errors.push(FieldError::forbidden("spec.volumeAttributesClassName", &why));
        }
    }
    errors
}

/// Gives `target` the key that `from` has, or has not.
fn copy(target: &mut Value, from: &Value, key: &str) {
    crate::registry::strategy::keep(target, from, key);
}

/// Whether two specs say the same; amounts may be written in different ways.
fn same_spec(a: &Value, b: &Value) -> bool {
    fn same(a: &Value, b: &Value, amounts: bool) -> bool {
        match (a, b) {
            (Value::Object(x), Value::Object(y)) => {
                x.len() == y.len()
                    && x.iter().all(|(key, value)| {
                        let amounts = amounts || key == "requests" || key == "limits";
                        y.get(key).is_some_and(|other| same(value, other, amounts))
                    })
            }
            _ if amounts => quantities::read(a) == quantities::read(b),
            _ => a == b,
        }
    }
    same(a, b, false)
}

pub(super) fn validate_status(new: &Value) -> Errors {
    let mut errors = Errors::new();
    let Some(status) = new.get("status") else { return errors };
    let amounts = |key: &'static str| status.get(key).and_then(Value::as_object).into_iter().flatten();
    let path = Path::new("status.capacity");
    for (resource, amount) in amounts("capacity") {
        quantities::amount(&path.key(resource), "", amount, &mut errors);
    }
    let path = Path::new("status.allocatedResourceStatuses");
    for (resource, state) in amounts("allocatedResourceStatuses") {
        resource_key(&path, resource, &mut errors);
        one_of(&path, state.as_str().unwrap_or_default(), RESIZE, &mut errors);
    }
    let path = Path::new("status.allocatedResources");
    for (resource, amount) in amounts("allocatedResources") {
        resource_key(&path, resource, &mut errors);
        quantities::amount(&path.key(resource), "storage", amount, &mut errors);
    }
    errors
}

fn resource_key(path: &Path<'_>, resource: &str, errors: &mut Errors) {
    let before = errors.len();
    name(path, resource, names::qualified_name, errors);
    if errors.len() == before && quantities::is_native(resource) {
        one_of(path, resource, &["storage"], errors);
    }
}
