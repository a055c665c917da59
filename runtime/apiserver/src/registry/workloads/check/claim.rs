//! Claims that are made along with a pod.

use kiln_apimachinery::names;
use kiln_apimachinery::path::Path;
use serde_json::Value;

use super::{NOT_POSITIVE, Report, annotations, quantity};
use crate::registry::workloads::view::{get, is_zero, items, text};

const MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];

/// The template of a claim, in a volume.
pub(super) fn template(template: &Value, path: &Path<'_>, r: &mut Report) {
    let none = Value::Null;
    let metadata = template.get("metadata").unwrap_or(&none);
    let at = path.child("metadata");
    annotations::annotations(metadata.get("annotations"), &at.child("annotations"), r);
    r.labels(metadata.get("labels"), &at.child("labels"));
    for (key, value) in metadata.as_object().into_iter().flatten() {
        if !matches!(key.as_str(), "annotations" | "labels") && !is_zero(Some(value)) {
            r.forbidden(&at.child(key), "cannot be set");
        }
    }
    claim_spec(template.get("spec").unwrap_or(&none), &path.child("spec"), r);
}

/// The specification of a claim.
pub(in crate::registry::workloads) fn claim_spec(spec: &Value, path: &Path<'_>, r: &mut Report) {
    let modes = items(spec, "accessModes");
    let at = path.child("accessModes");
    if modes.is_empty() {
        r.required(&at, "at least 1 access mode is required");
    }
    r.selector(spec.get("selector"), &path.child("selector"));
    let words: Vec<&str> = modes.iter().filter_map(Value::as_str).collect();
    for mode in words.iter().filter(|m| !MODES.contains(m)) {
        r.unsupported(&at, *mode, MODES);
    }
    let one_pod = words.contains(&"ReadWriteOncePod");
    if one_pod && words.iter().any(|m| *m != "ReadWriteOncePod" && MODES.contains(m)) {
        r.forbidden(&at, "may not use ReadWriteOncePod with other access modes");
    }
    storage(spec, path, r);
    let class = text(spec, "storageClassName");
    if !class.is_empty() {
        r.name(&path.child("storageClassName"), class, names::dns1123_subdomain);
    }
    if let Some(mode) = get(spec, "volumeMode").and_then(Value::as_str)
        && !VOLUME_MODES.contains(&mode)
    {
        r.unsupported(&path.child("volumeMode"), mode, VOLUME_MODES);
    }
    let (source, reference) = (get(spec, "dataSource"), get(spec, "dataSourceRef"));
    for (key, found) in [("dataSource", source), ("dataSourceRef", reference)] {
        if let Some(found) = found {
            data_source(found, &path.child(key), r);
        }
    }
    if let (Some(source), Some(reference)) = (source, reference) {
        let shown = path.child("dataSource").to_string();
        let same = |key| text(source, key) == text(reference, key);
        if !text(reference, "namespace").is_empty() {
            r.invalid(path, shown, "may not be specified when dataSourceRef.namespace is specified");
        } else if !["apiGroup", "kind", "name"].into_iter().all(same) {
            r.invalid(path, shown, "must match dataSourceRef");
        }
    }
    let class = text(spec, "volumeAttributesClassName");
    if !class.is_empty() {
        r.name(&path.child("volumeAttributesClassName"), class, names::dns1123_subdomain);
    }
}

fn storage(spec: &Value, path: &Path<'_>, r: &mut Report) {
    let at = path.child("resources");
    let at = at.key("storage");
    let requests = get(spec, "resources").and_then(|res| get(res, "requests"));
    match requests.and_then(|q| quantity(q, "storage")) {
        None => r.required(&at, ""),
        Some(q) if q.is_negative() || q.is_zero() => r.invalid(&at, q.to_string(), NOT_POSITIVE),
        Some(_) => {}
    }
}

fn data_source(source: &Value, path: &Path<'_>, r: &mut Report) {
    r.present(source, "name", path);
    r.present(source, "kind", path);
    let (group, kind) = (text(source, "apiGroup"), text(source, "kind"));
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        r.invalid(path, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup");
    }
    if !group.is_empty() {
        r.name(&path.child("apiGroup"), group, names::dns1123_subdomain);
    }
    let namespace = text(source, "namespace");
    if !namespace.is_empty() {
        r.name(&path.child("namespace"), namespace, names::dns1123_label);
    }
}
