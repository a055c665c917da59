//! What a node does to pods: it mirrors those of its static manifests, and reports, evicts and deletes its own.

use kiln_apimachinery::{GroupResource, Status, meta};
use serde_json::Value;

use super::refuse;
use crate::authz::node::references;
use crate::verbs::Cx;

const MIRROR: &str = "kubernetes.io/config.mirror";

/// Sources of volumes that open other objects, and how these are called.
const OPENING: &[(&str, &str)] = &[
    ("configMap", "configmaps (via configmap volumes)"),
    ("secret", "secrets (via secret volumes)"),
    ("csi", "csidrivers (via CSI volumes)"),
    ("glusterfs", "endpoints (via glusterFS volumes)"),
    ("persistentVolumeClaim", "persistentvolumeclaims"),
    ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
    ("azureFile", "secrets (via azureFile volumes)"),
];
/// The same for the sources of projected volumes.
const PROJECTED: &[(&str, &str)] = &[
    ("configMap", "configmaps (via projected volumes)"),
    ("secret", "secrets (via projected volumes)"),
    ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
    ("clusterTrustBundle", "clustertrustbundles"),
    ("podCertificate", "podcertificates"),
];

pub(super) fn unexpected(cx: &Cx<'_>, subresource: &str) -> Status {
    let why = format!("unexpected pod subresource {subresource:?}, only 'status' and 'eviction' are allowed");
    refuse(cx, &cx.info.name, &why)
}

pub(super) async fn create(cx: &Cx<'_>, node: &str, pod: &Value) -> Result<(), Status> {
    mirror(node, pod).map_err(|why| refuse(cx, meta::name(pod), &why))?;
    let found = cx.server.store().read("", "nodes", "", node).await?;
    let found = found.ok_or_else(|| Status::not_found(&GroupResource::new("", "nodes"), node))?;
    let (own, said) = (meta::uid(&found.object), owner(pod).map_or("", |o| meta::text(o, &["uid"])));
    if own != said {
        let why = format!("node {node} UID mismatch: expected {said} got {own}");
        return Err(refuse(cx, meta::name(pod), &why));
    }
    match opened(pod) {
        None => Ok(()),
        Some(what) => {
            Err(refuse(cx, meta::name(pod), &format!("node {node:?} can not create pods that reference {what}")))
        }
    }
}

fn owners(pod: &Value) -> &[Value] {
    meta::at(pod, &["metadata", "ownerReferences"]).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn owner(pod: &Value) -> Option<&Value> {
    owners(pod).first()
}

fn mirror(node: &str, pod: &Value) -> Result<(), String> {
    if meta::annotation(pod, MIRROR).is_none() {
        return Err(format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"));
    }
    if meta::text(pod, &["spec", "nodeName"]) != node {
        return Err(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    if owners(pod).len() > 1 {
        return Err(format!("node {node:?} can only create pods with a single owner reference set to itself"));
    }
    let text = |owner: &Value, key: &str| meta::text(owner, &[key]).to_owned();
    let own = |o: &&Value| text(o, "apiVersion") == "v1" && text(o, "kind") == "Node" && text(o, "name") == node;
    let Some(owner) = owner(pod).filter(own) else {
        return Err(format!("node {node:?} can only create pods with an owner reference set to itself"));
    };
    let flag = |key: &str| owner.get(key) == Some(&Value::Bool(true));
    if !flag("controller") {
        return Err(format!("node {node:?} can only create pods with a controller owner reference set to itself"));
    }
    if flag("blockOwnerDeletion") {
        return Err(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
    }
    Ok(())
}

/// What the pod would open to its node, if anything.
fn opened(pod: &Value) -> Option<&'static str> {
    match () {
        () if !meta::text(pod, &["spec", "serviceAccountName"]).is_empty() => return Some("serviceaccounts"),
        () if !references::secrets(pod).is_empty() => return Some("secrets"),
        () if !references::config_maps(pod).is_empty() => return Some("configmaps"),
        () if items(pod, &["spec", "resourceClaims"]).next().is_some() => return Some("resourceclaims"),
        () => {}
    }
    items(pod, &["spec", "volumes"]).find_map(|volume| {
        let among = |source: &Value, kinds: &[(&str, &'static str)]| {
            kinds.iter().find(|(key, _)| source.get(key).is_some_and(|s| !s.is_null())).map(|(_, what)| *what)
        };
        let projected = || items(volume, &["projected", "sources"]).find_map(|s| among(s, PROJECTED));
        among(volume, OPENING).or_else(projected)
    })
}

fn items<'a>(value: &'a Value, path: &[&str]) -> impl Iterator<Item = &'a Value> + use<'a> {
    meta::at(value, path).and_then(Value::as_array).into_iter().flatten()
}

pub(super) async fn evict(cx: &Cx<'_>, node: &str, name: &str) -> Result<(), Status> {
    let found = cx.server.store().read("", "pods", cx.namespace(), name).await?;
    let found = found.ok_or_else(|| Status::not_found(&GroupResource::new("", "pods"), name))?;
    if meta::text(&found.object, &["spec", "nodeName"]) == node {
        return Ok(());
    }
    Err(refuse(cx, name, &format!("node {node} can only evict pods with spec.nodeName set to itself")))
}

pub(super) fn status(node: &str, new: &Value, old: &Value) -> Result<(), String> {
    if meta::text(old, &["spec", "nodeName"]) != node {
        return Err(format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself"));
    }
    if meta::labels(new) != meta::labels(old) {
        return Err(format!("node {node:?} cannot update labels through pod status"));
    }
    let part = |o: &Value, key: &str| {
        let part = meta::at(o, &["status", key]);
        part.filter(|p| !p.is_null() && p.as_array().is_none_or(|a| !a.is_empty())).cloned()
    };
    let changed = |key: &str| part(new, key) != part(old, key);
    if changed("resourceClaimStatuses") {
        return Err(format!("node {node:?} cannot update resource claim statues"));
    }
    if changed("extendedResourceClaimStatus") {
        return Err(format!("node {node:?} cannot update extended resource claim status"));
    }
    Ok(())
}
