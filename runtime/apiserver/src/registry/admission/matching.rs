//! Which requests a webhook or a policy is about: rules that both share.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, meta, names};
use kiln_cel::{Program, Type};
use serde_json::{Value, json};

use crate::registry::rules::{Errors, given, list, name, one_of, required, required_one_of, selector, text};

pub(super) const FAILURE: &[&str] = &["Fail", "Ignore"];
pub(super) const MATCH: &[&str] = &["Equivalent", "Exact"];
pub(super) const REINVOCATION: &[&str] = &["IfNeeded", "Never"];
const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: &[&str] = &["*", "Cluster", "Namespaced"];
const MAX_CONDITIONS: usize = 64;

/// Operations on resources.
pub(super) fn rule(path: &Path<'_>, rule: &Value, errors: &mut Errors) {
    let operations = strings(path, rule, "operations", "operations", errors);
    let at = path.child("operations");
    for (i, operation) in operations.iter().enumerate() {
        one_of(&at.index(i), operation, OPERATIONS, errors);
    }
    strings(path, rule, "apiGroups", "API groups", errors);
    let versions = strings(path, rule, "apiVersions", "API versions", errors);
    let at = path.child("apiVersions");
    for (i, version) in versions.iter().enumerate() {
        required(&at.index(i), version, errors);
    }
    resources(&path.child("resources"), &meta::strings(rule.get("resources")), errors);
    if let Some(scope) = given(rule, "scope").and_then(Value::as_str) {
        one_of(&path.child("scope"), scope, SCOPES, errors);
    }
}

/// A list that must have something in it, and nothing beside a star.
fn strings<'a>(path: &Path<'_>, rule: &'a Value, key: &str, what: &str, errors: &mut Errors) -> Vec<&'a str> {
    let all = meta::strings(rule.get(key));
    if all.is_empty() {
        errors.push(FieldError::required(path.child(key), ""));
    }
    if all.len() > 1 && all.contains(&"*") {
        let why = format!("if '*' is present, must not specify other {what}");
        errors.push(FieldError::invalid(path.child(key), &json!(all), &why));
    }
    all
}

fn resources(path: &Path<'_>, all: &[&str], errors: &mut Errors) {
    if all.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    let (mut whole, mut parts): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    let mut plain_last = false;
    for (i, both) in all.iter().enumerate() {
        if both.is_empty() {
            errors.push(FieldError::required(path.index(i), ""));
            continue;
        }
        let Some((resource, part)) = both.split_once('/') else {
            plain_last = *both != "*";
            continue;
        };
        let mut complain = |why: String| errors.push(FieldError::invalid(path.index(i), &(*both).into(), &why));
        if whole.contains(&resource) {
            complain(format!("if '{resource}/*' is present, must not specify {both}"));
        }
        if parts.contains(&part) {
            complain(format!("if '*/{part}' is present, must not specify {both}"));
        }
        if part == "*" {
            whole.push(resource);
        }
        if resource == "*" {
            parts.push(part);
        }
    }
    if all.len() > 1 && all.contains(&"*/*") {
        let why = "if '*/*' is present, must not specify other resources";
        errors.push(FieldError::invalid(path, &json!(all), why));
    }
    if all.contains(&"*") && plain_last {
        let why = "if '*' is present, must not specify other resources without subresources";
        errors.push(FieldError::invalid(path, &json!(all), why));
    }
}

/// What a policy or its binding is about.
pub(super) fn match_resources(path: &Path<'_>, matches: &Value, errors: &mut Errors) {
    required_one_of(&path.child("matchPolicy"), text(matches, "matchPolicy"), MATCH, errors);
    for key in ["namespaceSelector", "objectSelector"] {
        match given(matches, key) {
            Some(found) => selector::label_selector(&path.child(key), found, errors),
            None => errors.push(FieldError::required(path.child(key), "")),
        }
    }
    for key in ["resourceRules", "excludeResourceRules"] {
        let at = path.child(key);
        for (i, found) in list(matches, key).iter().enumerate() {
            let at = at.index(i);
            let named = meta::strings(found.get("resourceNames"));
            let names_path = at.child("resourceNames");
            for (n, resource) in named.iter().enumerate() {
                name(&names_path.index(n), resource, names::path_segment, errors);
                if named[..n].contains(resource) {
                    errors.push(FieldError::duplicate(names_path.index(n), &(*resource).into()));
                }
            }
            rule(&at, found, errors);
        }
    }
}

/// A delete can't be mutated.
pub(super) fn no_deletes(path: &Path<'_>, matches: &Value, errors: &mut Errors) {
    for operation in list(matches, "resourceRules").iter().flat_map(|r| meta::strings(r.get("operations"))) {
        one_of(&path.child("resourceRules.operations"), operation, &["*", "CONNECT", "CREATE", "UPDATE"], errors);
    }
}

/// An expression in CEL must compile; an empty one is complained of elsewhere.
pub(super) fn expression(path: &Path<'_>, source: &str, variables: &[(&str, Type)], errors: &mut Errors) {
    if source.trim().is_empty() {
        return;
    }
    if let Err(why) = Program::compile(source, variables) {
        errors.push(FieldError::invalid(path, &source.into(), &format!("compilation failed: {why}")));
    }
}

/// Conditions in CEL.
pub(super) fn conditions(path: &Path<'_>, all: &[Value], variables: &[(&str, Type)], errors: &mut Errors) {
    if all.len() > MAX_CONDITIONS {
        errors.push(FieldError::too_many(path, all.len(), MAX_CONDITIONS));
    }
    for (i, condition) in all.iter().enumerate() {
        let at = path.index(i);
        required(&at.child("expression"), text(condition, "expression").trim(), errors);
        expression(&at.child("expression"), text(condition, "expression"), variables, errors);
        let label = text(condition, "name");
        if label.is_empty() {
            errors.push(FieldError::required(at.child("name"), ""));
            continue;
        }
        name(&at.child("name"), label, names::qualified_name, errors);
        if all[..i].iter().any(|c| text(c, "name") == label) {
            errors.push(FieldError::duplicate(at.child("name"), &label.into()));
        }
    }
}
