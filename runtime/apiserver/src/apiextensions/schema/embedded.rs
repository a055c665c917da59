//! Objects within objects that are whole resources: their `apiVersion`, `kind` and `metadata` are those that every resource
//! has.

use kiln_apimachinery::gvk::split_api_version;
use kiln_apimachinery::{FieldError, meta, names};
use serde_json::{Map, Value};

use super::{Flags, SchemaRef};

/// Checks the types of the metadata of embedded resources and drops what metadata has not; gives the paths of what was
/// dropped.
pub(crate) fn coerce(schema: SchemaRef<'_>, value: &mut Value) -> Result<Vec<String>, FieldError> {
    let mut unknown = Vec::new();
    walk(schema, value, "", &mut unknown)?;
    unknown.sort_unstable();
    Ok(unknown)
}

fn child(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn walk(schema: SchemaRef<'_>, value: &mut Value, path: &str, unknown: &mut Vec<String>) -> Result<(), FieldError> {
    if !schema.has(Flags::EMBEDS) {
        return Ok(());
    }
    match value {
        Value::Object(map) => {
            if schema.is_embedded() {
                coerce_meta(map, path, unknown)?;
            }
            for (key, value) in map.iter_mut() {
                if let Some(property) = schema.property(key) {
                    walk(property, value, &child(path, key), unknown)?;
                } else if let Some(other) = schema.additional() {
                    walk(other, value, &format!("{path}[{key}]"), unknown)?;
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = schema.items() {
                for (at, value) in list.iter_mut().enumerate() {
                    walk(items, value, &format!("{path}[{at}]"), unknown)?;
                }
            }
        }
        _ => {}
    }
    Ok(())
}

fn coerce_meta(map: &mut Map<String, Value>, path: &str, unknown: &mut Vec<String>) -> Result<(), FieldError> {
    for key in ["apiVersion", "kind"] {
        if let Some(odd) = map.get(key).filter(|v| !v.is_string()) {
            return Err(FieldError::invalid(child(path, key), odd, "must be a string"));
        }
    }
    let Some(metadata) = map.get_mut("metadata") else { return Ok(()) };
    let Some(ty) = kiln_schema::builtin().named("meta.v1.ObjectMeta") else { return Ok(()) };
    let at = child(path, "metadata");
    let shown = metadata.clone();
    match kiln_schema::decode::check(ty, metadata) {
        Ok(findings) => unknown.extend(findings.unknown.iter().map(|f| format!("{at}.{f}"))),
        Err(why) => return Err(FieldError::invalid(at, &shown, &why)),
    }
    Ok(())
}

/// Complaints about the kinds and metadata of embedded resources.
pub(crate) fn validate(schema: SchemaRef<'_>, value: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    look(schema, value, "", &mut errors);
    errors
}

fn look(schema: SchemaRef<'_>, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if !schema.has(Flags::EMBEDS) {
        return;
    }
    match value {
        Value::Object(map) => {
            if schema.is_embedded() {
                resource(value, path, errors);
            }
            for (key, value) in map {
                if let Some(property) = schema.property(key) {
                    look(property, value, &child(path, key), errors);
                } else if let Some(other) = schema.additional() {
                    look(other, value, &format!("{path}[{key}]"), errors);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = schema.items() {
                list.iter().enumerate().for_each(|(at, value)| look(items, value, &format!("{path}[{at}]"), errors));
            }
        }
        _ => {}
    }
}

fn resource(object: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let at = child(path, "apiVersion");
    match object.get("apiVersion") {
        None => errors.push(FieldError::required(at, "")),
        Some(Value::String(text)) if text.is_empty() => {
            errors.push(FieldError::invalid(at, &"".into(), "must not be empty"));
        }
        Some(Value::String(text)) if split_api_version(text).is_none() => {
            let why = format!("unexpected GroupVersion string: {text}");
            errors.push(FieldError::invalid(at, &text.as_str().into(), &why));
        }
        Some(Value::String(_)) => {}
        Some(odd) => errors.push(FieldError::invalid(at, odd, "must be a string")),
    }
    let at = child(path, "kind");
    match object.get("kind") {
        None => errors.push(FieldError::required(at, "")),
        Some(Value::String(text)) if text.is_empty() => {
            errors.push(FieldError::invalid(at, &"".into(), "must not be empty"));
        }
        Some(Value::String(text)) => {
            let why = names::dns1035_label(&text.to_lowercase());
            if !why.is_empty() {
                let why = format!("may have mixed case, but should otherwise match: {}", why.join(","));
                errors.push(FieldError::invalid(at, &text.as_str().into(), &why));
            }
        }
        Some(odd) => errors.push(FieldError::invalid(at, odd, "must be a string")),
    }
    if let Some(metadata) = object.get("metadata") {
        let mut named = serde_json::json!({ "metadata": metadata });
        if meta::name(&named).is_empty() {
            // Embedded resources need no name.
            meta::metadata_mut(&mut named).insert("name".into(), "fakename".into());
        }
        let namespaced = !meta::namespace(&named).is_empty();
        let found = meta::validate(&named, namespaced, names::path_segment);
        errors.extend(found.into_iter().map(|mut error| {
            error.field = child(path, &error.field);
            error
        }));
    }
}
