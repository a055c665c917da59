//! `SelfSubjectRulesReview`: all that a user may in a namespace, as far as it can be listed.

use kiln_apimachinery::Status;
use serde_json::{Map, Value, json};

use crate::authz::rbac::Rule;
use crate::verbs::Cx;

pub(super) async fn answer(cx: &Cx<'_>, namespace: &str) -> Result<Value, Status> {
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let rules = cx.server.rbac().current(cx.server).await?;
    let (mut resources, mut urls) = (Vec::new(), Vec::new());
    for rule in rules.of(cx.user, namespace) {
        if !rule.resources.is_empty() {
            resources.push(resource_rule(&rule));
        }
        if !rule.urls.is_empty() {
            urls.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.urls}));
        }
    }
    let mut problems = Vec::new();
    // What a node may follows from the objects that concern it.
    let is_node = cx.user.node_name().is_some();
    if is_node {
        problems.push("node authorizer does not support user rule resolution".to_owned());
    }
    let unresolved = rules.unresolved(cx.user, namespace);
    problems.extend(Some(unresolved).filter(|u| !u.is_empty()));
    let mut status = json!({"resourceRules": resources, "nonResourceRules": urls, "incomplete": !problems.is_empty()});
    match problems.as_slice() {
        [] => {}
        [one] => status["evaluationError"] = one.as_str().into(),
        all => status["evaluationError"] = format!("[{}]", all.join(", ")).into(),
    }
    Ok(status)
}

fn resource_rule(rule: &Rule) -> Value {
    let mut out = Map::new();
    for (key, list) in [
        ("verbs", &rule.verbs),
        ("apiGroups", &rule.groups),
        ("resources", &rule.resources),
        ("resourceNames", &rule.names),
    ] {
        if !list.is_empty() || key == "verbs" {
            out.insert(key.into(), json!(list));
        }
    }
    Value::Object(out)
}
