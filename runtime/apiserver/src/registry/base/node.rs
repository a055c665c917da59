//! Nodes: pod CIDRs that are set once, taints that make sense, capacities that are quantities.

use kiln_apimachinery::{FieldError, meta, names};
use serde_json::{Value, json};

use crate::registry::strategy::{Strategy, immutable};

const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(crate) struct Nodes;

impl Strategy for Nodes {
    fn default(&self, object: &mut Value) {
        meta::child(object, "spec");
        let status = meta::child(object, "status");
        // A node that does not say what pods may use of it lets them use all.
        if !status.contains_key("allocatable")
            && let Some(capacity) = status.get("capacity").cloned()
        {
            status.insert("allocatable".into(), capacity);
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let taints = meta::at(object, &["spec", "taints"]).and_then(Value::as_array);
        let mut seen: Vec<(&str, &str)> = Vec::new();
        for (i, taint) in taints.into_iter().flatten().enumerate() {
            let path = format!("spec.taints[{i}]");
            let (key, effect) = (meta::text(taint, &["key"]), meta::text(taint, &["effect"]));
            if key.is_empty() {
                errors.push(FieldError::required(format!("{path}.key"), "name part must be non-empty"));
            }
            for why in names::qualified_name(key).into_iter().filter(|_| !key.is_empty()) {
                errors.push(FieldError::invalid(format!("{path}.key"), &key.into(), &why));
            }
            let value = meta::text(taint, &["value"]);
            for why in names::label_value(value) {
                errors.push(FieldError::invalid(format!("{path}.value"), &value.into(), &why));
            }
            match effect {
                "" => errors.push(FieldError::required(format!("{path}.effect"), "")),
                e if !EFFECTS.contains(&e) => {
                    errors.push(FieldError::not_supported(format!("{path}.effect"), &e.into(), EFFECTS))
                }
                _ => {}
            }
            if seen.contains(&(key, effect)) {
                errors.push(FieldError::duplicate(path, taint));
            }
            seen.push((key, effect));
        }
        for field in ["capacity", "allocatable"] {
            for (resource, value) in
                meta::at(object, &["status", field]).and_then(Value::as_object).into_iter().flatten()
            {
                if !is_quantity(value) {
                    let why =
                        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
                    errors.push(FieldError::invalid(format!("status.{field}.{resource}"), value, why));
                }
            }
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for path in [["spec", "podCIDR"], ["spec", "podCIDRs"]] {
            if meta::at(old, &path).is_some_and(|v| *v != json!("") && *v != json!([]))
                && meta::at(new, &path) != meta::at(old, &path)
            {
                errors.push(FieldError::forbidden(
                    path.join("."),
                    "node updates may not change podCIDR except from \"\" to valid",
                ));
            }
        }
        if !meta::text(old, &["spec", "providerID"]).is_empty() {
            immutable(new, old, &["spec", "providerID"], &mut errors);
        }
        errors
    }
}

/// A decimal number with an optional suffix such as `Mi`, `m` or `e3`.
fn is_quantity(value: &Value) -> bool {
    let Some(text) = value.as_str() else { return value.is_number() };
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let digits = number.bytes().any(|b| b.is_ascii_digit()) && number.matches('.').count() <= 1;
    let exponent = |s: &str| s.strip_prefix(['e', 'E']).is_some_and(|e| e.parse::<i32>().is_ok());
    let known = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    digits && (known.contains(&suffix) || exponent(suffix))
}
