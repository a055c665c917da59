//! Annotations that mean something to a pod.

use std::collections::BTreeMap;

use kiln_apimachinery::path::Path;
use kiln_apimachinery::{meta, names};
use serde_json::Value;

use super::os::LISTS;
use super::{Report, mounts, tolerations};
use crate::registry::workloads::view::{get, items, text};

/// A node's own pod, shown here.
pub(in crate::registry::workloads) const MIRROR: &str = "kubernetes.io/config.mirror";
const TOLERATIONS: &str = "scheduler.alpha.kubernetes.io/tolerations";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
/// Most bytes of all annotations together.
const MAX: usize = 256 * 1024;

fn bytes(map: &BTreeMap<&str, &str>) -> usize {
    map.iter().map(|(k, v)| k.len() + v.len()).sum()
}

/// A map of annotations.
pub(in crate::registry::workloads) fn annotations(map: Option<&Value>, path: &Path<'_>, r: &mut Report) {
    let map = meta::string_map(map);
    for key in map.keys() {
        for why in names::qualified_name(&key.to_lowercase()) {
            r.invalid(path, *key, &why);
        }
    }
    if bytes(&map) > MAX {
        r.too_long(path, MAX);
    }
}

/// The annotations of a pod, or of a template of one.
pub(in crate::registry::workloads) fn pod_annotations(
    map: Option<&Value>,
    spec: &Value,
    path: &Path<'_>,
    r: &mut Report,
) {
    let map = meta::string_map(map);
    if let Some(value) = map.get(MIRROR)
        && text(spec, "nodeName").is_empty()
    {
        let why = "must set spec.nodeName if mirror pod annotation is set";
        r.invalid(&path.key(MIRROR), *value, why);
    }
    if let Some(written) = map.get(TOLERATIONS).filter(|t| !t.is_empty()) {
        match serde_json::from_str::<Vec<Value>>(written) {
            Ok(list) => tolerations(&list, &path.child(TOLERATIONS), r),
            Err(e) => r.invalid(path, TOLERATIONS, &e.to_string()),
        }
    }
    if let Some(cost) = map.get(DELETION_COST)
        && !is_cost(cost)
    {
        r.invalid(&path.key(DELETION_COST), *cost, "must be a 32bit integer");
    }
    for (key, profile) in &map {
        if *key == SECCOMP_POD || key.starts_with(SECCOMP) {
            seccomp(profile, &path.child(key), r);
        }
        if let Some(name) = key.strip_prefix(APP_ARMOR) {
            let named = LISTS.iter().any(|list| items(spec, list).iter().any(|c| text(c, "name") == name));
            if !named {
                r.invalid(&path.key(key), name, "container not found");
            }
            let known = matches!(*profile, "" | "runtime/default" | "unconfined") || profile.starts_with("localhost/");
            if !known {
                r.invalid(&path.key(key), *profile, &format!("invalid AppArmor profile name: {profile:?}"));
            }
        }
    }
}

/// A whole number without frills, so that it can be given back as it came.
fn is_cost(cost: &str) -> bool {
    let digits = cost.strip_prefix('-').unwrap_or(cost);
    cost.parse::<i32>().is_ok() && (digits == "0" || !digits.starts_with('0')) && !cost.starts_with('+')
}

fn seccomp(profile: &str, path: &Path<'_>, r: &mut Report) {
    match profile.strip_prefix("localhost/") {
        Some(file) => mounts::descending(file, path, r),
        None if matches!(profile, "runtime/default" | "docker/default" | "unconfined") => {}
        None => r.invalid(path, profile, "must be a valid seccomp profile"),
    }
}

/// What of a pod's annotations may not change.
pub(in crate::registry::workloads) fn pod_annotations_update(
    new: &Value,
    old: &Value,
    path: &Path<'_>,
    r: &mut Report,
) {
    let of = |pod| meta::string_map(meta::at(pod, &["metadata", "annotations"]));
    let (before, after) = (of(old), of(new));
    for key in before.iter().filter(|(k, v)| after.get(*k) != Some(v)).map(|(k, _)| k) {
        if key.starts_with(APP_ARMOR) {
            r.forbidden(&path.key(key), "may not remove or update AppArmor annotations");
        }
        if *key == MIRROR {
            r.forbidden(&path.key(key), "may not remove or update mirror pod annotation");
        }
    }
    for key in after.keys().filter(|k| !before.contains_key(*k)) {
        if key.starts_with(APP_ARMOR) {
            r.forbidden(&path.key(key), "may not add AppArmor annotations");
        }
        if *key == MIRROR {
            r.forbidden(&path.key(key), "may not add mirror pod annotation");
        }
    }
}

/// Profiles that annotations and fields both tell must be the same.
pub(super) fn profiles_match(metadata: &Value, spec: &Value, path: &Path<'_>, r: &mut Report) {
    let notes = meta::string_map(metadata.get("annotations"));
    if notes.is_empty() {
        return;
    }
    let profile = |owner: &Value, key: &str| get(owner, "securityContext").and_then(|c| get(c, key)).cloned();
    if let (Some(profile), Some(note)) = (profile(spec, "seccompProfile"), notes.get(SECCOMP_POD)) {
        same("seccomp", &profile, note, &path.child("securityContext.seccompProfile"), r);
    }
    let windows = spec.get("os").is_some_and(|os| text(os, "name") == "windows");
    let of_pod = profile(spec, "appArmorProfile");
    for list in LISTS {
        let all = path.child(list);
        for (i, container) in items(spec, list).iter().enumerate() {
            let at = all.index(i);
            let name = text(container, "name");
            if let (Some(own), Some(note)) =
                (profile(container, "seccompProfile"), notes.get(format!("{SECCOMP}{name}").as_str()))
            {
                same("seccomp", &own, note, &at.child("securityContext.seccompProfile"), r);
            }
            let armor = profile(container, "appArmorProfile").or_else(|| of_pod.clone());
            if let (Some(armor), Some(note), false) = (armor, notes.get(format!("{APP_ARMOR}{name}").as_str()), windows)
            {
                same("apparmor", &armor, note, &at.child("securityContext.appArmorProfile"), r);
            }
        }
    }
}

fn same(what: &str, profile: &Value, note: &str, path: &Path<'_>, r: &mut Report) {
    let is_default = note == "runtime/default" || (what == "seccomp" && note == "docker/default");
    let types = format!("{what} type in annotation and field must match");
    match text(profile, "type") {
        "Unconfined" if note != "unconfined" => r.forbidden(&path.child("type"), &types),
        "RuntimeDefault" if !is_default => r.forbidden(&path.child("type"), &types),
        "Localhost" => match note.strip_prefix("localhost/") {
            None => r.forbidden(&path.child("type"), &types),
            Some(file) if get(profile, "localhostProfile").and_then(Value::as_str) != Some(file) => {
                let why = format!("{what} profile in annotation and field must match");
                r.forbidden(&path.child("localhostProfile"), &why);
            }
            Some(_) => {}
        },
        _ => {}
    }
}
