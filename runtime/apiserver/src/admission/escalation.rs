//! Nobody grants by RBAC what they have not, unless they hold `escalate` or `bind`.

use kiln_apimachinery::{Status, meta};
use serde_json::Value;

use crate::authz::rbac::Rule;
use crate::authz::{Attributes, allowed};
use crate::user::MASTERS;
use crate::verbs::Cx;

const GROUP: &str = "rbac.authorization.k8s.io";

pub(crate) async fn check(cx: &Cx<'_>, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    if cx.resource.group != GROUP || cx.user.in_group(MASTERS) {
        return Ok(());
    }
    let plural = cx.resource.plural.as_str();
    let (namespace, name) = (meta::namespace(new), meta::name(new));
    match plural {
        "roles" | "clusterroles" => {
            if old.is_some_and(|o| o.get("rules") == new.get("rules")) {
                return Ok(());
            }
            let escalate = Attributes::resource("escalate", GROUP, plural, namespace, name);
            if allowed(cx.server, cx.user, &escalate).await?.is_ok() {
                return Ok(());
            }
            held(cx, namespace, name, &Rule::list(new)).await
        }
        "rolebindings" | "clusterrolebindings" => {
            if old.is_some_and(|o| o.get("subjects") == new.get("subjects") && o.get("roleRef") == new.get("roleRef")) {
                return Ok(());
            }
            let role = |key: &str| meta::text(new, &["roleRef", key]);
            let role_resource = if role("kind") == "ClusterRole" { "clusterroles" } else { "roles" };
            let bind = Attributes::resource("bind", GROUP, role_resource, namespace, role("name"));
            if allowed(cx.server, cx.user, &bind).await?.is_ok() {
                return Ok(());
            }
            let rules = cx.server.rbac().current(cx.server).await?;
            let Some(wanted) = rules.role(role("kind"), namespace, role("name")).cloned() else {
                let why =
                    format!("the role {:?} does not exist, and only one who may bind it can refer to it", role("name"));
                return Err(Status::forbidden(&cx.resource.group_resource(), name, &why));
            };
            held(cx, namespace, name, &wanted).await
        }
        _ => Ok(()),
    }
}

/// Refuses unless the user has all of `wanted`.
async fn held(cx: &Cx<'_>, namespace: &str, name: &str, wanted: &[Rule]) -> Result<(), Status> {
    let rules = cx.server.rbac().current(cx.server).await?;
    let missing = Rule::missing(&rules.of(cx.user, namespace), wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let groups = cx.user.groups.iter().map(|g| format!("{g:?}")).collect::<Vec<_>>().join(" ");
    let why = format!(
        "user {:?} (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:\n{}",
        cx.user.name,
        missing.join("\n")
    );
    Err(Status::forbidden(&cx.resource.group_resource(), name, &why))
}
