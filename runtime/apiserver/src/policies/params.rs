//! The parameters of a binding: objects of the kind that the policy names.

use kiln_apimachinery::Status;
use kiln_storage::ListOptions;
use serde_json::Value;

use super::config::{Binding, Policy};
use crate::apiextensions::versions;
use crate::verbs::errors;
use crate::webhooks::matching::Asked;

/// The parameters, each of which the policy is evaluated with; one null if it has none. The error is a sentence.
pub(super) async fn of(asked: &Asked<'_>, policy: &Policy, binding: &Binding) -> Result<Vec<Value>, String> {
    let (Some((version, kind)), Some(wanted)) = (&policy.param_kind, &binding.params) else {
        return Ok(vec![Value::Null]);
    };
    let server = asked.cx.server;
    let all = server.registry().all();
    let row = all.iter().find(|r| r.kind == *kind && r.api_version() == *version);
    let Some(row) = row else {
        return Err(format!(
            "failed to configure policy: failed to find resource referenced by paramKind: '{version}, Kind={kind}'"
        ));
    };
    let namespace = match (row.namespaced, wanted.namespace.as_str()) {
        (false, _) => "",
        (true, "") => asked.cx.namespace(),
        (true, named) => named,
    };
    if row.namespaced && namespace.is_empty() {
        return Err("failed to configure binding: cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".into());
    }
    let text = |status: Status| status.message;
    let mut records = match wanted.name.as_str() {
        "" => {
            let page = server.storage().list(&row.prefix(namespace), ListOptions::default()).await;
            page.map_err(|e| text(errors::storage(e)))?.records
        }
        name => {
            let found = server.storage().get(&row.key(namespace, name)).await.map_err(|e| text(errors::storage(e)))?;
            found.into_iter().collect()
        }
    };
    versions::shown_all(server, row, &mut records).await.map_err(text)?;
    let objects = records.iter().filter_map(|r| serde_json::from_slice::<Value>(&r.value).ok());
    let found: Vec<Value> = objects.filter(|o| wanted.selector.matches(o)).collect();
    match (found.is_empty(), wanted.required) {
        (true, true) => {
            Err("failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
                .into())
        }
        _ => Ok(found),
    }
}
