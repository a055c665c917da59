//! What makes a schema structural: every value has a type outside of `allOf`, `anyOf`, `oneOf` and `not`, and inside of
//! those nothing but rules for values stands.

use kiln_apimachinery::FieldError;
use kiln_apimachinery::path::Path;
use regex_lite::Regex;
use serde_json::{Map, Value, json};

use crate::registry::rules::Errors;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Complaints about a schema that is not structural.
pub(crate) fn check(path: &Path<'_>, schema: &Value) -> Errors {
    let mut errors = Errors::new();
    invariants(path, schema, Level::Root, &mut errors);
    complete(path, schema, schema, &mut errors);
    errors.sort_by_key(ToString::to_string);
    errors
}

fn yes(schema: &Value, key: &str) -> bool {
    schema.get(key) == Some(&Value::Bool(true))
}

fn text<'v>(schema: &'v Value, key: &str) -> &'v str {
    schema.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn map<'v>(schema: &'v Value, key: &str) -> impl Iterator<Item = (&'v String, &'v Value)> {
    schema.get(key).and_then(Value::as_object).into_iter().flatten()
}

fn list<'v>(schema: &'v Value, key: &str) -> &'v [Value] {
    schema.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn object<'v>(schema: &'v Value, key: &str) -> Option<&'v Value> {
    schema.get(key).filter(|v| v.is_object())
}

/// `anyOf` of a number and a text, which a schema of both may have.
fn is_int_or_string(of: &Value) -> bool {
    of.get("anyOf") == Some(&json!([{"type": "integer"}, {"type": "string"}]))
}

fn invariants(path: &Path<'_>, schema: &Value, level: Level, errors: &mut Errors) {
    let kind = text(schema, "type");
    match object(schema, "items") {
        Some(items) => invariants(&path.child("items"), items, Level::Item, errors),
        None if kind == "array" => errors.push(FieldError::required(path.child("items"), "must be specified")),
        None => {}
    }
    let properties = path.child("properties");
    for (name, property) in map(schema, "properties") {
        invariants(&properties.key(name), property, Level::Field, errors);
    }
    let additional = schema.get("additionalProperties").filter(|a| !a.is_null());
    if let Some(additional) = additional {
        let at = path.child("additionalProperties");
        if level == Level::Root {
            errors.push(FieldError::forbidden(at, "must not be used at the root"));
        }
        if additional.is_object() {
            invariants(&at, additional, Level::Field, errors);
        }
    }
    extensions(path, schema, errors);
    let skip_any = is_int_or_string(schema);
    let skip_first = list(schema, "allOf").first().is_some_and(is_int_or_string);
    values(path, schema, (skip_any, skip_first), level, errors);
    of_type(path, schema, level, additional.is_some(), errors);
    let embedded = yes(schema, "x-kubernetes-embedded-resource");
    let whole = level == Level::Root || embedded;
    for (name, property) in map(schema, "properties") {
        let at = properties.key(name);
        match name.as_str() {
            "kind" | "apiVersion" if whole && text(property, "type") != "string" => {
                errors.push(FieldError::invalid(at.child("type"), &text(property, "type").into(), "must be string"));
            }
            "metadata" => metadata(&at, property, whole, level, errors),
            _ => {}
        }
    }
    let none = map(schema, "properties").next().is_none();
    if embedded && none && !yes(schema, "x-kubernetes-preserve-unknown-fields") {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without \
                   x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(properties, why));
    }
}

fn extensions(path: &Path<'_>, schema: &Value, errors: &mut Errors) {
    if !yes(schema, "x-kubernetes-int-or-string") {
        return;
    }
    for key in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
        if yes(schema, key) {
            let why = "must be false if x-kubernetes-int-or-string is true";
            errors.push(FieldError::invalid(path.child(key), &true.into(), why));
        }
    }
}

fn of_type(path: &Path<'_>, schema: &Value, level: Level, additional: bool, errors: &mut Errors) {
    let (kind, at) = (text(schema, "type"), path.child("type"));
    let embedded = yes(schema, "x-kubernetes-embedded-resource");
    let any = yes(schema, "x-kubernetes-int-or-string") || yes(schema, "x-kubernetes-preserve-unknown-fields");
    if embedded && kind != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        match kind {
            "" => errors.push(FieldError::required(at, why)),
            kind => errors.push(FieldError::invalid(at, &kind.into(), why)),
        }
    } else if kind.is_empty() && !any {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(at, why));
    }
    if embedded && additional {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(FieldError::forbidden(path.child("additionalProperties"), why));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.push(FieldError::invalid(at, &kind.into(), "must be object at the root"));
    }
}

/// Of metadata only the names may be restricted.
fn metadata(path: &Path<'_>, schema: &Value, whole: bool, level: Level, errors: &mut Errors) {
    if whole && text(schema, "type") != "object" {
        errors.push(FieldError::invalid(path.child("type"), &text(schema, "type").into(), "must be object"));
    }
    let plain = |schema: &Value| {
        let names = map(schema, "properties").all(|(name, _)| matches!(name.as_str(), "name" | "generateName"));
        let others = schema
            .as_object()
            .is_some_and(|m| m.keys().all(|k| matches!(k.as_str(), "type" | "properties" | "default")));
        names && others
    };
    if level == Level::Root && !plain(schema) {
        let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(FieldError::forbidden(path, why));
    }
}

fn values(path: &Path<'_>, schema: &Value, (skip_any, skip_first): (bool, bool), level: Level, errors: &mut Errors) {
    for key in ["anyOf", "allOf", "oneOf"] {
        if key == "anyOf" && skip_any {
            continue;
        }
        let at = path.child(key);
        for (i, nested) in list(schema, key).iter().enumerate() {
            let skip = key == "allOf" && i == 0 && skip_first;
            nested_values(&at.index(i), nested, skip, level, errors);
        }
    }
    if let Some(not) = object(schema, "not") {
        nested_values(&path.child("not"), not, false, level, errors);
    }
    let pattern = text(schema, "pattern");
    if let Err(why) = Regex::new(pattern)
        // Classes of letters are known to the reference and not to this engine; such patterns are let be.
        && !pattern.contains("\\p")
        && !pattern.contains("\\P")
    {
        let why = format!("must be a valid regular expression, but isn't: error parsing regexp: {why}");
        errors.push(FieldError::invalid(path.child("pattern"), &pattern.into(), &why));
    }
}

fn nested_values(path: &Path<'_>, schema: &Value, skip_any: bool, level: Level, errors: &mut Errors) {
    values(path, schema, (skip_any, false), level, errors);
    if let Some(items) = object(schema, "items") {
        nested_values(&path.child("items"), items, false, level, errors);
    }
    let properties = path.child("properties");
    for (name, property) in map(schema, "properties") {
        nested_values(&properties.key(name), property, false, Level::Field, errors);
    }
    let mut forbid = |key: &str, why: &str| errors.push(FieldError::forbidden(path.child(key), why));
    for (key, why) in [
        ("type", "must be empty to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
    ] {
        if !text(schema, key).is_empty() {
            forbid(key, why);
        }
    }
    for key in ["additionalProperties", "default", "x-kubernetes-list-type", "x-kubernetes-map-type"] {
        if schema.get(key).is_some_and(|v| !v.is_null()) {
            forbid(key, "must be undefined to be structural");
        }
    }
    for key in [
        "nullable",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
        "x-kubernetes-int-or-string",
    ] {
        if yes(schema, key) {
            forbid(key, "must be false to be structural");
        }
    }
    for key in ["x-kubernetes-list-map-keys", "x-kubernetes-validations"] {
        if !list(schema, key).is_empty() {
            forbid(key, "must be empty to be structural");
        }
    }
    if map(schema, "properties").any(|(name, _)| name == "metadata") {
        errors.push(FieldError::forbidden(properties.key("metadata"), "must not be specified in a nested context"));
    }
}

/// Whatever is spoken of inside of junctors must be described outside of them.
fn complete(path: &Path<'_>, schema: &Value, skeleton: &Value, errors: &mut Errors) {
    for key in ["allOf", "anyOf", "oneOf"] {
        let at = path.child(key);
        for (i, nested) in list(schema, key).iter().enumerate() {
            spoken_of(&at.index(i), nested, skeleton, errors);
        }
    }
    if let Some(not) = object(schema, "not") {
        spoken_of(&path.child("not"), not, skeleton, errors);
    }
    if let Some(items) = object(schema, "items") {
        complete(&path.child("items"), items, items, errors);
    }
    let properties = path.child("properties");
    for (name, property) in map(schema, "properties") {
        complete(&properties.key(name), property, property, errors);
    }
    if let Some(additional) = object(schema, "additionalProperties") {
        complete(&path.child("additionalProperties"), additional, additional, errors);
    }
}

fn spoken_of(path: &Path<'_>, nested: &Value, at: &Value, errors: &mut Errors) {
    let empty = Map::new();
    for key in ["allOf", "anyOf", "oneOf"] {
        let path = path.child(key);
        for (i, deeper) in list(nested, key).iter().enumerate() {
            spoken_of(&path.index(i), deeper, at, errors);
        }
    }
    if let Some(not) = object(nested, "not") {
        spoken_of(&path.child("not"), not, at, errors);
    }
    if let Some(items) = object(nested, "items") {
        match object(at, "items") {
            Some(described) => spoken_of(&path.child("items"), items, described, errors),
            None => missing(path, "items", errors),
        }
    }
    let described = at.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    let properties = path.child("properties");
    for (name, property) in map(nested, "properties") {
        match described.get(name) {
            Some(found) => spoken_of(&properties.key(name), property, found, errors),
            None => missing(&properties, name, errors),
        }
    }
}

fn missing(path: &Path<'_>, name: &str, errors: &mut Errors) {
    // The complaint is about the place where the description is missing.
    let full = path.to_string();
    let mut outside = String::new();
    let mut rest = full.as_str();
    while let Some(at) = ["allOf[", "anyOf[", "oneOf["].iter().filter_map(|w| rest.find(w)).min() {
        outside.push_str(rest[..at].trim_end_matches('.'));
        rest = rest[at..].split_once(']').map_or("", |(_, after)| after);
    }
    outside.push_str(rest);
    let outside = outside.replace(".not", "");
    let field = if name == "items" { format!("{outside}.items") } else { format!("{outside}[{name}]") };
    let why = format!(
        "because it is defined in {full}{}",
        if name == "items" { ".items".into() } else { format!("[{name}]") }
    );
    errors.push(FieldError::required(field, &why));
}
