//! A pod that runs gets more, or less, of CPU and memory.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, meta};
use serde_json::Value;

use super::qos;
use crate::registry::strategy::put;
use crate::registry::workloads::check::{Report, spec};
use crate::registry::workloads::defaults::resources::is_sidecar;
use crate::registry::workloads::view::{entries, get, get_mut, is_zero, items, items_mut, make, text};

const ONLY: &str = "only cpu and memory resources are mutable";
const LISTS: [&str; 2] = ["containers", "initContainers"];

/// The rules for a write of `resize`.
pub(super) fn validate(new: &Value, old: &Value) -> Vec<FieldError> {
    if meta::annotation(old, "kubernetes.io/config.mirror").is_some() {
        return vec![FieldError::forbidden("", "static pods cannot be resized")];
    }
    if meta::text(old, &["spec", "os", "name"]) == "windows" {
        return vec![FieldError::forbidden("", "windows pods cannot be resized")];
    }
    let mut r = Report::default();
    spec::pod(new, &mut r);
    let path = Path::new("spec");
    let class = meta::text(old, &["status", "qosClass"]);
    let none = Value::Null;
    let (new_spec, old_spec) = (new.get("spec").unwrap_or(&none), old.get("spec").unwrap_or(&none));
    if class != qos::class(new_spec) {
        let shown = meta::text(new, &["status", "qosClass"]);
        r.invalid(&path, shown, "Pod QOS Class may not change as a result of resizing");
    }
    if !is_supported(old) {
        r.forbidden(&path, "Pod running on node without support for resize");
    }
    let mut munged = new_spec.clone();
    whole(old_spec, &mut munged, &path, &mut r);
    if !same_containers(new_spec, old_spec, &path, &mut r) {
        return r.0;
    }
    containers(new_spec, old_spec, &mut munged, &path, &mut r);
    if r.0.is_empty() && normal(&munged) != normal(old_spec) {
        r.forbidden(&path, ONLY);
    }
    r.0
}

/// A node that does not tell what containers have can't change it.
fn is_supported(pod: &Value) -> bool {
    let statuses = pod.get("status").map_or(&[][..], |s| items(s, "containerStatuses"));
    let running = statuses.iter().find(|s| get(s, "state").is_some_and(|s| get(s, "running").is_some()));
    running.is_none_or(|s| get(s, "resources").is_some())
}

/// Resources of the pod as a whole.
fn whole(old: &Value, munged: &mut Value, path: &Path<'_>, r: &mut Report) {
    let before = get(old, "resources").cloned();
    let Some(now) = get(munged, "resources").cloned() else {
        if before.is_some() {
            r.forbidden(&path.child("resources"), "pod-level resources cannot be removed");
        }
        return;
    };
    let none = Value::Null;
    let had = before.as_ref().unwrap_or(&none);
    for (key, what) in [("requests", "requests"), ("limits", "limits")] {
        if removed(&now, had, key) {
            let why = format!("pod-level resource {what} cannot be removed");
            r.forbidden(&path.child("resources").child(key), &why);
        }
    }
    restore(make(munged, "resources"), had);
    if munged.get("resources").is_some_and(|m| normal(m) != normal(had)) {
        r.forbidden(path, "only cpu and memory resources are mutable at pod-level");
    }
    put(munged, "resources", before);
}

fn same_containers(new: &Value, old: &Value, path: &Path<'_>, r: &mut Report) -> bool {
    let before = r.0.len();
    for list in LISTS {
        let all = path.child(list);
        if items(new, list).len() != items(old, list).len() {
            r.forbidden(&all, &format!("{list} may not be added or removed on resize"));
            continue;
        }
        for (i, (now, then)) in items(new, list).iter().zip(items(old, list)).enumerate() {
            if text(now, "name") != text(then, "name") {
                let why = format!("{list} may not be renamed or reordered on resize");
                r.forbidden(&all.index(i).child("name"), &why);
            }
        }
    }
    r.0.len() == before
}

fn containers(new: &Value, old: &Value, munged: &mut Value, path: &Path<'_>, r: &mut Report) {
    let none = Value::Null;
    for list in LISTS {
        let all = path.child(list);
        for (i, (now, then)) in items(new, list).iter().zip(items(old, list)).enumerate() {
            let at = all.index(i);
            let at = at.child("resources");
            let (now, then) = (get(now, "resources").unwrap_or(&none), get(then, "resources").unwrap_or(&none));
            for (key, what) in [("requests", "resource requests"), ("limits", "resource limits")] {
                if removed(now, then, key) {
                    r.forbidden(&at.child(key), &format!("{what} cannot be removed"));
                }
            }
        }
        for (i, (now, then)) in items_mut(munged, list).iter_mut().zip(items(old, list)).enumerate() {
            let changed = normal(now) != normal(then);
            restore(make(now, "resources"), get(then, "resources").unwrap_or(&none));
            let other = normal(now) != normal(then);
            if list == "containers" {
                if other {
                    r.forbidden(path, ONLY);
                }
                continue;
            }
            let at = all.index(i);
            if other {
                r.forbidden(&at, "only cpu and memory resources for init or sidecar containers are mutable");
            }
            let restart = items(now, "resizePolicy").iter().any(|p| text(p, "restartPolicy") == "RestartContainer");
            if changed && !is_sidecar(now) && restart {
                let why = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
                r.forbidden(&at, why);
            }
        }
    }
}

/// True if something that was in a list is gone.
fn removed(now: &Value, before: &Value, key: &str) -> bool {
    let now: Vec<&str> = entries(now, key).map(|(name, _)| name).collect();
    entries(before, key).any(|(name, _)| !now.contains(&name))
}

/// Puts CPU and memory back to what they were.
fn restore(resources: &mut Value, before: &Value) {
    for key in ["limits", "requests"] {
        let had = get(before, key).cloned();
        if had.is_none() && get(resources, key).is_none() {
            continue;
        }
        let list = make(resources, key);
        for name in ["cpu", "memory"] {
            put(list, name, had.as_ref().and_then(|h| get(h, name)).cloned());
        }
    }
}

/// Without empty maps, which are as good as none.
fn normal(value: &Value) -> Value {
    let mut out = value.clone();
    if let Some(resources) = get_mut(&mut out, "resources") {
        *resources = normal(resources);
    }
    for list in LISTS {
        items_mut(&mut out, list).iter_mut().for_each(|c| *c = normal(c));
    }
    if let Some(map) = out.as_object_mut() {
        map.retain(|_, v| !(v.is_object() && is_zero(Some(v))));
    }
    out
}
