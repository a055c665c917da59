//! Admission policies in CEL and their bindings. That expressions compile is checked where they are evaluated.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, meta, names};
use kiln_cel::Type;
use serde_json::{Value, json};

use super::matching::{self, FAILURE, REINVOCATION};
use crate::registry::rules::{
    Errors, given, list, name, one_of, required, required_name, required_one_of, selector, text,
};
use crate::registry::strategy::{Strategy, Writer, default_to, put, split_status};

const REASONS: &[&str] = &["Forbidden", "Invalid", "RequestEntityTooLarge"];
const ACTIONS: &[&str] = &["Audit", "Deny", "Warn"];
const PATCHES: [(&str, &str); 2] = [("JSONPatch", "jsonPatch"), ("ApplyConfiguration", "applyConfiguration")];
const MAX_ANNOTATIONS: usize = 20;
const MAX_EXPRESSION: usize = 5 * 1024;

pub(crate) struct Policies {
    pub(crate) mutating: bool,
}

impl Strategy for Policies {
    fn default(&self, object: &mut Value) {
        meta::child(object, "spec");
        if let Some(spec) = object.get_mut("spec") {
            default_to(spec, "failurePolicy", "Fail");
        }
        if let Some(matches) = object.pointer_mut("/spec/matchConstraints").filter(|m| m.is_object()) {
            default_matches(matches);
        }
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        if !self.mutating {
            put(object, "status", Some(json!({})));
        }
    }

    fn prepare_update(&self, writer: &Writer<'_>, new: &mut Value, old: &Value) {
        if !self.mutating {
            split_status(writer, new, old);
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let Some(spec) = object.get("spec") else { return errors };
        let path = Path::new("spec");
        let types = crate::policies::variables(self.mutating);
        required_one_of(&path.child("failurePolicy"), text(spec, "failurePolicy"), FAILURE, &mut errors);
        if let Some(kind) = given(spec, "paramKind") {
            param_kind(&path.child("paramKind"), kind, &mut errors);
        }
        let at = path.child("matchConstraints");
        match given(spec, "matchConstraints") {
            None => errors.push(FieldError::required(at, "")),
            Some(matches) => {
                matching::match_resources(&at, matches, &mut errors);
                if list(matches, "resourceRules").is_empty() {
                    errors.push(FieldError::required(at.child("resourceRules"), ""));
                }
                if self.mutating {
                    matching::no_deletes(&at, matches, &mut errors);
                }
            }
        }
        matching::conditions(&path.child("matchConditions"), list(spec, "matchConditions"), &types, &mut errors);
        variables(&path.child("variables"), list(spec, "variables"), &types, &mut errors);
        if self.mutating {
            mutations(&path, spec, &types, &mut errors);
        } else {
            validations(&path, spec, meta::name(object), &types, &mut errors);
        }
        errors
    }

    fn validate_write(&self, writer: &Writer<'_>, new: &Value, _old: &Value) -> Vec<FieldError> {
        if writer.subresource == "status" { Errors::new() } else { self.validate(new) }
    }
}

fn param_kind(path: &Path<'_>, kind: &Value, errors: &mut Errors) {
    let version = text(kind, "apiVersion");
    let at = path.child("apiVersion");
    let mut complain = |shown: &str, why: &str| errors.push(FieldError::invalid(at, &shown.into(), why));
    match version.split_once('/') {
        _ if version.is_empty() => errors.push(FieldError::required(at, "")),
        Some((_, rest)) if rest.contains('/') => {
            complain(version, &format!("unexpected GroupVersion string: {version}"));
        }
        parts => {
            let (group, number) = parts.unwrap_or(("", version));
            let why = names::dns1123_subdomain(group);
            if !group.is_empty() && !why.is_empty() {
                complain(group, &why.join(","));
            }
            let why = names::dns1035_label(number);
            if number.is_empty() {
                complain(version, "version must be specified");
            } else if !why.is_empty() {
                complain(number, &why.join(","));
            }
        }
    }
    let found = text(kind, "kind");
    let why = names::dns1035_label(&found.to_lowercase());
    if found.is_empty() {
        errors.push(FieldError::required(path.child("kind"), ""));
    } else if !why.is_empty() {
        let why = format!("may have mixed case, but should otherwise match: {}", why.join(","));
        errors.push(FieldError::invalid(path.child("kind"), &found.into(), &why));
    }
}

fn variables(path: &Path<'_>, all: &[Value], types: &[(&str, Type)], errors: &mut Errors) {
    for (i, variable) in all.iter().enumerate() {
        let at = path.index(i);
        let found = text(variable, "name");
        let first = found.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let is_name =
            first && found.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !kiln_cel::is_word(found);
        if found.trim().is_empty() {
            errors.push(FieldError::required(at.child("name"), "name is not specified"));
        } else if !is_name {
            errors.push(FieldError::invalid(at.child("name"), &found.into(), "must be a valid CEL identifier"));
        }
        if text(variable, "expression").trim().is_empty() {
            errors.push(FieldError::required(at.child("expression"), "expression is not specified"));
        }
        matching::expression(&at.child("expression"), text(variable, "expression"), types, errors);
    }
}

fn validations(path: &Path<'_>, spec: &Value, policy: &str, types: &[(&str, Type)], errors: &mut Errors) {
    let (all, annotations) = (list(spec, "validations"), list(spec, "auditAnnotations"));
    if all.is_empty() && annotations.is_empty() {
        for key in ["validations", "auditAnnotations"] {
            let why = "validations or auditAnnotations must contain at least one item";
            errors.push(FieldError::required(path.child(key), why));
        }
        return;
    }
    let validations_path = path.child("validations");
    for (i, validation) in all.iter().enumerate() {
        let at = validations_path.index(i);
        if text(validation, "expression").trim().is_empty() {
            errors.push(FieldError::required(at.child("expression"), "expression is not specified"));
        }
        for key in ["expression", "messageExpression"] {
            matching::expression(&at.child(key), text(validation, key), types, errors);
        }
        for key in ["messageExpression", "message"] {
            let message = text(validation, key);
            let why = match message.trim() {
                "" if !message.is_empty() => "must be non-empty if specified",
                said if key == "message" && said.contains('\n') => "must not contain line breaks",
                _ => continue,
            };
            errors.push(FieldError::invalid(at.child(key), &message.into(), why));
        }
        if let Some(reason) = given(validation, "reason").and_then(Value::as_str) {
            one_of(&at.child("reason"), reason, REASONS, errors);
        }
    }
    audit_annotations(&path.child("auditAnnotations"), annotations, policy, errors);
}

fn audit_annotations(path: &Path<'_>, all: &[Value], policy: &str, errors: &mut Errors) {
    if all.len() > MAX_ANNOTATIONS {
        let why = format!("must not have more than {MAX_ANNOTATIONS} auditAnnotations");
        errors.push(FieldError::invalid(path, &json!(all), &why));
    }
    for (i, annotation) in all.iter().enumerate() {
        let at = path.index(i);
        let key = text(annotation, "key");
        name(&at.child("key"), &format!("{policy}/{key}"), names::qualified_name, errors);
        let value = text(annotation, "valueExpression").trim();
        if value.is_empty() {
            errors.push(FieldError::required(at.child("valueExpression"), "valueExpression is not specified"));
        } else if value.len() > MAX_EXPRESSION {
            let why = format!("must not exceed {MAX_EXPRESSION} bytes in length");
            errors.push(FieldError::required(at.child("valueExpression"), &why));
        }
        if all[..i].iter().any(|a| text(a, "key") == key) {
            errors.push(FieldError::duplicate(at.child("key"), &key.into()));
        }
    }
}

fn mutations(path: &Path<'_>, spec: &Value, types: &[(&str, Type)], errors: &mut Errors) {
    let (at, all) = (path.child("mutations"), list(spec, "mutations"));
    if all.is_empty() {
        errors.push(FieldError::required(at, "mutations must contain at least one item"));
    }
    for (i, mutation) in all.iter().enumerate() {
        let at = at.index(i);
        let kind = text(mutation, "patchType");
        let Some((_, mine)) = PATCHES.iter().find(|(k, _)| *k == kind) else {
            required_one_of(&at.child("patchType"), kind, &["ApplyConfiguration", "JSONPatch"], errors);
            continue;
        };
        match given(mutation, mine) {
            None => {
                let why = format!("must be specified when patchType is {kind}");
                errors.push(FieldError::required(at.child(mine), &why));
            }
            Some(patch) => {
                let at = at.child(mine);
                required(&at.child("expression"), text(patch, "expression").trim(), errors);
                matching::expression(&at.child("expression"), text(patch, "expression"), types, errors);
            }
        }
        for (_, other) in PATCHES.iter().filter(|(_, key)| key != mine && given(mutation, key).is_some()) {
            let why = format!("must not be specified when patchType is {kind}");
            errors.push(FieldError::invalid(at.child(other), &format!("{{{other}}}").into(), &why));
        }
    }
    required_one_of(&path.child("reinvocationPolicy"), text(spec, "reinvocationPolicy"), REINVOCATION, errors);
}

pub(crate) struct Bindings {
    pub(crate) mutating: bool,
}

impl Strategy for Bindings {
    fn default(&self, object: &mut Value) {
        meta::child(object, "spec");
        if let Some(matches) = object.pointer_mut("/spec/matchResources").filter(|m| m.is_object()) {
            default_matches(matches);
        }
    }

    fn prepare_update(&self, _writer: &Writer<'_>, _new: &mut Value, _old: &Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let Some(spec) = object.get("spec") else { return errors };
        let path = Path::new("spec");
        required_name(&path.child("policyName"), text(spec, "policyName"), names::dns1123_subdomain, &mut errors);
        if let Some(param) = given(spec, "paramRef") {
            param_ref(&path.child("paramRef"), param, &mut errors);
        }
        if let Some(matches) = given(spec, "matchResources") {
            let at = path.child("matchResources");
            matching::match_resources(&at, matches, &mut errors);
            if self.mutating {
                matching::no_deletes(&at, matches, &mut errors);
            }
        }
        if !self.mutating {
            actions(&path.child("validationActions"), &meta::strings(spec.get("validationActions")), &mut errors);
        }
        errors
    }
}

fn param_ref(path: &Path<'_>, param: &Value, errors: &mut Errors) {
    let both = "name and selector are mutually exclusive";
    let (found, selected) = (text(param, "name"), given(param, "selector"));
    if !found.is_empty() {
        name(&path.child("name"), found, names::path_segment, errors);
        if selected.is_some() {
            errors.push(FieldError::forbidden(path.child("name"), both));
        }
    }
    if let Some(selected) = selected {
        selector::label_selector(&path.child("selector"), selected, errors);
        if !found.is_empty() {
            errors.push(FieldError::forbidden(path.child("selector"), both));
        }
    } else if found.is_empty() {
        errors.push(FieldError::required(path, "one of name or selector must be specified"));
    }
    let action = text(param, "parameterNotFoundAction");
    required_one_of(&path.child("parameterNotFoundAction"), action, &["Deny", "Allow"], errors);
}

fn actions(path: &Path<'_>, all: &[&str], errors: &mut Errors) {
    for (i, action) in all.iter().enumerate() {
        one_of(&path.index(i), action, ACTIONS, errors);
        if all[..i].contains(action) {
            errors.push(FieldError::duplicate(path.index(i), &(*action).into()));
        }
    }
    if all.contains(&"Deny") && all.contains(&"Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API response \
                   and headers serves no purpose)";
        errors.push(FieldError::invalid(path, &json!(all), why));
    }
    if all.is_empty() {
        errors.push(FieldError::required(path, "at least one validation action is required"));
    }
}

fn default_matches(matches: &mut Value) {
    default_to(matches, "matchPolicy", "Equivalent");
    default_to(matches, "namespaceSelector", json!({}));
    default_to(matches, "objectSelector", json!({}));
    for rules in ["resourceRules", "excludeResourceRules"] {
        for rule in matches.get_mut(rules).and_then(Value::as_array_mut).into_iter().flatten() {
            default_to(rule, "scope", "*");
        }
    }
}
