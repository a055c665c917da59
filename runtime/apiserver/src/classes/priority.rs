//! A pod's priority is that of its class.

use kiln_apimachinery::{Status, meta};
use serde_json::Value;

use super::{all, refuse};
use crate::verbs::Cx;

const GROUP: &str = "scheduling.k8s.io";
const PLURAL: &str = "priorityclasses";

/// The class that pods without one are of: of several the one of the lowest priority.
async fn default_class(cx: &Cx<'_>) -> Result<Option<Value>, Status> {
    let classes = all(cx, "/registry/scheduling.k8s.io/priorityclasses/").await?;
    let marked = classes.into_iter().filter(|c| c.get("globalDefault") == Some(&Value::Bool(true)));
    Ok(marked.min_by_key(value))
}

fn value(class: &Value) -> i64 {
    class.get("value").and_then(Value::as_i64).unwrap_or(0)
}

pub(super) async fn create(cx: &Cx<'_>, pod: &mut Value) -> Result<(), Status> {
    let wanted = meta::text(pod, &["spec", "priorityClassName"]).to_owned();
    let class = if wanted.is_empty() {
        default_class(cx).await?
    } else {
        let found = cx.server.store().read(GROUP, PLURAL, "", &wanted).await?;
        let found = found.ok_or_else(|| refuse(cx, pod, &format!("no PriorityClass with name {wanted} was found")))?;
        Some(found.object)
    };
    let (priority, policy) = match &class {
        Some(class) => (value(class), meta::text(class, &["preemptionPolicy"]).to_owned()),
        None => (0, "PreemptLowerPriority".to_owned()),
    };
    let given = meta::at(pod, &["spec", "priority"]).and_then(Value::as_i64);
    if let Some(given) = given.filter(|g| *g != priority) {
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
             computed {priority} from the given PriorityClass name"
        );
        return Err(refuse(cx, pod, &why));
    }
    let given = meta::text(pod, &["spec", "preemptionPolicy"]);
    if !given.is_empty() && !policy.is_empty() && given != policy {
        let why = format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
             controller computed {policy} from the given PriorityClass name"
        );
        return Err(refuse(cx, pod, &why));
    }
    let spec = meta::child(pod, "spec");
    if let Some(class) = &class {
        spec.insert("priorityClassName".into(), meta::name(class).into());
    }
    spec.insert("priority".into(), priority.into());
    if !policy.is_empty() {
        spec.insert("preemptionPolicy".into(), policy.into());
    }
    Ok(())
}

/// A writer that knows nothing of priorities changes none.
pub(super) fn update(new: &mut Value, old: &Value) {
    for key in ["priority", "preemptionPolicy"] {
        let had = meta::at(old, &["spec", key]).cloned();
        if let (None, Some(had)) = (meta::at(new, &["spec", key]), had) {
            meta::child(new, "spec").insert(key.into(), had);
        }
    }
}

/// There is one default class at most.
pub(super) async fn only_default(cx: &Cx<'_>, class: &Value) -> Result<(), Status> {
    if class.get("globalDefault") != Some(&Value::Bool(true)) {
        return Ok(());
    }
    match default_class(cx).await? {
        Some(other) if meta::name(&other) != meta::name(class) => {
            let name = meta::name(&other);
            let why = format!("PriorityClass {name} is already marked as default. Only one default can exist");
            Err(refuse(cx, class, &why))
        }
        _ => Ok(()),
    }
}
