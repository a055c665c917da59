//! FlowSchemas.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, meta, names};
use serde_json::{Value, json};

use crate::registry::rules::{Errors, given, list, name, number, one_of, text};
use crate::registry::strategy::{Strategy, Writer, put, split_status};

pub(crate) struct Schemas;

/// Where a schema without a place of its own stands in the order.
const PRECEDENCE: i64 = 1000;
/// The last place.
const LAST: i64 = 10000;
const METHODS: &[&str] = &["ByNamespace", "ByUser"];
const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

impl Strategy for Schemas {
    fn default(&self, object: &mut Value) {
        let spec = meta::child(object, "spec");
        if spec.get("matchingPrecedence").and_then(Value::as_i64).unwrap_or(0) == 0 {
            spec.insert("matchingPrecedence".into(), PRECEDENCE.into());
        }
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        put(object, "status", Some(json!({})));
    }

    fn prepare_update(&self, writer: &Writer<'_>, new: &mut Value, old: &Value) {
        split_status(writer, new, old);
        if writer.subresource == "status" {
            super::keep_metadata(new, old);
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let Some(spec) = object.get("spec") else { return errors };
        let path = Path::new("spec");
        precedence(&path.child("matchingPrecedence"), spec, meta::name(object), &mut errors);
        if let Some(method) = given(spec, "distinguisherMethod") {
            one_of(&path.child("distinguisherMethod.type"), text(method, "type"), METHODS, &mut errors);
        }
        let level = meta::text(spec, &["priorityLevelConfiguration", "name"]);
        let level_path = path.child("priorityLevelConfiguration.name");
        if level.is_empty() {
            errors.push(FieldError::required(level_path, "must reference a priority level"));
        } else {
            name(&level_path, level, names::dns1123_subdomain, &mut errors);
        }
        let rules_path = path.child("rules");
        for (i, rule) in list(spec, "rules").iter().enumerate() {
            policy(&rules_path.index(i), rule, &mut errors);
        }
        let fixed = super::defaults::schemas().into_iter().find(|o| meta::name(o) == meta::name(object));
        if let Some(fixed) = fixed.filter(|o| super::MANDATORY.contains(&meta::name(o)))
            && fixed.get("spec") != Some(spec)
        {
            let why = format!("spec of '{}' must equal the fixed value", meta::name(object));
            errors.push(FieldError::invalid("spec", spec, &why));
        }
        errors
    }

    fn validate_write(&self, writer: &Writer<'_>, new: &Value, _old: &Value) -> Vec<FieldError> {
        if writer.subresource == "status" { super::conditions(new) } else { self.validate(new) }
    }
}

fn precedence(path: &Path<'_>, spec: &Value, schema: &str, errors: &mut Errors) {
    let number = number(spec, "matchingPrecedence");
    let mut complain = |why: &str| errors.push(FieldError::invalid(path, &number.into(), why));
    if number <= 0 {
        complain("must be a positive value");
    }
    if number > LAST {
        complain(&format!("must not be greater than {LAST}"));
    }
    if number == 1 && schema != "exempt" {
        complain("only the schema named 'exempt' may have matchingPrecedence 1");
    }
}

/// Whose requests, and which.
fn policy(path: &Path<'_>, rule: &Value, errors: &mut Errors) {
    let subjects = path.child("subjects");
    if list(rule, "subjects").is_empty() {
        errors.push(FieldError::required(subjects, "subjects must contain at least one value"));
    }
    for (i, found) in list(rule, "subjects").iter().enumerate() {
        subject(&subjects.index(i), found, errors);
    }
    let (resources, others) = (list(rule, "resourceRules"), list(rule, "nonResourceRules"));
    if resources.is_empty() && others.is_empty() {
        let why = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.push(FieldError::required(path, why));
    }
    let at = path.child("resourceRules");
    for (i, rule) in resources.iter().enumerate() {
        resource_rule(&at.index(i), rule, errors);
    }
    let at = path.child("nonResourceRules");
    for (i, rule) in others.iter().enumerate() {
        let at = at.index(i);
        verbs(&at, rule, errors);
        let urls = meta::strings(rule.get("nonResourceURLs"));
        let path = at.child("nonResourceURLs");
        if urls.is_empty() {
            errors.push(FieldError::required(path, "nonResourceURLs must contain at least one value"));
        } else if urls.contains(&"*") {
            if urls.len() > 1 {
                let why = "if '*' is present, must not specify other non-resource URLs";
                errors.push(FieldError::invalid(path, &json!(urls), why));
            }
        } else {
            for (u, url) in urls.into_iter().enumerate() {
                path_rule(&path.index(u), url, errors);
            }
        }
    }
}

/// A path, maybe with a star as its last part.
fn path_rule(path: &Path<'_>, url: &str, errors: &mut Errors) {
    let mut complain = |why: &str| errors.push(FieldError::invalid(path, &url.into(), why));
    match url {
        "" => complain("must not be empty"),
        "/" => {}
        url if !url.starts_with('/') => complain("must start with slash"),
        url if url.contains(' ') => complain("must not contain white-space"),
        url if url.contains("//") => complain("must not contain double slash"),
        url if url.contains('*') && (url.matches('*').count() > 1 || !url.ends_with("/*")) => {
            complain("wildcard can only do suffix matching");
        }
        _ => {}
    }
}

fn subject(path: &Path<'_>, subject: &Value, errors: &mut Errors) {
    const KINDS: [(&str, &str); 3] = [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];
    let kind = text(subject, "kind");
    let Some((_, mine)) = KINDS.iter().find(|(k, _)| *k == kind) else {
        one_of(&path.child("kind"), kind, &["Group", "ServiceAccount", "User"], errors);
        return;
    };
    let at = path.child(mine);
    match given(subject, mine) {
        None => errors.push(FieldError::required(at, &format!("{mine} is required when subject kind is '{kind}'"))),
        Some(named) => {
            let found = text(named, "name");
            if found.is_empty() {
                errors.push(FieldError::required(at.child("name"), ""));
            } else if kind == "ServiceAccount" && found != "*" {
                name(&at.child("name"), found, names::dns1123_subdomain, errors);
            }
            if kind == "ServiceAccount" {
                match text(named, "namespace") {
                    "" => {
                        let why = "must specify namespace for service account";
                        errors.push(FieldError::required(at.child("namespace"), why));
                    }
                    namespace => name(&at.child("namespace"), namespace, names::dns1123_label, errors),
                }
            }
        }
    }
    for (kind, key) in KINDS.iter().filter(|(_, key)| key != mine && given(subject, key).is_some()) {
        let why = format!("{key} is forbidden when subject kind is not '{kind}'");
        errors.push(FieldError::forbidden(path.child(key), &why));
    }
}

fn verbs(path: &Path<'_>, rule: &Value, errors: &mut Errors) {
    let verbs = meta::strings(rule.get("verbs"));
    let path = path.child("verbs");
    if verbs.is_empty() {
        errors.push(FieldError::required(path, "verbs must contain at least one value"));
    } else if verbs.contains(&"*") {
        if verbs.len() > 1 {
            let why = "if '*' is present, must not specify other verbs";
            errors.push(FieldError::invalid(path, &json!(verbs), why));
        }
    } else if !verbs.iter().all(|v| VERBS.contains(v)) {
        errors.push(FieldError::not_supported(path, &json!(verbs), VERBS));
    }
}

fn resource_rule(path: &Path<'_>, rule: &Value, errors: &mut Errors) {
    verbs(path, rule, errors);
    for (key, one, others) in [("apiGroups", "api group", "api groups"), ("resources", "resource", "resources")] {
        let all = meta::strings(rule.get(key));
        if all.is_empty() {
            let why = format!("resource rules must supply at least one {one}");
            errors.push(FieldError::required(path.child(key), &why));
        } else if all.len() > 1 && all.contains(&"*") {
            let why = format!("if '*' is present, must not specify other {others}");
            errors.push(FieldError::invalid(path.child(key), &json!(all), &why));
        }
    }
    let namespaces = meta::strings(rule.get("namespaces"));
    let at = path.child("namespaces");
    let of_cluster = rule.get("clusterScope").and_then(Value::as_bool) == Some(true);
    if namespaces.is_empty() && !of_cluster {
        let why = "resource rules that are not cluster scoped must supply at least one namespace";
        errors.push(FieldError::required(at, why));
    } else if namespaces.contains(&"*") {
        if namespaces.len() > 1 {
            let why = "if '*' is present, must not specify other namespaces";
            errors.push(FieldError::invalid(at, &json!(namespaces), why));
        }
    } else {
        for (i, namespace) in namespaces.into_iter().enumerate() {
            for why in names::dns1123_label(namespace) {
                let why = format!("each member of this list must be '*' or a DNS-1123 label; {why}");
                errors.push(FieldError::invalid(at.index(i), &namespace.into(), &why));
            }
        }
    }
}
