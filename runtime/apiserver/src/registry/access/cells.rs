//! Cells of certificates and bindings that are more than a field.

use jiff::Timestamp;
use kiln_apimachinery::{meta, time};
use serde_json::Value;

use crate::registry::cells::{NONE, items};

pub(crate) fn csr_duration(csr: &Value, _: Timestamp) -> Value {
    match meta::at(csr, &["spec", "expirationSeconds"]).and_then(Value::as_i64) {
        Some(seconds) => time::human_duration(seconds).into(),
        None => NONE.into(),
    }
}

pub(crate) fn csr_condition(csr: &Value, _: Timestamp) -> Value {
    let has = |t: &str| items(csr, &["status", "conditions"]).iter().any(|c| meta::text(c, &["type"]) == t);
    let mut parts = vec![match () {
        () if has("Denied") => "Denied",
        () if has("Approved") => "Approved",
        () => "Pending",
    }];
    if has("Failed") {
        parts.push("Failed");
    }
    if !meta::text(csr, &["status", "certificate"]).is_empty() {
        parts.push("Issued");
    }
    parts.join(",").into()
}

pub(crate) fn binding_role(binding: &Value, _: Timestamp) -> Value {
    format!("{}/{}", meta::text(binding, &["roleRef", "kind"]), meta::text(binding, &["roleRef", "name"])).into()
}

fn subjects(binding: &Value, kind: &str) -> Value {
    let mine = items(binding, &["subjects"]).iter().filter(|s| meta::text(s, &["kind"]) == kind);
    let name = |s: &Value| match meta::text(s, &["namespace"]) {
        "" => meta::text(s, &["name"]).to_owned(),
        ns => format!("{ns}/{}", meta::text(s, &["name"])),
    };
    mine.map(name).collect::<Vec<_>>().join(", ").into()
}

pub(crate) fn binding_users(binding: &Value, _: Timestamp) -> Value {
    subjects(binding, "User")
}

pub(crate) fn binding_groups(binding: &Value, _: Timestamp) -> Value {
    subjects(binding, "Group")
}

pub(crate) fn binding_accounts(binding: &Value, _: Timestamp) -> Value {
    subjects(binding, "ServiceAccount")
}
