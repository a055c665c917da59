//! The names of a kind.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, meta, names};
use serde_json::Value;

use crate::registry::rules::Errors;

/// The rules for names that are there.
pub(super) fn check(path: &Path<'_>, found: &Value, errors: &mut Errors) {
    let text = |key: &str| meta::text(found, &[key]);
    for key in ["plural", "singular"] {
        label(&path.child(key), text(key), text(key), "", errors);
    }
    for key in ["kind", "listKind"] {
        let mixed = "may have mixed case, but should otherwise match: ";
        label(&path.child(key), text(key), &text(key).to_lowercase(), mixed, errors);
    }
    list(&path.child("shortNames"), found.get("shortNames"), errors);
    if !text("kind").is_empty() && text("kind") == text("listKind") {
        let why = "kind and listKind may not be the same";
        errors.push(FieldError::invalid(path.child("listKind"), &text("listKind").into(), why));
    }
    list(&path.child("categories"), found.get("categories"), errors);
}

fn label(path: &Path<'_>, shown: &str, name: &str, before: &str, errors: &mut Errors) {
    let why = names::dns1035_label(name);
    if !name.is_empty() && !why.is_empty() {
        errors.push(FieldError::invalid(path, &shown.into(), &format!("{before}{}", why.join(","))));
    }
}

fn list(path: &Path<'_>, found: Option<&Value>, errors: &mut Errors) {
    for (at, name) in meta::strings(found).into_iter().enumerate() {
        let why = names::dns1035_label(name);
        if !why.is_empty() {
            errors.push(FieldError::invalid(path.index(at), &name.into(), &why.join(",")));
        }
    }
}
