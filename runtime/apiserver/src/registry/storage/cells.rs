//! Cells of volumes, claims, classes and drivers that are more than a field.

use jiff::Timestamp;
use kiln_apimachinery::meta;
use serde_json::Value;

use crate::registry::cells::{NONE, UNSET, default_name, items};

/// Annotation that named a class before there was a field.
pub(crate) const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// Annotations of the class that claims without one get.
pub(crate) const DEFAULT_CLASS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

/// A quantity that is a text or a number.
fn quantity(value: Option<&Value>, otherwise: &str) -> Value {
    match value {
        Some(Value::String(text)) => text.as_str().into(),
        Some(Value::Number(number)) => number.to_string().into(),
        _ => otherwise.into(),
    }
}

fn modes(object: &Value, path: &[&str]) -> Value {
    let given = meta::strings(meta::at(object, path));
    let short =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    short.iter().filter(|(mode, _)| given.contains(mode)).map(|(_, s)| *s).collect::<Vec<_>>().join(",").into()
}

pub(crate) fn phase(object: &Value, _: Timestamp) -> Value {
    if meta::is_terminating(object) { "Terminating" } else { meta::text(object, &["status", "phase"]) }.into()
}

pub(crate) fn volume_capacity(volume: &Value, _: Timestamp) -> Value {
    quantity(meta::at(volume, &["spec", "capacity", "storage"]), "0")
}

pub(crate) fn volume_modes(volume: &Value, _: Timestamp) -> Value {
    modes(volume, &["spec", "accessModes"])
}

pub(crate) fn volume_claim(volume: &Value, _: Timestamp) -> Value {
    match meta::at(volume, &["spec", "claimRef"]).filter(|c| c.is_object()) {
        Some(claim) => format!("{}/{}", meta::text(claim, &["namespace"]), meta::text(claim, &["name"])).into(),
        None => "".into(),
    }
}

/// The name of an object's storage class.
pub(crate) fn class_of(object: &Value) -> &str {
    meta::annotation(object, BETA_CLASS).unwrap_or_else(|| meta::text(object, &["spec", "storageClassName"]))
}

pub(crate) fn class(object: &Value, _: Timestamp) -> Value {
    class_of(object).into()
}

pub(crate) fn attributes_class(object: &Value, _: Timestamp) -> Value {
    meta::at(object, &["spec", "volumeAttributesClassName"]).and_then(Value::as_str).unwrap_or(UNSET).into()
}

pub(crate) fn volume_mode(object: &Value, _: Timestamp) -> Value {
    meta::at(object, &["spec", "volumeMode"]).and_then(Value::as_str).unwrap_or(UNSET).into()
}

fn is_bound(claim: &Value) -> bool {
    !meta::text(claim, &["spec", "volumeName"]).is_empty()
}

pub(crate) fn claim_capacity(claim: &Value, _: Timestamp) -> Value {
    if is_bound(claim) { quantity(meta::at(claim, &["status", "capacity", "storage"]), "0") } else { "".into() }
}

pub(crate) fn claim_modes(claim: &Value, _: Timestamp) -> Value {
    if is_bound(claim) { modes(claim, &["status", "accessModes"]) } else { "".into() }
}

pub(crate) fn class_name(class: &Value, _: Timestamp) -> Value {
    default_name(class, &DEFAULT_CLASS)
}

pub(crate) fn class_expands(class: &Value, _: Timestamp) -> Value {
    class.get("allowVolumeExpansion").and_then(Value::as_bool).unwrap_or(false).into()
}

pub(crate) fn driver_attaches(driver: &Value, _: Timestamp) -> Value {
    meta::at(driver, &["spec", "attachRequired"]).and_then(Value::as_bool).unwrap_or(true).into()
}

pub(crate) fn driver_tokens(driver: &Value, _: Timestamp) -> Value {
    match meta::at(driver, &["spec", "tokenRequests"]) {
        None => UNSET.into(),
        Some(_) => {
            let requests = items(driver, &["spec", "tokenRequests"]);
            requests.iter().map(|r| meta::text(r, &["audience"])).collect::<Vec<_>>().join(",").into()
        }
    }
}

pub(crate) fn driver_modes(driver: &Value, _: Timestamp) -> Value {
    match meta::strings(meta::at(driver, &["spec", "volumeLifecycleModes"])).join(",") {
        none if none.is_empty() => NONE.into(),
        modes => modes.into(),
    }
}

pub(crate) fn capacity(object: &Value, _: Timestamp) -> Value {
    quantity(object.get("capacity"), UNSET)
}
