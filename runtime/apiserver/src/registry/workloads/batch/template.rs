//! What of a job's template may change before the job begins.

use serde_json::{Value, json};

use crate::registry::strategy::{keep, put};
use crate::registry::workloads::view::{get, get_mut, items, items_mut, make, text};

/// Gives `to` what `from` says of where pods go.
pub(super) fn take_directives(to: &mut Value, from: &Value) {
    let none = json!({});
    let metadata = get(from, "metadata").unwrap_or(&none);
    for key in ["annotations", "labels"] {
        keep(make(to, "metadata"), metadata, key);
    }
    let pod = get(from, "spec").unwrap_or(&none);
    let spec = make(to, "spec");
    for key in ["nodeSelector", "tolerations", "schedulingGates"] {
        keep(spec, pod, key);
    }
    let node = get(pod, "affinity").and_then(|a| get(a, "nodeAffinity")).cloned();
    let has = get(pod, "affinity").is_some();
    match get_mut(spec, "affinity") {
        Some(affinity) => {
            put(affinity, "nodeAffinity", node);
            if !has && affinity.as_object().is_some_and(serde_json::Map::is_empty) {
                put(spec, "affinity", None);
            }
        }
        None if has => {
            let mut affinity = json!({});
            put(&mut affinity, "nodeAffinity", node);
            put(spec, "affinity", Some(affinity));
        }
        None => {}
    }
}

/// Gives the containers of `to` the resources that those of `from` have.
pub(super) fn take_resources(to: &mut Value, from: &Value) {
    let none = json!({});
    let pod = get(from, "spec").unwrap_or(&none);
    let spec = make(to, "spec");
    for list in ["containers", "initContainers"] {
        if items(pod, list).len() != items(spec, list).len() {
            continue;
        }
        for (container, new) in items_mut(spec, list).iter_mut().zip(items(pod, list)) {
            if text(container, "name") == text(new, "name") {
                keep(container, new, "resources");
            }
        }
    }
}
