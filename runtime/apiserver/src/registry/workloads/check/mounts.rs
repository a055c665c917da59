//! Where volumes appear in a container.

use kiln_apimachinery::path::Path;
use serde_json::Value;

use super::Report;
use super::volumes::Volumes;
use crate::registry::workloads::view::{get, is, items, text};

/// A path that goes down only.
pub(super) fn descending(target: &str, path: &Path<'_>, r: &mut Report) {
    if target.starts_with('/') {
        r.invalid(path, target, "must be a relative path");
    }
    no_backsteps(target, path, r);
}

/// A path without `..`.
pub(super) fn no_backsteps(target: &str, path: &Path<'_>, r: &mut Report) {
    if steps_back(target) {
        r.invalid(path, target, "must not contain '..'");
    }
}

fn steps_back(target: &str) -> bool {
    target.split('/').any(|part| part == "..")
}

/// A path that goes down only and does not begin with two dots.
pub(super) fn local(target: &str, path: &Path<'_>, r: &mut Report) {
    descending(target, path, r);
    if target.starts_with("..") && !target.starts_with("../") {
        r.invalid(path, target, "must not start with '..'");
    }
}

pub(super) fn check(container: &Value, volumes: &Volumes<'_>, path: &Path<'_>, r: &mut Report) {
    let (mounts, devices) = (items(container, "volumeMounts"), items(container, "volumeDevices"));
    let all = path.child("volumeMounts");
    let mut seen: Vec<&str> = Vec::new();
    for (i, mount) in mounts.iter().enumerate() {
        let path = all.index(i);
        let (name, place) = (text(mount, "name"), text(mount, "mountPath"));
        r.present(mount, "name", &path);
        if !volumes.contains_key(name) {
            r.not_found(&path.child("name"), name);
        }
        r.present(mount, "mountPath", &path);
        if seen.contains(&place) {
            r.invalid(&path.child("mountPath"), place, "must be unique");
        }
        seen.push(place);
        if devices.iter().any(|d| text(d, "name") == name) {
            r.invalid(&path.child("name"), name, "must not already exist in volumeDevices");
        }
        if devices.iter().any(|d| text(d, "devicePath") == place) {
            r.invalid(&path.child("mountPath"), place, "must not already exist as a path in volumeDevices");
        }
        let (sub, expression) = (text(mount, "subPath"), text(mount, "subPathExpr"));
        if !sub.is_empty() {
            descending(sub, &all.child("subPath"), r);
        }
        if !expression.is_empty() {
            if !sub.is_empty() {
                let why = "subPathExpr and subPath are mutually exclusive";
                r.invalid(&path.child("subPathExpr"), expression, why);
            }
            descending(expression, &all.child("subPathExpr"), r);
        }
        propagation(mount, container, &all, r);
        recursive_read_only(mount, &all.child("recursiveReadOnly"), r);
    }
    check_devices(mounts, devices, volumes, &path.child("volumeDevices"), r);
}

fn propagation(mount: &Value, container: &Value, path: &Path<'_>, r: &mut Report) {
    let Some(kind) = get(mount, "mountPropagation").and_then(Value::as_str) else { return };
    let path = path.child("mountPropagation");
    let known = &["Bidirectional", "HostToContainer", "None"];
    if !known.contains(&kind) {
        r.unsupported(&path, kind, known);
    }
    let privileged = get(container, "securityContext").is_some_and(|c| is(c, "privileged"));
    if kind == "Bidirectional" && !privileged {
        r.forbidden(&path, "Bidirectional mount propagation is available only to privileged containers");
    }
}

fn recursive_read_only(mount: &Value, path: &Path<'_>, r: &mut Report) {
    match get(mount, "recursiveReadOnly").and_then(Value::as_str) {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !is(mount, "readOnly") {
                r.forbidden(path, "may only be specified when readOnly is true");
            }
            if !matches!(text(mount, "mountPropagation"), "" | "None") {
                r.forbidden(path, "may only be specified when mountPropagation is None or not specified");
            }
        }
        Some(other) => r.unsupported(path, other, &["Disabled", "Enabled", "IfPossible"]),
    }
}

fn check_devices(mounts: &[Value], devices: &[Value], volumes: &Volumes<'_>, all: &Path<'_>, r: &mut Report) {
    let (mut names, mut places): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for (i, device) in devices.iter().enumerate() {
        let path = all.index(i);
        let (name, place) = (text(device, "name"), text(device, "devicePath"));
        let (name_at, place_at) = (path.child("name"), path.child("devicePath"));
        r.present(device, "name", &path);
        if names.contains(&name) {
            r.invalid(&name_at, name, "must be unique");
        }
        match volumes.get(name) {
            None => r.not_found(&name_at, name),
            Some(v) if get(v, "persistentVolumeClaim").is_none() && get(v, "ephemeral").is_none() => {
                let why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                r.invalid(&name_at, name, why);
            }
            Some(_) => {}
        }
        r.present(device, "devicePath", &path);
        if places.contains(&place) {
            r.invalid(&place_at, place, "must be unique");
        }
        if steps_back(place) {
            r.invalid(&place_at, place, "can not contain backsteps ('..')");
        } else {
            places.push(place);
        }
        if mounts.iter().any(|m| text(m, "name") == name) {
            r.invalid(&name_at, name, "must not already exist in volumeMounts");
        }
        if mounts.iter().any(|m| text(m, "mountPath") == place) {
            r.invalid(&place_at, place, "must not already exist as a path in volumeMounts");
        }
        if !name.is_empty() {
            names.push(name);
        }
    }
}
