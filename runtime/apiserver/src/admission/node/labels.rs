//! Labels that workloads are placed by, and that a node must not give itself.

use std::collections::{BTreeMap, BTreeSet};

use kiln_apimachinery::meta;
use serde_json::Value;

/// Labels under `kubernetes.io` and `k8s.io` that a node may set on itself.
const ALLOWED: &[&str] = &[
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
];
/// Prefixes of labels that a node may set on itself.
const ALLOWED_PREFIXES: &[&str] = &["kubelet.kubernetes.io", "node.kubernetes.io"];

pub(super) fn create(node: &str, object: &Value) -> Result<(), String> {
    match forbidden(&meta::labels(object), &BTreeMap::new()) {
        bad if bad.is_empty() => Ok(()),
        bad => Err(format!("node {node:?} is not allowed to set the following labels: {bad}")),
    }
}

pub(super) fn update(new: &Value, old: &Value) -> Result<(), String> {
    match forbidden(&meta::labels(new), &meta::labels(old)) {
        bad if bad.is_empty() => Ok(()),
        bad => Err(format!("is not allowed to modify labels: {bad}")),
    }
}

/// The forbidden ones among the labels that differ, in a row.
fn forbidden(new: &BTreeMap<&str, &str>, old: &BTreeMap<&str, &str>) -> String {
    let changed = new.keys().chain(old.keys()).filter(|k| new.get(*k) != old.get(*k));
    let bad: BTreeSet<&str> = changed.copied().filter(|k| !may_set(k)).collect();
    bad.into_iter().collect::<Vec<_>>().join(", ")
}

fn may_set(label: &str) -> bool {
    let Some((prefix, _)) = label.split_once('/') else { return true };
    let under = |domain: &str| prefix.strip_suffix(domain).is_some_and(|p| p.is_empty() || p.ends_with('.'));
    if under("node-restriction.kubernetes.io") {
        return false;
    }
    if !under("kubernetes.io") && !under("k8s.io") {
        return true;
    }
    ALLOWED.contains(&label) || ALLOWED_PREFIXES.iter().any(|p| under(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_may_say_what_it_is_and_not_what_is_put_on_it() {
        for good in
            ["a", "example.com/x", "kubernetes.io/hostname", "node.kubernetes.io/x", "a.kubelet.kubernetes.io/x"]
        {
            assert!(may_set(good), "{good}");
        }
        for bad in ["node-role.kubernetes.io/x", "kubernetes.io/x", "a.k8s.io/x", "node-restriction.kubernetes.io/x"] {
            assert!(!may_set(bad), "{bad}");
        }
    }
}
