//! The environment of a container, and what of the pod it can show.

use kiln_apimachinery::names;
use kiln_apimachinery::path::Path;
use serde_json::Value;

use super::{Report, mounts, quantity, words};
use crate::registry::workloads::view::{get, items, text};

/// Fields of the pod that the environment can show, sorted.
const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields that can be told by their path at all.
const KNOWN: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const SIZES: &[&str] = &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

pub(super) fn check(container: &Value, path: &Path<'_>, r: &mut Report) {
    let at = path.child("env");
    for (i, variable) in items(container, "env").iter().enumerate() {
        let path = at.index(i);
        match text(variable, "name") {
            "" => r.required(&path.child("name"), ""),
            name => r.name(&path.child("name"), name, words::variable),
        }
        if let Some(from) = get(variable, "valueFrom") {
            value_from(from, !text(variable, "value").is_empty(), &path.child("valueFrom"), r);
        }
    }
    let at = path.child("envFrom");
    for (i, source) in items(container, "envFrom").iter().enumerate() {
        let path = at.index(i);
        let prefix = text(source, "prefix");
        if !prefix.is_empty() {
            r.name(&path.child("prefix"), prefix, words::variable);
        }
        let mut sources = 0;
        for key in ["configMapRef", "secretRef"] {
            let Some(reference) = get(source, key) else { continue };
            sources += 1;
            let path = path.child(key);
            match text(reference, "name") {
                "" => r.required(&path.child("name"), ""),
                name => r.name(&path.child("name"), name, names::dns1123_subdomain),
            }
        }
        match sources {
            0 => r.invalid(&at, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => r.invalid(&at, "", "may not have more than one field specified at a time"),
        }
    }
}

fn value_from(from: &Value, has_value: bool, path: &Path<'_>, r: &mut Report) {
    let mut sources = 0;
    if let Some(field) = get(from, "fieldRef") {
        sources += 1;
        field_ref(field, FIELDS, &path.child("fieldRef"), r);
    }
    if let Some(resource) = get(from, "resourceFieldRef") {
        sources += 1;
        resource_ref(resource, false, &path.child("resourceFieldRef"), r);
    }
    for key in ["configMapKeyRef", "secretKeyRef"] {
        let Some(reference) = get(from, key) else { continue };
        sources += 1;
        let path = path.child(key);
        r.name(&path.child("name"), text(reference, "name"), names::dns1123_subdomain);
        match text(reference, "key") {
            "" => r.required(&path.child("key"), ""),
            key => r.name(&path.child("key"), key, names::config_key),
        }
    }
    if let Some(file) = get(from, "fileKeyRef") {
        sources += 1;
        file_ref(file, &path.child("fileKeyRef"), r);
    }
    match sources {
        0 => r.invalid(
            path,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        ),
        _ if has_value => r.invalid(path, "", "may not be specified when `value` is not empty"),
        1 => {}
        _ => r.invalid(path, "", "may not have more than one field specified at a time"),
    }
}

fn file_ref(file: &Value, path: &Path<'_>, r: &mut Report) {
    match text(file, "key") {
        "" => r.required(&path.child("key"), ""),
        key => r.name(&path.child("key"), key, words::variable),
    }
    match text(file, "volumeName") {
        "" => r.required(&path.child("volumeName"), ""),
        name => r.name(&path.child("volumeName"), name, names::dns1123_label),
    }
    match text(file, "path") {
        "" => r.required(&path.child("path"), ""),
        file => mounts::no_backsteps(file, &path.child("path"), r),
    }
}

/// `metadata.labels['a']` as its path and key.
fn subscripted(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']").and_then(|p| p.split_once("['")).filter(|(path, _)| !path.is_empty())
}

/// A field of the pod by its path.
pub(super) fn field_ref(field: &Value, supported: &[&str], path: &Path<'_>, r: &mut Report) {
    let (version, mut field) = (text(field, "apiVersion"), text(field, "fieldPath"));
    let at = path.child("fieldPath");
    if version.is_empty() {
        return r.required(&path.child("apiVersion"), "");
    }
    if field.is_empty() {
        return r.required(&at, "");
    }
    let unknown = match subscripted(field) {
        _ if version != "v1" => Some(format!("unsupported pod version: {version}")),
        Some(("metadata.annotations" | "metadata.labels", _)) => None,
        Some(_) => Some(format!("field label does not support subscript: {field}")),
        None if field == "spec.host" || KNOWN.contains(&field) => None,
        None => Some(format!("field label not supported: {field}")),
    };
    if let Some(why) = unknown {
        return r.invalid(&at, field, &format!("error converting fieldPath: {why}"));
    }
    if field == "spec.host" {
        field = "spec.nodeName";
    }
    match subscripted(field) {
        Some(("metadata.annotations", key)) => r.name(path, &key.to_lowercase(), names::qualified_name),
        Some((_, key)) => r.name(path, key, names::qualified_name),
        None if !supported.contains(&field) => r.unsupported(&at, field, supported),
        None => {}
    }
}

/// A resource of a container, by its name.
pub(super) fn resource_ref(reference: &Value, in_volume: bool, path: &Path<'_>, r: &mut Report) {
    let resource = text(reference, "resource");
    let huge = resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
    if in_volume && text(reference, "containerName").is_empty() {
        r.required(&path.child("containerName"), "");
    } else if resource.is_empty() {
        r.required(&path.child("resource"), "");
    } else if !RESOURCES.contains(&resource) && !huge {
        r.unsupported(&path.child("resource"), resource, RESOURCES);
    }
    let Some(divisor) = quantity(reference, "divisor").filter(|d| !d.is_zero()).map(|d| d.to_string()) else { return };
    let path = path.child("divisor");
    let (cpu, what) = match resource.split_once('.') {
        Some((_, "cpu")) => (true, "cpu"),
        Some((_, "memory")) => (false, "memory"),
        Some((_, "ephemeral-storage")) => (false, "local ephemeral storage"),
        _ if huge => (false, "hugepages"),
        _ => return,
    };
    if cpu && !matches!(divisor.as_str(), "1m" | "1") {
        r.invalid(&path, resource, "only divisor's values 1m and 1 are supported with the cpu resource");
    } else if !cpu && !SIZES.contains(&divisor.as_str()) {
        let why = format!("only divisor's values {} are supported with the {what} resource", SIZES.join(", "));
        r.invalid(&path, resource, &why);
    }
}
