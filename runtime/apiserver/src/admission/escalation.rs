//! Nobody grants by RBAC what they have not, unless they hold `escalate` or `bind`.

use kiln_apimachinery::{GroupResource, Status, meta};
use serde_json::Value;

use crate::authn::go_list;
use crate::authz::rbac::Rule;
use crate::authz::{Attributes, allowed};
use crate::user::MASTERS;
use crate::verbs::Cx;

const GROUP: &str = "rbac.authorization.k8s.io";

pub(crate) async fn check(cx: &Cx<'_>, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    if cx.resource.group != GROUP || cx.user.in_group(MASTERS) {
        return Ok(());
    }
    if old.is_some_and(|old| only_for_collection(new, old)) {
        return Ok(());
    }
    match cx.resource.plural.as_str() {
        "roles" | "clusterroles" => role(cx, new, old).await,
        "rolebindings" | "clusterrolebindings" => binding(cx, new).await,
        _ => Ok(()),
    }
}

/// True if only what the garbage collector writes has changed, and something has.
fn only_for_collection(new: &Value, old: &Value) -> bool {
    let rest = |object: &Value| {
        let mut object = object.clone();
        let metadata = meta::metadata_mut(&mut object);
        for key in ["ownerReferences", "finalizers", "managedFields", "resourceVersion"] {
            metadata.remove(key);
        }
        object
    };
    new != old && rest(new) == rest(old)
}

async fn role(cx: &Cx<'_>, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    let plural = cx.resource.plural.as_str();
    let escalate = Attributes::resource("escalate", GROUP, plural, cx.namespace(), &cx.info.name);
    if allowed(cx.server, cx.user, &escalate).await?.is_ok() {
        return Ok(());
    }
    let name = meta::name(new);
    held(cx, name, &Rule::list(new)).await?;
    let gathers = |o: &Value| {
        meta::at(o, &["aggregationRule", "clusterRoleSelectors"])
            .and_then(Value::as_array)
            .is_some_and(|s| !s.is_empty())
    };
    if gathers(new) || old.is_some_and(gathers) {
        // What it gathers may be anything, tomorrow.
        let star = || vec!["*".to_owned()];
        let all = [
            Rule { verbs: star(), groups: star(), resources: star(), ..Rule::default() },
            Rule { verbs: star(), urls: star(), ..Rule::default() },
        ];
        if held(cx, name, &all).await.is_err() {
            let why = "must have cluster-admin privileges to use the aggregationRule";
            return Err(Status::forbidden(&cx.resource.group_resource(), name, why));
        }
    }
    Ok(())
}

async fn binding(cx: &Cx<'_>, new: &Value) -> Result<(), Status> {
    let role = |key: &str| meta::text(new, &["roleRef", key]);
    let (kind, name) = (role("kind"), role("name"));
    let plural = match kind {
        "ClusterRole" => "clusterroles",
        "Role" => "roles",
        // Validation says what is wrong with it.
        _ => return Ok(()),
    };
    let namespace = cx.namespace();
    let bind = Attributes::resource("bind", role("apiGroup"), plural, namespace, name);
    if allowed(cx.server, cx.user, &bind).await?.is_ok() {
        return Ok(());
    }
    let rules = cx.server.rbac().current(cx.server).await?;
    let Some(wanted) = rules.role(kind, namespace, name) else {
        return Err(Status::not_found(&GroupResource::new(GROUP, plural), name));
    };
    held(cx, meta::name(new), wanted).await
}

/// Refuses unless the user has all of `wanted`.
async fn held(cx: &Cx<'_>, name: &str, wanted: &[Rule]) -> Result<(), Status> {
    let rules = cx.server.rbac().current(cx.server).await?;
    let missing = Rule::missing(&rules.of(cx.user, cx.namespace()), wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let mut why = format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        cx.user.name,
        go_list(&cx.user.groups),
        missing.join("\n")
    );
    let unresolved = rules.unresolved(cx.user, cx.namespace());
    if !unresolved.is_empty() {
        why.push_str(&format!("; resolution errors: [{unresolved}]"));
    }
    Err(Status::forbidden(&cx.resource.group_resource(), name, &why))
}
