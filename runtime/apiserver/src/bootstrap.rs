//! What a cluster has from its first start: namespaces, default roles and bindings.

use futures_util::future::join_all;
use kiln_apimachinery::status::Reason;
use kiln_apimachinery::{Status, meta};
use serde_json::{Value, json};

use crate::authz::defaults;
use crate::authz::rbac::Rule;
use crate::server::ApiServer;
use crate::verbs::store::Stored;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
const RBAC: &str = "rbac.authorization.k8s.io";
/// An operator who sets this to `false` on a default role or binding keeps it as it is.
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// Creates what is missing, and gives default roles and bindings back the rules and subjects that they lack. What was
/// added to them stays.
pub(crate) async fn run(server: &ApiServer) -> Result<(), Status> {
    let namespaces = NAMESPACES.iter().map(|name| async move {
        match server.store().create("", "namespaces", json!({"metadata": {"name": name}})).await {
            Err(status) if !status.is(Reason::AlreadyExists) => Err(status),
            _ => Ok(()),
        }
    });
    // At once, so that pods can be made before the controller that gives namespaces their account has come to these.
    let accounts = NAMESPACES.iter().map(|name| async move {
        let account = json!({"metadata": {"name": "default", "namespace": name}});
        match server.store().create("", "serviceaccounts", account).await {
            Err(status) if !status.is(Reason::AlreadyExists) => Err(status),
            _ => Ok(()),
        }
    });
    let policy = defaults::all().into_iter().map(|(plural, object)| reconcile(server, plural, object));
    // Together, so that they share commits.
    let (namespaces, accounts, policy) =
        futures_util::future::join3(join_all(namespaces), join_all(accounts), join_all(policy)).await;
    namespaces.into_iter().chain(accounts).chain(policy).collect()
}

async fn reconcile(server: &ApiServer, plural: &'static str, wanted: Value) -> Result<(), Status> {
    let store = server.store();
    let Some(found) = store.read(RBAC, plural, meta::namespace(&wanted), meta::name(&wanted)).await? else {
        return match store.create(RBAC, plural, wanted).await {
            // Another server on the same store was faster.
            Err(status) if !status.is(Reason::AlreadyExists) => Err(status),
            _ => Ok(()),
        };
    };
    if meta::annotation(&found.object, AUTOUPDATE) == Some("false") {
        return Ok(());
    }
    if wanted.get("roleRef").is_some_and(|r| found.object.get("roleRef") != Some(r)) {
        return replace_binding(server, plural, &found, wanted).await;
    }
    let Some(new) = completed(&found.object, &wanted) else { return Ok(()) };
    match store.replace(RBAC, plural, &found, &new).await {
        Err(status) if status.is(Reason::Conflict) => Ok(()),
        done => done,
    }
}

/// A binding refers to one role for good, so one that was bound to another is made anew.
async fn replace_binding(server: &ApiServer, plural: &str, found: &Stored, wanted: Value) -> Result<(), Status> {
    let deleted = server.storage().delete(found.record.key.to_string(), Some(found.record.mod_revision)).await;
    match deleted {
        Ok(_) => server.store().create(RBAC, plural, wanted).await,
        Err(e) => Err(crate::verbs::errors::storage(e)),
    }
}

/// The object with whatever of the default it lacks; `None` if that is nothing.
fn completed(found: &Value, wanted: &Value) -> Option<Value> {
    let mut new = found.clone();
    for field in ["labels", "annotations"] {
        for (key, value) in wanted["metadata"][field].as_object().into_iter().flatten() {
            let entries = meta::metadata_mut(&mut new).entry(field).or_insert_with(|| json!({}));
            if let Some(entries) = entries.as_object_mut() {
                entries.entry(key).or_insert_with(|| value.clone());
            }
        }
    }
    if let Some(aggregation) = wanted.get("aggregationRule") {
        // Its rules are the aggregation's business.
        if new.get("aggregationRule").is_none() {
            new["aggregationRule"] = aggregation.clone();
        }
    } else if let Some(rules) = wanted["rules"].as_array().filter(|_| found.get("rules") != wanted.get("rules")) {
        let held = Rule::list(found);
        let lacking = rules.iter().filter(|r| !Rule::missing(&held, &[Rule::read(r)]).is_empty()).cloned();
        extend(&mut new, "rules", lacking.collect());
    }
    if let Some(subjects) = wanted["subjects"].as_array() {
        let held = found["subjects"].as_array().cloned().unwrap_or_default();
        extend(&mut new, "subjects", subjects.iter().filter(|s| !held.contains(s)).cloned().collect());
    }
    (new != *found).then_some(new)
}

fn extend(object: &mut Value, field: &str, more: Vec<Value>) {
    if more.is_empty() {
        return;
    }
    if !object[field].is_array() {
        object[field] = json!([]);
    }
    if let Some(list) = object[field].as_array_mut() {
        list.extend(more);
    }
}
