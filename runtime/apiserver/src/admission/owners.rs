//! Owner references are set by those only who may delete the object, and block the owner's deletion by those only who may
//! finalise the owner. In Kubernetes this is an option, and so it is here.

use kiln_apimachinery::{Status, gvk, meta};
use serde_json::Value;

use super::Plugin;
use crate::authz::{Attributes, decide};
use crate::verbs::Cx;

pub(crate) async fn check(cx: &Cx<'_>, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    if !cx.runs(Plugin::OwnerReferencesPermissionEnforcement) {
        return Ok(());
    }
    let (refs, before) = (owners(new), old.map_or(&[][..], owners));
    if refs == before {
        return Ok(());
    }
    let refuse = |why: String| Status::forbidden(&cx.resource.group_resource(), meta::name(new), &why);
    if old.is_some() {
        let delete = Attributes {
            subresource: cx.info.subresource.clone(),
            ..Attributes::resource("delete", &cx.resource.group, &cx.resource.plural, cx.namespace(), &cx.info.name)
        };
        let decision = decide(cx.server, cx.user, &delete).await?;
        if !decision.allowed {
            let why = decision.reason;
            return Err(refuse(format!("cannot set an ownerRef on a resource you can't delete: {why}, <nil>")));
        }
    }
    let blocks = |r: &Value| r.get("blockOwnerDeletion") == Some(&Value::Bool(true));
    let fresh = |r: &&Value| blocks(r) && !before.iter().any(|b| b.get("uid") == r.get("uid") && blocks(b));
    let fresh: Vec<&Value> = refs.iter().filter(fresh).collect();
    if fresh.is_empty() || may_finalize(cx, "*", "*", "", "*").await?.is_ok() {
        return Ok(());
    }
    for reference in fresh {
        let (api_version, kind) = (meta::text(reference, &["apiVersion"]), meta::text(reference, &["kind"]));
        let (group, version) = gvk::split_api_version(api_version).unwrap_or_default();
        let rows = cx.server.registry().of(group, version);
        let Some(owner) = rows.iter().find(|r| r.kind == kind) else {
            let why = format!("no matches for kind {kind:?} in version {api_version:?}");
            return Err(refuse(format!(
                "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion \
                 {api_version} Kind {kind}: {why}"
            )));
        };
        let namespace = if owner.namespaced { cx.namespace() } else { "" };
        let name = meta::text(reference, &["name"]);
        if let Err(why) = may_finalize(cx, group, &owner.plural, namespace, name).await? {
            return Err(refuse(format!(
                "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: \
                 {why}, <nil>"
            )));
        }
    }
    Ok(())
}

async fn may_finalize(
    cx: &Cx<'_>,
    group: &str,
    plural: &str,
    namespace: &str,
    name: &str,
) -> Result<Result<(), String>, Status> {
    let asked = Attributes {
        subresource: "finalizers".into(),
        ..Attributes::resource("update", group, plural, namespace, name)
    };
    let decision = decide(cx.server, cx.user, &asked).await?;
    Ok(if decision.allowed { Ok(()) } else { Err(decision.reason) })
}

fn owners(object: &Value) -> &[Value] {
    meta::at(object, &["metadata", "ownerReferences"]).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
