//! Node restriction: a node writes itself only, and nothing of itself that would draw others' secrets to it.

use std::collections::BTreeMap;

use kiln_apimachinery::{Status, meta};
use serde_json::Value;

use crate::authz::node::LEASE_NAMESPACE;
use crate::verbs::Cx;

/// Labels under `kubernetes.io` and `k8s.io` that a node may set on itself.
const LABELS: &[&str] = &[
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
const LABEL_PREFIXES: &[&str] = &["kubelet.kubernetes.io", "node.kubernetes.io"];

fn is_node(cx: &Cx<'_>) -> bool {
    cx.resource.group.is_empty() && cx.resource.plural == "nodes"
}

fn refuse(cx: &Cx<'_>, name: &str, why: &str) -> Status {
    Status::forbidden(&cx.resource.group_resource(), name, why)
}

pub(crate) fn create(cx: &Cx<'_>, object: &Value) -> Result<(), Status> {
    let Some(node) = cx.user.node_name() else { return Ok(()) };
    let name = meta::name(object);
    if is_node(cx) {
        if name != node {
            return Err(refuse(cx, name, &format!("node {node:?} is not allowed to modify node {name:?}")));
        }
        labels(cx, node, name, &meta::labels(object), &BTreeMap::new())?;
    }
    if cx.resource.plural == "leases" && (name != node || meta::namespace(object) != LEASE_NAMESPACE) {
        return Err(refuse(cx, name, "can only access node lease with the same name as the requesting node"));
    }
    Ok(())
}

pub(crate) fn update(cx: &Cx<'_>, new: &Value, old: &Value) -> Result<(), Status> {
    let Some(node) = cx.user.node_name().filter(|_| is_node(cx)) else { return Ok(()) };
    let name = meta::name(old);
    if name != node {
        return Err(refuse(cx, name, &format!("node {node:?} is not allowed to modify node {name:?}")));
    }
    if cx.info.subresource.is_empty() && meta::at(new, &["spec", "taints"]) != meta::at(old, &["spec", "taints"]) {
        return Err(refuse(cx, name, &format!("node {node:?} is not allowed to modify taints")));
    }
    if meta::at(new, &["metadata", "ownerReferences"]) != meta::at(old, &["metadata", "ownerReferences"]) {
        return Err(refuse(cx, name, &format!("node {node:?} is not allowed to modify ownerReferences")));
    }
    labels(cx, node, name, &meta::labels(new), &meta::labels(old))
}

pub(crate) fn delete(cx: &Cx<'_>, object: &Value) -> Result<(), Status> {
    let Some(node) = cx.user.node_name().filter(|_| is_node(cx)) else { return Ok(()) };
    let name = meta::name(object);
    if name == node { Ok(()) } else { Err(refuse(cx, name, &format!("node {node:?} cannot delete node {name:?}"))) }
}

/// Refuses labels that workloads are placed by and that a node must not give itself.
fn labels(
    cx: &Cx<'_>,
    node: &str,
    name: &str,
    new: &BTreeMap<&str, &str>,
    old: &BTreeMap<&str, &str>,
) -> Result<(), Status> {
    let changed = new.keys().chain(old.keys()).filter(|k| new.get(*k) != old.get(*k));
    let mut bad: Vec<&str> = changed.copied().filter(|k| !may_set(k)).collect();
    bad.sort_unstable();
    bad.dedup();
    if bad.is_empty() {
        return Ok(());
    }
    Err(refuse(cx, name, &format!("is not allowed to modify labels: {} (as node {node:?})", bad.join(", "))))
}

fn may_set(label: &str) -> bool {
    let Some((prefix, _)) = label.split_once('/') else { return true };
    let under = |domain: &str| prefix == domain || prefix.ends_with(&format!(".{domain}"));
    if !under("kubernetes.io") && !under("k8s.io") {
        return true;
    }
    LABELS.contains(&label) || LABEL_PREFIXES.iter().any(|p| under(p))
}
