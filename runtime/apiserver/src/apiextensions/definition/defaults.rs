//! Defaults must be as the schema wants values.

use kiln_apimachinery::FieldError;
use kiln_apimachinery::path::Path;
use serde_json::{Value, json};

use crate::apiextensions::schema::{self, SchemaRef};
use crate::registry::rules::Errors;

/// Complaints about the defaults of a schema.
pub(super) fn check(path: &Path<'_>, root: SchemaRef<'_>, errors: &mut Errors) {
    walk(path, root, true, false, errors);
}

fn walk(path: &Path<'_>, at: SchemaRef<'_>, root: bool, inside_meta: bool, errors: &mut Errors) {
    if let Some(default) = at.default().filter(|_| !inside_meta) {
        of(&path.child("default"), at, default, errors);
    }
    if let Some(items) = at.items() {
        walk(&path.child("items"), items, false, inside_meta, errors);
    }
    let properties = path.child("properties");
    for (name, property) in at.properties() {
        // Metadata has rules of its own.
        let inside = (root || at.is_embedded()) && matches!(name, "metadata" | "kind" | "apiVersion");
        walk(&properties.key(name), property, false, inside || (inside_meta && !at.is_embedded()), errors);
    }
}

fn of(path: &Path<'_>, at: SchemaRef<'_>, default: &Value, errors: &mut Errors) {
    // Pruning is of whole objects, so the value becomes a field of one whose schema is the field's.
    let mut pruned = default.clone();
    schema::prune_value(at, &mut pruned);
    if pruned != *default {
        errors.push(FieldError::invalid(path, default, "must not have unknown fields"));
    }
    let place = path.to_string();
    let mut coerced = default.clone();
    if let Err(mut error) = schema::coerce(at, &mut coerced) {
        error.field = format!("{place}.{}", error.field);
        errors.push(error);
        return;
    }
    let embedded = schema::validate_embedded(at, &json!(coerced));
    if !embedded.is_empty() {
        errors.extend(embedded.into_iter().map(|mut error| {
            error.field = format!("{place}.{}", error.field);
            error
        }));
        return;
    }
    errors.extend(schema::check(at, default, &place));
}
