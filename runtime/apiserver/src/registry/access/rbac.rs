//! Roles and bindings: rules that can be evaluated, role references that never change.

use kiln_apimachinery::names::{self, NameRule};
use kiln_apimachinery::{FieldError, meta};
use serde_json::Value;

use crate::registry::strategy::Strategy;

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
                if ["apiGroups", "resources", "resourceNames"].iter().any(|key| list(key) > 0) {
                    let all = rule["nonResourceURLs"].clone();
                    let why = "rules cannot apply to both regular resources and non-resource URLs";
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
        if object.get("aggregationRule").is_some_and(Value::is_object) {
            validate_aggregation(object, &mut errors);
        }
        errors
    }
}

/// The selectors of a role that gathers others' rules.
fn validate_aggregation(object: &Value, errors: &mut Vec<FieldError>) {
    const PATH: &str = "aggregationRule.clusterRoleSelectors";
    let selectors = meta::at(object, &["aggregationRule", "clusterRoleSelectors"]).and_then(Value::as_array);
    let selectors = selectors.map_or(&[][..], Vec::as_slice);
    if selectors.is_empty() {
        let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.push(FieldError::required(PATH, why));
    }
    for (i, selector) in selectors.iter().enumerate() {
        let path = format!("{PATH}[{i}]");
        for (key, value) in meta::string_map(selector.get("matchLabels")) {
            for why in names::qualified_name(key) {
                errors.push(FieldError::invalid(format!("{path}.matchLabels"), &key.into(), &why));
            }
            for why in names::label_value(value) {
                errors.push(FieldError::invalid(format!("{path}.matchLabels"), &value.into(), &why));
            }
        }
        let expressions = selector.get("matchExpressions").and_then(Value::as_array);
        for (j, expression) in expressions.into_iter().flatten().enumerate() {
            validate_expression(&format!("{path}.matchExpressions[{j}]"), expression, errors);
        }
    }
}

fn validate_expression(path: &str, expression: &Value, errors: &mut Vec<FieldError>) {
    let values = meta::strings(expression.get("values"));
    let operator = meta::text(expression, &["operator"]);
    match operator {
        "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
            format!("{path}.values"),
            "must be specified when `operator` is 'In' or 'NotIn'",
        )),
        "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
            format!("{path}.values"),
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        )),
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => {
            errors.push(FieldError::invalid(format!("{path}.operator"), &other.into(), "not a valid selector operator"))
        }
    }
    let key = meta::text(expression, &["key"]);
    for why in names::qualified_name(key) {
        errors.push(FieldError::invalid(format!("{path}.key"), &key.into(), &why));
    }
    for (i, value) in values.iter().enumerate() {
        for why in names::label_value(value) {
            errors.push(FieldError::invalid(format!("{path}.values[{i}]"), &(*value).into(), &why));
        }
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
        // Clients in Go write an empty group where they mean none.
        let named = |of: &mut Value| {
            if meta::text(of, &["apiGroup"]).is_empty() {
                meta::object_mut(of).insert("apiGroup".into(), GROUP.into());
            }
        };
        named(meta::object_mut(object).entry("roleRef").or_insert(Value::Null));
        for subject in object.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
            if meta::text(subject, &["kind"]) != "ServiceAccount" {
                named(subject);
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
        for why in names::path_segment(role("name")) {
            errors.push(FieldError::invalid("roleRef.name", &role("name").into(), &why));
        }
        for (i, subject) in object.get("subjects").and_then(Value::as_array).into_iter().flatten().enumerate() {
            validate_subject(&format!("subjects[{i}]"), subject, self.cluster, &mut errors);
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

/// The rules for one of a binding's subjects.
fn validate_subject(path: &str, subject: &Value, cluster: bool, errors: &mut Vec<FieldError>) {
    let text = |key: &str| meta::text(subject, &[key]);
    let (kind, name, group) = (text("kind"), text("name"), text("apiGroup"));
    if name.is_empty() {
        errors.push(FieldError::required(format!("{path}.name"), ""));
    }
    let mut must_be = |expected: &str| {
        if group != expected {
            errors.push(FieldError::not_supported(format!("{path}.apiGroup"), &group.into(), &[expected]));
        }
    };
    match kind {
        "User" | "Group" => must_be(GROUP),
        "ServiceAccount" => {
            must_be("");
            if !name.is_empty() {
                for why in names::dns1123_subdomain(name) {
                    errors.push(FieldError::invalid(format!("{path}.name"), &name.into(), &why));
                }
            }
            if cluster && text("namespace").is_empty() {
                errors.push(FieldError::required(format!("{path}.namespace"), ""));
            }
        }
        other => errors.push(FieldError::not_supported(
            format!("{path}.kind"),
            &other.into(),
            &["ServiceAccount", "User", "Group"],
        )),
    }
}
