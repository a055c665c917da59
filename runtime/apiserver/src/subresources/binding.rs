//! `pods/binding`, and `bindings` as it was called first: the scheduler says where a pod runs, once.

use ::http::{Response, StatusCode};
use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, GroupResource, Gvk, Reason, Status, meta};
use serde_json::{Value, json};

use super::{condition, success};
use crate::admission;
use crate::http::body::Body;
use crate::verbs::store::Stored;
use crate::verbs::{Cx, decode, errors};

pub(crate) async fn serve(cx: &Cx<'_>) -> Result<Response<Body>, Status> {
    let mut binding = decode::body_as(cx, &Gvk::new("", "v1", "Binding"))?;
    admission::create_part(cx, &binding).await?;
    take_topology(cx, &mut binding).await?;
    let name = meta::name(&binding);
    if cx.info.named && name != cx.info.name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    check(&binding)?;
    loop {
        let found = cx.server.store().read("", "pods", cx.namespace(), name).await?;
        let old = found.ok_or_else(|| Status::not_found(&GroupResource::new("", "pods"), name))?;
        let new = bound(cx, &old, &binding)?;
        if cx.dry_run {
            break;
        }
        match cx.server.store().replace("", "pods", &old, &new).await {
            // Whoever overtook this got on; a revision that was asked for ends the loop.
            Err(status) if status.is(Reason::Conflict) => {}
            done => break done?,
        }
    }
    Ok(success(StatusCode::CREATED))
}

/// Labels that pods take from their node.
const TOPOLOGY: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// A pod bears the zone and the region of its node.
async fn take_topology(cx: &Cx<'_>, binding: &mut Value) -> Result<(), Status> {
    if meta::text(binding, &["target", "kind"]) != "Node" {
        return Ok(());
    }
    let name = meta::text(binding, &["target", "name"]).to_owned();
    let Some(node) = cx.server.store().read("", "nodes", "", &name).await? else { return Ok(()) };
    for (key, value) in meta::labels(&node.object).into_iter().filter(|(k, _)| TOPOLOGY.contains(k)) {
        let labels = meta::metadata_mut(binding).entry("labels").or_insert(Value::Null);
        meta::object_mut(labels).insert(key.into(), value.into());
    }
    Ok(())
}

/// What the binding itself must be. Upstream has no kind for these complaints, so that they are the server's own fault.
fn check(binding: &Value) -> Result<(), Status> {
    let target = Path::new("target");
    let (kind, name) = (meta::text(binding, &["target", "kind"]), meta::text(binding, &["target", "name"]));
    let mut problems = Vec::new();
    if !matches!(kind, "" | "Node") {
        problems.push(FieldError::not_supported(target.child("kind"), &kind.into(), &["Node", "<empty>"]));
    }
    if name.is_empty() {
        problems.push(FieldError::required(target.child("name"), ""));
    }
    match problems.as_slice() {
        [] => Ok(()),
        [one] => Err(errors::plain(one.to_string())),
        many => {
            let texts: Vec<String> = many.iter().map(ToString::to_string).collect();
            Err(errors::plain(format!("[{}]", texts.join(", "))))
        }
    }
}

/// The pod with its node.
fn bound(cx: &Cx<'_>, old: &Stored, binding: &Value) -> Result<Value, Status> {
    let (pod, name) = (&old.object, meta::name(binding));
    let pods = GroupResource::new("", "pods");
    let (uid, revision) = (meta::uid(binding), meta::resource_version(binding));
    for (what, asked, found) in
        [("UID", uid, meta::uid(pod).to_owned()), ("ResourceVersion", revision, old.record.mod_revision.to_string())]
    {
        if !asked.is_empty() && asked != found {
            let why = format!("Precondition failed: {what} in precondition: {asked}, {what} in object meta: {found}");
            return Err(Status::conflict(&pods, name, &why));
        }
    }
    let node = meta::text(pod, &["spec", "nodeName"]);
    let gates = meta::at(pod, &["spec", "schedulingGates"]).and_then(Value::as_array);
    let refused = if meta::is_terminating(pod) {
        Some(format!("pod {name} is being deleted, cannot be assigned to a host"))
    } else if !node.is_empty() {
        Some(format!("pod {name} is already assigned to node {node:?}"))
    } else if gates.is_some_and(|g| !g.is_empty()) {
        Some(format!("pod {name} has non-empty .spec.schedulingGates"))
    } else {
        None
    };
    if let Some(why) = refused {
        return Err(Status::conflict(&GroupResource::new("", "pods/binding"), name, &why));
    }
    let mut new = pod.clone();
    meta::child(&mut new, "spec").insert("nodeName".into(), meta::text(binding, &["target", "name"]).into());
    meta::child(&mut new, "status").remove("nominatedNodeName");
    for key in ["annotations", "labels"] {
        for (name, value) in meta::string_map(meta::at(binding, &["metadata", key])) {
            let map = meta::metadata_mut(&mut new).entry(key).or_insert(Value::Null);
            meta::object_mut(map).insert(name.into(), value.into());
        }
    }
    condition(&mut new, json!({"type": "PodScheduled", "status": "True"}), cx.server.now());
    Ok(new)
}
