//! Namespace lifecycle: nothing is created in a namespace that is not there or is going, and some namespaces never go.

use kiln_apimachinery::{Cause, GroupResource, Status, meta};
use serde_json::Value;

use super::Plugin;
use crate::verbs::Cx;

/// Namespaces that can't be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(crate) async fn create(cx: &Cx<'_>, object: &Value) -> Result<(), Status> {
    let namespace = cx.namespace();
    if !cx.runs(Plugin::NamespaceLifecycle) || namespace.is_empty() || cx.resource.review.is_some() {
        return Ok(());
    }
    let Some(found) = cx.server.store().read("", "namespaces", "", namespace).await? else {
        return Err(Status::not_found(&GroupResource::new("", "namespaces"), namespace));
    };
    if meta::is_terminating(&found.object) {
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut status = Status::forbidden(&cx.resource.group_resource(), meta::name(object), &why);
        if let Some(details) = &mut status.details {
            details.causes.push(Cause {
                reason: "NamespaceTerminating".into(),
                message: format!("namespace {namespace} is being terminated"),
                field: "metadata.namespace".into(),
            });
        }
        return Err(status);
    }
    Ok(())
}

pub(crate) fn delete(cx: &Cx<'_>, object: &Value) -> Result<(), Status> {
    let name = meta::name(object);
    let is_namespace = cx.resource.group.is_empty() && cx.resource.plural == "namespaces";
    if cx.runs(Plugin::NamespaceLifecycle) && is_namespace && IMMORTAL.contains(&name) {
        return Err(Status::forbidden(&cx.resource.group_resource(), name, "this namespace may not be deleted"));
    }
    Ok(())
}
