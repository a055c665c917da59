//! The rules that PersistentVolumes keep, and what their claims share with them.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::quantity::Quantity;
use kiln_apimachinery::{FieldError, diff, meta, names};
use serde_json::Value;

use crate::registry::rules::{
    self, Errors, driver_name, given, list, name, one_of, quantities, required, required_name, selector, text,
};

const MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];
const RECLAIM: &[&str] = &["Delete", "Recycle", "Retain"];
const HOST_PATH_TYPES: &[&str] =
    &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
/// Fields of a volume's spec that say where its data is; one of them must be there.
pub(super) const SOURCES: &[&str] = &[
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

/// How a volume may be mounted.
pub(super) fn access_modes(path: &Path<'_>, spec: &Value, why: &str, errors: &mut Errors) {
    let modes = meta::strings(spec.get("accessModes"));
    if modes.is_empty() {
        errors.push(FieldError::required(path, why));
    }
    for mode in &modes {
        one_of(path, mode, MODES, errors);
    }
    let (alone, others): (Vec<&str>, Vec<&str>) =
        modes.into_iter().filter(|m| MODES.contains(m)).partition(|m| *m == "ReadWriteOncePod");
    if !alone.is_empty() && !others.is_empty() {
        errors.push(FieldError::forbidden(path, "may not use ReadWriteOncePod with other access modes"));
    }
}

/// Files or a raw device.
pub(super) fn volume_mode(path: &Path<'_>, spec: &Value, errors: &mut Errors) {
    if let Some(mode) = given(spec, "volumeMode").and_then(Value::as_str) {
        one_of(path, mode, VOLUME_MODES, errors);
    }
}

/// An amount of storage must be more than nothing.
pub(super) fn positive(path: &Path<'_>, value: &Value, errors: &mut Errors) {
    match Quantity::from_value(value) {
        Ok(amount) if amount > Quantity::ZERO => {}
        Ok(amount) => {
            errors.push(FieldError::invalid(path, &amount.to_string().into(), "must be greater than zero"));
        }
        Err(_) => quantities::amount(path, "storage", value, errors),
    }
}

pub(super) fn validate(volume: &Value) -> Errors {
    let mut errors = Errors::new();
    let Some(spec) = volume.get("spec") else { return errors };
    spec_rules(&Path::new("spec"), spec, false, &mut errors);
    errors
}

/// The rules for a spec, be it a volume's or one that stands within an attachment.
pub(super) fn spec_rules(path: &Path<'_>, spec: &Value, inline: bool, errors: &mut Errors) {
    let only = "in the context of inline volumes";
    if inline {
        for key in ["claimRef", "capacity", "nodeAffinity", "storageClassName"] {
            if given(spec, key).is_some_and(|v| *v != serde_json::json!({}) && *v != "") {
                errors.push(FieldError::forbidden(path.child(key), &format!("may not be specified {only}")));
            }
        }
        if given(spec, "csi").is_none() {
            errors.push(FieldError::required(path.child("csi"), &format!("has to be specified {only}")));
        }
    }
    access_modes(&path.child("accessModes"), spec, "", errors);
    if !inline {
        capacity(&path.child("capacity"), spec, errors);
        let policy = text(spec, "persistentVolumeReclaimPolicy");
        if !policy.is_empty() {
            one_of(&path.child("persistentVolumeReclaimPolicy"), policy, RECLAIM, errors);
        }
        if let Some(affinity) = given(spec, "nodeAffinity") {
            node_affinity(&path.child("nodeAffinity"), affinity, errors);
        }
        let class = text(spec, "storageClassName");
        if !class.is_empty() {
            name(&path.child("storageClassName"), class, names::dns1123_subdomain, errors);
        }
        volume_mode(&path.child("volumeMode"), spec, errors);
    }
    sources(path, spec, errors);
    attributes_class(path, spec, errors);
}

fn capacity(path: &Path<'_>, spec: &Value, errors: &mut Errors) {
    let all = spec.get("capacity").and_then(Value::as_object).cloned().unwrap_or_default();
    if all.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    if !all.contains_key("storage") || all.len() > 1 {
        errors.push(FieldError::not_supported(path, &Value::Object(all.clone()), &["storage"]));
    }
    for (resource, amount) in &all {
        positive(&path.key(resource), amount, errors);
    }
}

fn node_affinity(path: &Path<'_>, affinity: &Value, errors: &mut Errors) {
    match given(affinity, "required") {
        Some(required) => selector::node_selector(&path.child("required"), required, errors),
        None => errors.push(FieldError::required(path.child("required"), "must specify required node constraints")),
    }
}

fn sources(path: &Path<'_>, spec: &Value, errors: &mut Errors) {
    let mut found = SOURCES.iter().filter_map(|key| given(spec, key).map(|source| (*key, source)));
    let Some((key, source)) = found.next() else {
        errors.push(FieldError::required(path, "must specify a volume type"));
        return;
    };
    source_rules(path, key, source, spec, errors);
    for (key, _) in found {
        errors.push(FieldError::forbidden(path.child(key), "may not specify more than 1 volume type"));
    }
    let root = |p: &str| p.split('/').all(|part| part.is_empty() || part == ".") && p.starts_with('/');
    if key == "hostPath" && root(text(source, "path")) && text(spec, "persistentVolumeReclaimPolicy") == "Recycle" {
        let why = "may not be 'recycle' for a hostPath mount of '/'";
        errors.push(FieldError::forbidden(path.child("persistentVolumeReclaimPolicy"), why));
    }
}

fn source_rules(path: &Path<'_>, key: &str, source: &Value, spec: &Value, errors: &mut Errors) {
    let at = path.child(key);
    let place = text(source, "path");
    match key {
        "hostPath" | "local" => {
            required(&at.child("path"), place, errors);
            if place.split('/').any(|part| part == "..") {
                errors.push(FieldError::invalid(at.child("path"), &place.into(), "must not contain '..'"));
            }
            if key == "hostPath" && !place.is_empty() {
                one_of(&at.child("type"), text(source, "type"), HOST_PATH_TYPES, errors);
            }
            if key == "local" && given(spec, "nodeAffinity").is_none() {
                let why = "Local volume requires node affinity";
                errors.push(FieldError::required(path.child("nodeAffinity"), why));
            }
        }
        "nfs" => {
            required(&at.child("server"), text(source, "server"), errors);
            required(&at.child("path"), place, errors);
            if !place.starts_with('/') {
                errors.push(FieldError::invalid(at.child("path"), &place.into(), "must be an absolute path"));
            }
        }
        "csi" => {
            driver_name(&at.child("driver"), text(source, "driver"), errors);
            required(&at.child("volumeHandle"), text(source, "volumeHandle"), errors);
            for key in [
                "controllerPublishSecretRef",
                "controllerExpandSecretRef",
                "nodePublishSecretRef",
                "nodeExpandSecretRef",
            ] {
                if let Some(secret) = given(source, key) {
                    let at = at.child(key);
                    required_name(&at.child("name"), text(secret, "name"), names::dns1123_subdomain, errors);
                    required_name(&at.child("namespace"), text(secret, "namespace"), names::dns1123_label, errors);
                }
            }
        }
        "iscsi" => {
            required(&at.child("targetPortal"), text(source, "targetPortal"), errors);
            required(&at.child("iqn"), text(source, "iqn"), errors);
        }
        "fc" => {
            let (targets, ids) = (list(source, "targetWWNs"), list(source, "wwids"));
            if targets.is_empty() && ids.is_empty() {
                let why = "must specify either targetWWNs or wwids, but not both";
                errors.push(FieldError::required(at.child("targetWWNs"), why));
            }
        }
        "flexVolume" => required(&at.child("driver"), text(source, "driver"), errors),
        _ => {}
    }
}

fn attributes_class(path: &Path<'_>, spec: &Value, errors: &mut Errors) {
    let Some(class) = given(spec, "volumeAttributesClassName").and_then(Value::as_str) else { return };
    if class.is_empty() {
        let why = "an empty string is disallowed";
        errors.push(FieldError::required(path.child("volumeAttributesClassName"), why));
    } else {
        name(&path.child("volumeAttributesClassName"), class, names::dns1123_subdomain, errors);
    }
    if given(spec, "csi").is_none() {
        let why = "has to be specified when using volumeAttributesClassName";
        errors.push(FieldError::required(path.child("csi"), why));
    }
}

pub(super) fn validate_update(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    let (Some(spec), Some(was)) = (new.get("spec"), old.get("spec")) else { return errors };
    let source = |spec: &Value, ignore_secret: bool| -> Value {
        let sources = SOURCES.iter().filter_map(|key| Some(((*key).to_owned(), given(spec, key)?.clone())));
        let trimmed = sources.map(|(key, mut source)| {
            if ignore_secret && let Some(map) = source.as_object_mut() {
                map.remove("controllerExpandSecretRef");
            }
            (key, source)
        });
        Value::Object(trimmed.collect())
    };
    // The one secret that may be added later.
    let lacked = meta::at(was, &["csi", "controllerExpandSecretRef"]).is_none();
    let (now, before) = (source(spec, lacked), source(was, lacked));
    if now != before {
        let why = format!("spec.persistentvolumesource is immutable after creation\n{}", diff(&before, &now));
        errors.push(FieldError::forbidden("spec.persistentvolumesource", &why));
    }
    rules::immutable(&Path::new("volumeMode"), spec.get("volumeMode"), was.get("volumeMode"), &mut errors);
    let affinity = given(was, "nodeAffinity");
    if affinity.is_some() && affinity != given(spec, "nodeAffinity") {
        let shown = spec.get("nodeAffinity").cloned().unwrap_or_default();
        errors.push(FieldError::invalid("nodeAffinity", &shown, rules::IMMUTABLE));
    }
    let class = "volumeAttributesClassName";
    if given(was, class).is_some() && given(spec, class).is_none() {
        let why = "update from non-nil value to nil is forbidden";
        errors.push(FieldError::forbidden("spec.volumeAttributesClassName", why));
    }
    errors
}
