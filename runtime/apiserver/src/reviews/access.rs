//! `SubjectAccessReview` and its kin: may somebody do this.

use std::collections::BTreeMap;

use kiln_apimachinery::selector::{FieldSelector, FieldTerm, LabelSelector};
use kiln_apimachinery::{FieldError, Status, meta, names};
use serde_json::{Value, json};

use super::Review;
use crate::admission;
use crate::authz::{Attributes, decide};
use crate::user::UserInfo;
use crate::verbs::Cx;

pub(super) async fn answer(cx: &Cx<'_>, review: Review, object: &mut Value) -> Result<Value, Status> {
    let errors = validate(review, object);
    if !errors.is_empty() {
        return Err(Status::invalid(&cx.resource.gvk(), "", &errors));
    }
    admission::create(cx, object).await?;
    let spec = &object["spec"];
    let (asked, ignored) = attributes(spec);
    let subject = match review {
        Review::SelfAccess => cx.user.clone(),
        _ => subject(spec),
    };
    let decision = decide(cx.server, &subject, &asked).await?;
    let mut status = json!({"allowed": decision.allowed});
    if !decision.reason.is_empty() {
        status["reason"] = decision.reason.into();
    }
    if !ignored.is_empty() {
        status["evaluationError"] = ignored.join("; ").into();
    }
    Ok(status)
}

fn validate(review: Review, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let present = |key: &str| meta::at(object, &["spec", key]).filter(|v| v.is_object());
    let (resource, other) = (present("resourceAttributes"), present("nonResourceAttributes"));
    match (resource, other) {
        (Some(_), Some(other)) => errors.push(FieldError::invalid(
            "spec.nonResourceAttributes",
            other,
            "cannot be specified in combination with resourceAttributes",
        )),
        (None, None) => errors.push(FieldError::invalid(
            "spec.resourceAttributes",
            &"null".into(),
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
        _ => {}
    }
    let user = meta::text(object, &["spec", "user"]);
    let groups = meta::strings(meta::at(object, &["spec", "groups"]));
    if review != Review::SelfAccess && user.is_empty() && groups.is_empty() {
        errors.push(FieldError::invalid("spec.user", &user.into(), "at least one of user or group must be specified"));
    }
    if let Some(resource) = resource {
        selector("fieldSelector", resource, &mut errors);
        selector("labelSelector", resource, &mut errors);
    }
    let local = review == Review::LocalAccess;
    let metadata = object.get("metadata").and_then(Value::as_object);
    let set = |key: &String| key != "managedFields" && !(local && key == "namespace");
    if metadata.is_some_and(|m| m.iter().any(|(k, v)| set(k) && !v.is_null() && v != "")) {
        let why = if local { "must be empty except for namespace" } else { "must be empty" };
        errors.push(FieldError::invalid("metadata", &object["metadata"], why));
    }
    if local {
        let namespace = resource.map(|r| meta::text(r, &["namespace"]));
        if let Some(namespace) = namespace.filter(|n| *n != meta::namespace(object)) {
            let field = "spec.resourceAttributes.namespace";
            errors.push(FieldError::invalid(field, &namespace.into(), "must match metadata.namespace"));
        }
        if let Some(other) = other {
            let field = "spec.nonResourceAttributes";
            errors.push(FieldError::invalid(field, other, "disallowed on this kind of request"));
        }
    }
    errors
}

/// The rules for one of the two selectors.
fn selector(key: &str, resource: &Value, errors: &mut Vec<FieldError>) {
    let Some(selector) = resource.get(key).filter(|s| s.is_object()) else { return };
    let path = format!("spec.resourceAttributes.{key}");
    let raw = meta::text(selector, &["rawSelector"]);
    let requirements = requirements(selector);
    if !raw.is_empty() && !requirements.is_empty() {
        let why = "may not specified at the same time as requirements";
        errors.push(FieldError::invalid(format!("{path}.rawSelector"), &raw.into(), why));
    }
    if raw.is_empty() && requirements.is_empty() {
        let why = format!("when {path} is specified, requirements or rawSelector is required");
        errors.push(FieldError::required(format!("{path}.requirements"), &why));
    }
    for (i, requirement) in requirements.iter().enumerate() {
        let path = format!("{path}.requirements[{i}]");
        let name = meta::text(requirement, &["key"]);
        let values = meta::strings(requirement.get("values"));
        let labels = key == "labelSelector";
        if !labels && name.is_empty() {
            errors.push(FieldError::required(format!("{path}.key"), "must be specified"));
        }
        match meta::text(requirement, &["operator"]) {
            "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
                format!("{path}.values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
                format!("{path}.values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            // Newer clients may know operators that this server does not.
            _ => {}
        }
        if labels {
            for why in names::qualified_name(name) {
                errors.push(FieldError::invalid(format!("{path}.key"), &name.into(), &why));
            }
            for (i, value) in values.iter().enumerate() {
                for why in names::label_value(value) {
                    errors.push(FieldError::invalid(format!("{path}.values[{i}]"), &(*value).into(), &why));
                }
            }
        }
    }
}

fn requirements(selector: &Value) -> &[Value] {
    selector.get("requirements").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// What is asked, and what of it could not be understood.
fn attributes(spec: &Value) -> (Attributes, Vec<&'static str>) {
    let text = |path: &[&str]| meta::text(spec, path).to_owned();
    let Some(resource) = spec.get("resourceAttributes").filter(|r| r.is_object()) else {
        let other = Attributes {
            verb: text(&["nonResourceAttributes", "verb"]),
            path: text(&["nonResourceAttributes", "path"]),
            ..Attributes::default()
        };
        return (other, Vec::new());
    };
    let field = |key: &str| meta::text(resource, &[key]).to_owned();
    let mut ignored = Vec::new();
    let (fields, bad) = field_terms(resource);
    match (bad, fields.is_empty()) {
        (true, true) => ignored.push("spec.resourceAttributes.fieldSelector ignored due to parse error"),
        (true, false) => ignored.push("spec.resourceAttributes.fieldSelector partially ignored due to parse error"),
        _ => {}
    }
    ignored.extend(label_problem(resource));
    let asked = Attributes {
        verb: field("verb"),
        namespace: field("namespace"),
        group: field("group"),
        resource: field("resource"),
        subresource: field("subresource"),
        name: field("name"),
        path: String::new(),
        is_resource: true,
        fields,
        labels: String::new(),
    };
    (asked, ignored)
}

/// The terms of the field selector, and whether some were left out.
fn field_terms(resource: &Value) -> (Vec<FieldTerm>, bool) {
    let Some(selector) = resource.get("fieldSelector").filter(|s| s.is_object()) else { return (Vec::new(), false) };
    let raw = meta::text(selector, &["rawSelector"]);
    if !raw.is_empty() {
        return FieldSelector::parse(raw).map_or((Vec::new(), true), |s| (s.terms, false));
    }
    let term = |r: &Value| {
        let equal = match meta::text(r, &["operator"]) {
            "In" => true,
            "NotIn" => false,
            _ => return None,
        };
        let [value] = meta::strings(r.get("values"))[..] else { return None };
        Some(FieldTerm { field: meta::text(r, &["key"]).into(), value: value.into(), equal })
    };
    let all = requirements(selector);
    let terms: Vec<FieldTerm> = all.iter().filter_map(term).collect();
    let bad = terms.len() < all.len();
    (terms, bad)
}

fn label_problem(resource: &Value) -> Option<&'static str> {
    let selector = resource.get("labelSelector").filter(|s| s.is_object())?;
    let raw = meta::text(selector, &["rawSelector"]);
    if !raw.is_empty() {
        let failed = LabelSelector::parse(raw).is_err();
        return failed.then_some("spec.resourceAttributes.labelSelector ignored due to parse error");
    }
    let all = requirements(selector);
    let known = |r: &&Value| matches!(meta::text(r, &["operator"]), "In" | "NotIn" | "Exists" | "DoesNotExist");
    match all.iter().filter(known).count() {
        good if good == all.len() => None,
        0 => Some("spec.resourceAttributes.labelSelector ignored due to parse error"),
        _ => Some("spec.resourceAttributes.labelSelector partially ignored due to parse error"),
    }
}

fn subject(spec: &Value) -> UserInfo {
    let owned = |v: Option<&Value>| meta::strings(v).into_iter().map(Into::into).collect::<Vec<String>>();
    let extra = spec.get("extra").and_then(Value::as_object).into_iter().flatten();
    UserInfo {
        name: meta::text(spec, &["user"]).into(),
        uid: meta::text(spec, &["uid"]).into(),
        groups: owned(spec.get("groups")),
        extra: extra.map(|(k, v)| (k.clone(), owned(Some(v)))).collect::<BTreeMap<_, _>>(),
    }
}
