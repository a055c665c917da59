//! Node restriction: a node writes itself and what is its own only, and nothing that would draw others' pods or secrets
//! to it.

mod labels;
mod pod;
mod token;

use kiln_apimachinery::{Status, meta};
use serde_json::Value;

use super::Plugin;
use crate::authz::node::LEASE_NAMESPACE;
use crate::registry::access::csr;
use crate::verbs::Cx;

/// Signers whose certificates are a node's own.
const SIGNERS: [&str; 2] = ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];

fn refuse(cx: &Cx<'_>, name: &str, why: &str) -> Status {
    Status::forbidden(&cx.resource.group_resource(), name, why)
}

/// The node that writes, if it is one and nodes are restricted.
fn restricted<'a>(cx: &'a Cx<'_>) -> Option<&'a str> {
    cx.user.node_name().filter(|_| cx.runs(Plugin::NodeRestriction))
}

/// Group, plural and subresource of a request.
fn parts<'a>(cx: &'a Cx<'_>) -> (&'a str, &'a str, &'a str) {
    (&cx.resource.group, &cx.resource.plural, &cx.info.subresource)
}

pub(crate) async fn create(cx: &Cx<'_>, object: &Value) -> Result<(), Status> {
    let Some(node) = restricted(cx) else { return Ok(()) };
    let name = if cx.info.name.is_empty() { meta::name(object) } else { &cx.info.name };
    match parts(cx) {
        ("", "pods", "") => pod::create(cx, node, object).await,
        ("", "pods", "eviction") => pod::evict(cx, node, name).await,
        ("", "pods", other) => Err(pod::unexpected(cx, other)),
        ("", "nodes", _) => {
            own(cx, node, name)?;
            if meta::at(object, &["spec", "configSource"]).is_some_and(|c| !c.is_null()) {
                let why = format!("node {node:?} is not allowed to create pods with a non-nil configSource");
                return Err(refuse(cx, name, &why));
            }
            labels::create(node, object).map_err(|why| refuse(cx, name, &why))
        }
        ("", "persistentvolumeclaims", _) => Err(refuse(cx, name, "may only update PVC status")),
        ("", "serviceaccounts", "token") => token::create(cx, node, object).await,
        ("certificates.k8s.io", "podcertificaterequests", _) => {
            Err(refuse(cx, name, "PodCertificateRequest feature gate is disabled"))
        }
        ("certificates.k8s.io", "certificatesigningrequests", "") => request(cx, node, object),
        ("coordination.k8s.io", "leases", _) => lease(cx, node, name),
        ("storage.k8s.io", "csinodes", _) => csi_node(cx, node, name),
        ("resource.k8s.io", "resourceslices", _) if meta::text(object, &["spec", "nodeName"]) != node => {
            Err(refuse(cx, name, "can only create ResourceSlice with the same NodeName as the requesting node"))
        }
        _ => Ok(()),
    }
}

pub(crate) fn update(cx: &Cx<'_>, new: &Value, old: &Value) -> Result<(), Status> {
    let Some(node) = restricted(cx) else { return Ok(()) };
    let name = meta::name(old);
    match parts(cx) {
        ("", "pods", "") => {
            let why = format!("unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods");
            Err(refuse(cx, name, &why))
        }
        ("", "pods", "status") => pod::status(node, new, old).map_err(|why| refuse(cx, name, &why)),
        ("", "pods", other) => Err(pod::unexpected(cx, other)),
        ("", "nodes", _) => {
            own(cx, node, name)?;
            node_object(node, new, old).map_err(|why| refuse(cx, name, &why))
        }
        ("", "persistentvolumeclaims", "status") => {
            if claim(new) == claim(old) {
                return Ok(());
            }
            let why = format!(
                "node {node:?} is not allowed to update fields other than status.quantity and status.conditions"
            );
            Err(refuse(cx, name, &why))
        }
        ("", "persistentvolumeclaims", _) => Err(refuse(cx, name, "may only update PVC status")),
        ("coordination.k8s.io", "leases", _) => lease(cx, node, name),
        ("storage.k8s.io", "csinodes", _) => csi_node(cx, node, name),
        _ => Ok(()),
    }
}

pub(crate) fn delete(cx: &Cx<'_>, object: &Value) -> Result<(), Status> {
    let Some(node) = restricted(cx) else { return Ok(()) };
    let name = meta::name(object);
    match parts(cx) {
        ("", "pods", "") if meta::text(object, &["spec", "nodeName"]) != node => {
            Err(refuse(cx, name, &format!("node {node:?} can only delete pods with spec.nodeName set to itself")))
        }
        ("", "nodes", _) => own(cx, node, name),
        ("", "persistentvolumeclaims", _) => Err(refuse(cx, name, "may only update PVC status")),
        ("coordination.k8s.io", "leases", _) => lease(cx, node, name),
        ("storage.k8s.io", "csinodes", _) => csi_node(cx, node, name),
        ("resource.k8s.io", "resourceslices", _) if meta::text(object, &["spec", "nodeName"]) != node => {
            Err(refuse(cx, name, "can only delete ResourceSlice with the same NodeName as the requesting node"))
        }
        _ => Ok(()),
    }
}

fn own(cx: &Cx<'_>, node: &str, name: &str) -> Result<(), Status> {
    if name == node {
        return Ok(());
    }
    Err(refuse(cx, name, &format!("node {node:?} is not allowed to modify node {name:?}")))
}

/// What of itself a node leaves alone.
fn node_object(node: &str, new: &Value, old: &Value) -> Result<(), String> {
    let source = |o: &Value| meta::at(o, &["spec", "configSource"]).filter(|c| !c.is_null()).cloned();
    if source(new).is_some() && source(new) != source(old) {
        return Err(format!("node {node:?} is not allowed to update configSource to a new non-nil configSource"));
    }
    let list = |o: &Value, path: &[&str]| meta::at(o, path).and_then(Value::as_array).cloned().unwrap_or_default();
    for (path, what) in [(&["spec", "taints"], "taints"), (&["metadata", "ownerReferences"], "ownerReferences")] {
        if list(new, path) != list(old, path) {
            return Err(format!("node {node:?} is not allowed to modify {what}"));
        }
    }
    labels::update(new, old)
}

/// A claim without what its node writes, and what changes with every write.
fn claim(claim: &Value) -> Value {
    let mut claim = claim.clone();
    let metadata = meta::metadata_mut(&mut claim);
    for key in ["resourceVersion", "managedFields"] {
        metadata.remove(key);
    }
    let status = meta::child(&mut claim, "status");
    for key in ["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"] {
        status.remove(key);
    }
    claim
}

fn lease(cx: &Cx<'_>, node: &str, name: &str) -> Result<(), Status> {
    if cx.namespace() != LEASE_NAMESPACE {
        return Err(refuse(cx, name, &format!("can only access leases in the {LEASE_NAMESPACE:?} system namespace")));
    }
    if name == node {
        return Ok(());
    }
    Err(refuse(cx, name, "can only access node lease with the same name as the requesting node"))
}

fn csi_node(cx: &Cx<'_>, node: &str, name: &str) -> Result<(), Status> {
    if name == node {
        return Ok(());
    }
    Err(refuse(cx, name, "can only access CSINode with the same name as the requesting node"))
}

/// A certificate is asked for in the node's own name only.
fn request(cx: &Cx<'_>, node: &str, object: &Value) -> Result<(), Status> {
    if !SIGNERS.contains(&meta::text(object, &["spec", "signerName"])) {
        return Ok(());
    }
    let name = meta::name(object);
    let subject = csr::subject(object).map_err(|e| refuse(cx, name, &format!("unable to parse csr: {e}")))?;
    if subject.common_name == format!("system:node:{node}") {
        return Ok(());
    }
    Err(refuse(cx, name, &format!("can only create a node CSR with CN=system:node:{node}")))
}
