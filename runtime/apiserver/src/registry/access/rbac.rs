//! Roles and bindings: rules that can be evaluated, role references that never change.

use kiln_apimachinery::names::{self, NameRule};
use kiln_apimachinery::{FieldError, meta};
use serde_json::Value;

use crate::registry::strategy::{Strategy, default_to};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(crate) struct Roles;

impl Strategy for Roles {
    fn name_rule(&self) -> NameRule {
        names::path_segment
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for (i, rule) in object.get("rules").and_then(Value::as_array).into_iter().flatten().enumerate() {
            let list = |key: &str| meta::strings(rule.get(key)).len();
            if list("verbs") == 0 {
                errors.push(FieldError::required(format!("rules[{i}].verbs"), "verbs must contain at least one value"));
            }
            if list("nonResourceURLs") > 0 {
                if !meta::namespace(object).is_empty() {
                    let all = rule["nonResourceURLs"].clone();
                    let why = "namespaced rules cannot apply to non-resource URLs";
                    errors.push(FieldError::invalid(format!("rules[{i}].nonResourceURLs"), &all, why));
                }
                continue;
            }
            if list("apiGroups") == 0 {
                errors.push(FieldError::required(
                    format!("rules[{i}].apiGroups"),
                    "resource rules must supply at least one api group",
                ));
            }
            if list("resources") == 0 {
                errors.push(FieldError::required(
                    format!("rules[{i}].resources"),
                    "resource rules must supply at least one resource",
                ));
            }
        }
        errors
    }
}

pub(crate) struct Bindings {
    pub(crate) cluster: bool,
}

impl Strategy for Bindings {
    fn name_rule(&self) -> NameRule {
        names::path_segment
    }

    fn default(&self, object: &mut Value) {
        default_to(meta::object_mut(object).entry("roleRef").or_insert(Value::Null), "apiGroup", GROUP);
        for subject in object.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
            let group = if meta::text(subject, &["kind"]) == "ServiceAccount" { "" } else { GROUP };
            if !group.is_empty() {
                default_to(subject, "apiGroup", group);
            }
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let role = |key: &str| meta::text(object, &["roleRef", key]);
        if role("apiGroup") != GROUP {
            errors.push(FieldError::not_supported("roleRef.apiGroup", &role("apiGroup").into(), &[GROUP]));
        }
        let kinds: &[&str] = if self.cluster { &["ClusterRole"] } else { &["Role", "ClusterRole"] };
        if !kinds.contains(&role("kind")) {
            errors.push(FieldError::not_supported("roleRef.kind", &role("kind").into(), kinds));
        }
        if role("name").is_empty() {
            errors.push(FieldError::required("roleRef.name", ""));
        }
        for (i, subject) in object.get("subjects").and_then(Value::as_array).into_iter().flatten().enumerate() {
            let (kind, name) = (meta::text(subject, &["kind"]), meta::text(subject, &["name"]));
            if name.is_empty() {
                errors.push(FieldError::required(format!("subjects[{i}].name"), ""));
            }
            if !["ServiceAccount", "User", "Group"].contains(&kind) {
                errors.push(FieldError::not_supported(
                    format!("subjects[{i}].kind"),
                    &kind.into(),
                    &["ServiceAccount", "User", "Group"],
                ));
            }
            if kind == "ServiceAccount" && self.cluster && meta::text(subject, &["namespace"]).is_empty() {
                errors.push(FieldError::required(format!("subjects[{i}].namespace"), ""));
            }
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        if new.get("roleRef") == old.get("roleRef") {
            return Vec::new();
        }
        let shown = new.get("roleRef").cloned().unwrap_or_default();
        vec![FieldError::invalid("roleRef", &shown, "cannot change roleRef")]
    }
}
