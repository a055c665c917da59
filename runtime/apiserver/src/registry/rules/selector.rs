//! Selectors by labels, of objects and of nodes.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, names};
use serde_json::Value;

use super::{Errors, labels, list, name, text};

/// A label selector.
pub(crate) fn label_selector(path: &Path<'_>, selector: &Value, errors: &mut Errors) {
    labels(&path.child("matchLabels"), selector.get("matchLabels"), errors);
    let expressions = path.child("matchExpressions");
    for (i, requirement) in list(selector, "matchExpressions").iter().enumerate() {
        let path = expressions.index(i);
        let values = list(requirement, "values");
        match text(requirement, "operator") {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(FieldError::required(path.child("values"), why));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(FieldError::forbidden(path.child("values"), why));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                let why = "not a valid selector operator";
                errors.push(FieldError::invalid(path.child("operator"), &other.into(), why));
            }
        }
        name(&path.child("key"), text(requirement, "key"), names::qualified_name, errors);
        let values_path = path.child("values");
        for (v, value) in values.iter().filter_map(Value::as_str).enumerate() {
            for why in names::label_value(value) {
                errors.push(FieldError::invalid(values_path.index(v), &value.into(), &why));
            }
        }
    }
}

/// A node selector: any of its terms selects.
pub(crate) fn node_selector(path: &Path<'_>, selector: &Value, errors: &mut Errors) {
    let terms = path.child("nodeSelectorTerms");
    if list(selector, "nodeSelectorTerms").is_empty() {
        errors.push(FieldError::required(terms, "must have at least one node selector term"));
    }
    for (i, term) in list(selector, "nodeSelectorTerms").iter().enumerate() {
        node_selector_term(&terms.index(i), term, errors);
    }
}

fn node_selector_term(path: &Path<'_>, term: &Value, errors: &mut Errors) {
    let expressions = path.child("matchExpressions");
    for (i, requirement) in list(term, "matchExpressions").iter().enumerate() {
        let path = expressions.index(i);
        operator(&path, requirement, errors);
        name(&path.child("key"), text(requirement, "key"), names::qualified_name, errors);
        let values = path.child("values");
        if matches!(text(requirement, "operator"), "In" | "NotIn") {
            for (v, value) in list(requirement, "values").iter().filter_map(Value::as_str).enumerate() {
                for why in names::label_value(value) {
                    errors.push(FieldError::invalid(values.index(v), &value.into(), &why));
                }
            }
        }
    }
    let fields = path.child("matchFields");
    for (i, requirement) in list(term, "matchFields").iter().enumerate() {
        let path = fields.index(i);
        let values = list(requirement, "values");
        match text(requirement, "operator") {
            "In" | "NotIn" if values.len() != 1 => {
                let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errors.push(FieldError::required(path.child("values"), why));
            }
            "In" | "NotIn" => {}
            other => {
                let why = "not a valid selector operator";
                errors.push(FieldError::invalid(path.child("operator"), &other.into(), why));
            }
        }
        match text(requirement, "key") {
            "metadata.name" => {
                let values_path = path.child("values");
                for (v, value) in values.iter().filter_map(Value::as_str).enumerate() {
                    name(&values_path.index(v), value, names::dns1123_subdomain, errors);
                }
            }
            other => {
                let why = "not a valid field selector key";
                errors.push(FieldError::invalid(path.child("key"), &other.into(), why));
            }
        }
    }
}

fn operator(path: &Path<'_>, requirement: &Value, errors: &mut Errors) {
    let count = list(requirement, "values").len();
    let values = path.child("values");
    match text(requirement, "operator") {
        "In" | "NotIn" if count == 0 => {
            errors.push(FieldError::required(values, "must be specified when `operator` is 'In' or 'NotIn'"));
        }
        "Exists" | "DoesNotExist" if count > 0 => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(values, why));
        }
        "Gt" | "Lt" if count != 1 => {
            let why = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            errors.push(FieldError::required(values, why));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => {
            let why = "not a valid selector operator";
            errors.push(FieldError::invalid(path.child("operator"), &other.into(), why));
        }
    }
}

/// The terms by which a class says where its volumes may be.
pub(crate) fn topology_terms(path: &Path<'_>, terms: &[Value], errors: &mut Errors) {
    let mut seen: Vec<Vec<(&str, Vec<&str>)>> = Vec::new();
    for (i, term) in terms.iter().enumerate() {
        let term_path = path.index(i);
        let expressions_path = term_path.child("matchLabelExpressions");
        let mut map: Vec<(&str, Vec<&str>)> = Vec::new();
        for (j, requirement) in list(term, "matchLabelExpressions").iter().enumerate() {
            let path = expressions_path.index(j);
            let values_path = path.child("values");
            let mut values = kiln_apimachinery::meta::strings(requirement.get("values"));
            if values.is_empty() {
                errors.push(FieldError::required(values_path, ""));
            }
            for (v, value) in values.iter().enumerate() {
                if values[..v].contains(value) {
                    errors.push(FieldError::duplicate(values_path.index(v), &(*value).into()));
                }
            }
            let key = text(requirement, "key");
            name(&path.child("key"), key, names::qualified_name, errors);
            if map.iter().any(|(k, _)| *k == key) {
                errors.push(FieldError::duplicate(path.child("key"), &key.into()));
            }
            values.sort_unstable();
            map.push((key, values));
        }
        map.sort();
        if seen.contains(&map) {
            errors.push(FieldError::duplicate(term_path.child("matchLabelExpressions"), &"".into()));
        }
        seen.push(map);
    }
}
