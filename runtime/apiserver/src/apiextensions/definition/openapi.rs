//! The rules for a definition's `openAPIV3Schema`.

use kiln_apimachinery::FieldError;
use kiln_apimachinery::path::Path;
use serde_json::{Value, json};

use super::{defaults, structural};
use crate::apiextensions::schema::Schema;
use crate::registry::rules::Errors;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const REASONS: [&str; 4] = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
const META: [&str; 3] = ["metadata", "kind", "apiVersion"];
/// What may stand at the root of a schema whose status is validated apart, and what the reference calls it.
const AT_ROOT: &[&str] = &[
    "description",
    "type",
    "format",
    "title",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "multipleOf",
    "required",
    "items",
    "properties",
    "externalDocs",
    "example",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];
const AT_ROOT_WORDS: &str = "[Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength \
    MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example \
    XPreserveUnknownFields XValidations]";

/// What is to be asked of a schema.
pub(super) struct Options {
    status: bool,
    /// The schema was let through before as it is.
    unchanged: bool,
}

impl Options {
    /// `before` is the same version's schema in the stored definition.
    pub(super) fn of(schema: &Value, status: bool, before: Option<&Value>) -> Self {
        Self { status, unchanged: before == Some(schema) }
    }
}

/// Complaints about a schema.
pub(super) fn check(path: &Path<'_>, schema: &Value, options: &Options, errors: &mut Errors) {
    if options.unchanged {
        return;
    }
    let found = errors.len();
    if options.status {
        root(path, schema, errors);
    }
    if schema.get("nullable") == Some(&Value::Bool(true)) {
        errors.push(FieldError::forbidden(path.child("nullable"), "nullable cannot be true at the root"));
    }
    let loose = structural::check(path, schema);
    if loose.is_empty() {
        defaults::check(path, Schema::read(schema).root(), errors);
    } else {
        errors.extend(loose);
    }
    let walk = Walk { defaults: Ok(()), in_meta: false };
    walk.schema(path, schema, true, errors);
    if errors.len() == found {
        super::rules::check(path, schema, errors);
    }
}

fn root(path: &Path<'_>, schema: &Value, errors: &mut Errors) {
    let kind = schema.get("type").and_then(Value::as_str).unwrap_or_default();
    if !kind.is_empty() && kind != "object" {
        let why =
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        errors.push(FieldError::invalid(path.child("type"), &kind.into(), why));
    } else if schema.as_object().is_some_and(|m| m.keys().any(|k| !AT_ROOT.contains(&k.as_str()))) {
        let why = format!(
            "only {AT_ROOT_WORDS} fields are allowed at the root of the schema if the status subresource is enabled"
        );
        errors.push(FieldError::invalid(path, &Value::Null, &why));
    }
}

#[derive(Clone, Copy)]
struct Walk {
    /// Whether defaults may be, or why not.
    defaults: Result<(), &'static str>,
    in_meta: bool,
}

fn text<'v>(schema: &'v Value, key: &str) -> &'v str {
    schema.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn is_there(schema: &Value, key: &str) -> bool {
    match schema.get(key) {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(map)) => !map.is_empty(),
        Some(_) => true,
    }
}

fn yes(schema: &Value, key: &str) -> bool {
    schema.get(key) == Some(&Value::Bool(true))
}

impl Walk {
    fn schema(self, path: &Path<'_>, schema: &Value, root: bool, errors: &mut Errors) {
        self.standard(path, schema, errors);
        if yes(schema, "uniqueItems") {
            let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            errors.push(FieldError::forbidden(path.child("uniqueItems"), why));
        }
        self.additional(path, schema, errors);
        let properties = path.child("properties");
        for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let mut below = self;
            if (root || yes(schema, "x-kubernetes-embedded-resource")) && META.contains(&name.as_str()) {
                below.in_meta = true;
                if root {
                    below.defaults = Err(match name.as_str() {
                        "metadata" => " in top-level metadata",
                        "kind" => " in top-level kind",
                        _ => " in top-level apiVersion",
                    });
                }
            }
            below.schema(&properties.key(name), property, false, errors);
        }
        if let Some(not) = schema.get("not").filter(|n| n.is_object()) {
            self.schema(&path.child("not"), not, false, errors);
        }
        for key in ["allOf", "oneOf", "anyOf"] {
            let at = path.child(key);
            for (i, nested) in schema.get(key).and_then(Value::as_array).into_iter().flatten().enumerate() {
                self.schema(&at.index(i), nested, false, errors);
            }
        }
        if let Some(items) = schema.get("items").filter(|i| i.is_object()) {
            self.schema(&path.child("items"), items, false, errors);
        }
        if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
            let at = path.child("x-kubernetes-preserve-unknown-fields");
            errors.push(FieldError::invalid(at, &false.into(), "must be true or undefined"));
        }
        merging(path, schema, errors);
        rules(path, schema, errors);
    }

    fn standard(self, path: &Path<'_>, schema: &Value, errors: &mut Errors) {
        let kind = text(schema, "type");
        if !kind.is_empty() && !TYPES.contains(&kind) {
            errors.push(FieldError::not_supported(path.child("type"), &kind.into(), &TYPES));
        }
        if let (Err(why), true) = (self.defaults, schema.get("default").is_some()) {
            errors.push(FieldError::forbidden(path.child("default"), &format!("must not be set{why}")));
        }
        for key in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
            if is_there(schema, key) {
                errors.push(FieldError::forbidden(path.child(key), &format!("{key} is not supported")));
            }
        }
        if kind == "null" {
            let why = "type cannot be set to null, use nullable as an alternative";
            errors.push(FieldError::forbidden(path.child("type"), why));
        }
        if schema.get("items").and_then(Value::as_array).is_some_and(|i| !i.is_empty()) {
            let why = "items must be a schema object and not an array";
            errors.push(FieldError::forbidden(path.child("items"), why));
        }
        if self.in_meta && yes(schema, "x-kubernetes-embedded-resource") {
            let why = "must not be used inside of resource meta";
            errors.push(FieldError::forbidden(path.child("x-kubernetes-embedded-resource"), why));
        }
    }

    fn additional(mut self, path: &Path<'_>, schema: &Value, errors: &mut Errors) {
        let Some(additional) = schema.get("additionalProperties").filter(|a| !a.is_null()) else { return };
        let at = path.child("additionalProperties");
        if is_there(schema, "properties") && *additional != Value::Bool(true) {
            errors.push(FieldError::forbidden(at, "additionalProperties and properties are mutual exclusive"));
        }
        if additional.is_object() {
            if self.in_meta {
                self.defaults = Err(" inside additionalProperties applying to object metadata");
            }
            self.schema(&at, additional, false, errors);
        }
    }
}

/// How maps and lists merge.
fn merging(path: &Path<'_>, schema: &Value, errors: &mut Errors) {
    let kind = text(schema, "type");
    let mut of_type = |key: &str, wanted: &str| {
        if is_there(schema, key) && kind != wanted {
            let why = format!("must be {wanted} if {key} is specified");
            errors.push(match kind {
                "" => FieldError::required(path.child("type"), &why),
                kind => FieldError::invalid(path.child("type"), &kind.into(), &why),
            });
        }
    };
    of_type("x-kubernetes-map-type", "object");
    of_type("x-kubernetes-list-type", "array");
    let map_type = text(schema, "x-kubernetes-map-type");
    if !matches!(map_type, "" | "atomic" | "granular") {
        let at = path.child("x-kubernetes-map-type");
        errors.push(FieldError::not_supported(at, &map_type.into(), &["atomic", "granular"]));
    }
    let list_type = text(schema, "x-kubernetes-list-type");
    let items = schema.get("items").filter(|i| i.is_object());
    if let (true, Some(items)) = (kind == "array" && list_type == "set", items) {
        set(&path.child("items"), items, errors);
    }
    let at = path.child("x-kubernetes-list-type");
    if !matches!(list_type, "" | "atomic" | "set" | "map") {
        errors.push(FieldError::not_supported(at, &list_type.into(), &["atomic", "set", "map"]));
    }
    if is_there(schema, "x-kubernetes-list-map-keys") && list_type != "map" {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        errors.push(match list_type {
            "" => FieldError::required(at, why),
            found => FieldError::invalid(at, &found.into(), why),
        });
    }
    if list_type == "map" {
        list_map(path, schema, items, errors);
    }
    if matches!(list_type, "map" | "set") && items.is_some_and(|i| yes(i, "nullable")) {
        let why = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        errors.push(FieldError::forbidden(path.child("items.nullable"), &why));
    }
}

/// The elements of a set have one owner each.
fn set(path: &Path<'_>, items: &Value, errors: &mut Errors) {
    let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
    let (list, map) = (text(items, "x-kubernetes-list-type"), text(items, "x-kubernetes-map-type"));
    match text(items, "type") {
        "array" if !matches!(list, "" | "atomic") => {
            errors.push(FieldError::invalid(path.child("x-kubernetes-list-type"), &list.into(), why));
        }
        "object" if map != "atomic" => {
            errors.push(FieldError::invalid(path.child("x-kubernetes-map-type"), &Value::Null, why));
        }
        _ => {}
    }
}

fn list_map(path: &Path<'_>, schema: &Value, items: Option<&Value>, errors: &mut Errors) {
    let keys: Vec<&str> = kiln_apimachinery::meta::strings(schema.get("x-kubernetes-list-map-keys"));
    let at = path.child("x-kubernetes-list-map-keys");
    if keys.is_empty() {
        errors.push(FieldError::required(at, "must not be empty if x-kubernetes-list-type is map"));
    }
    let Some(items) = items else {
        let why = "must have a schema if x-kubernetes-list-type is map";
        errors.push(FieldError::required(path.child("items"), why));
        return;
    };
    let kind = text(items, "type");
    if kind != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(FieldError::invalid(path.child("items.type"), &kind.into(), why));
        return;
    }
    let required = kiln_apimachinery::meta::strings(items.get("required"));
    let properties = path.child("items.properties");
    for (i, key) in keys.iter().enumerate() {
        let place = properties.key(key);
        match items.get("properties").and_then(|p| p.get(*key)) {
            None => {
                errors.push(FieldError::invalid(at, &json!(keys), "entries must all be names of item properties"));
            }
            Some(property) => {
                if matches!(text(property, "type"), "array" | "object") {
                    let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                    errors.push(FieldError::invalid(place.child("type"), &kind.into(), why));
                }
                if !required.contains(key) && property.get("default").is_none() {
                    let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required \
                               property";
                    errors.push(FieldError::required(place.child("default"), why));
                }
                if yes(property, "nullable") {
                    let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
                    errors.push(FieldError::forbidden(place.child("nullable"), why));
                }
            }
        }
        if keys[..i].contains(key) {
            errors.push(FieldError::invalid(at, &json!(keys), "must not contain duplicate entries"));
        }
    }
}

/// What stands around expressions in CEL; the expressions themselves are read elsewhere.
fn rules(path: &Path<'_>, schema: &Value, errors: &mut Errors) {
    let at = path.child("x-kubernetes-validations");
    let lines = |text: &str| text.contains(['\n', '\r']);
    for (i, rule) in schema.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten().enumerate()
    {
        let at = at.index(i);
        let (source, message) = (text(rule, "rule").trim(), text(rule, "message"));
        let said = message.trim();
        if source.is_empty() {
            errors.push(FieldError::required(at.child("rule"), "rule is not specified"));
        } else if !message.is_empty() && said.is_empty() {
            errors.push(FieldError::invalid(at.child("message"), &message.into(), "must be non-empty if specified"));
        } else if lines(said) {
            errors.push(FieldError::invalid(at.child("message"), &message.into(), "must not contain line breaks"));
        } else if lines(source) && said.is_empty() {
            let why = "message must be specified if rule contains line breaks";
            errors.push(FieldError::required(at.child("message"), why));
        }
        let expression = text(rule, "messageExpression");
        if !expression.is_empty() && expression.trim().is_empty() {
            let why = "messageExpression must be non-empty if specified";
            errors.push(FieldError::required(at.child("messageExpression"), why));
        }
        let reason = text(rule, "reason");
        if !reason.is_empty() && !REASONS.contains(&reason) {
            errors.push(FieldError::not_supported(at.child("reason"), &reason.into(), &REASONS));
        }
        let field = text(rule, "fieldPath");
        let mut complain = |why: &str| errors.push(FieldError::invalid(at.child("fieldPath"), &field.into(), why));
        if field.is_empty() {
            continue;
        }
        if field.trim().is_empty() {
            complain("must be non-empty if specified");
        }
        if lines(field) {
            complain("must not contain line breaks");
        }
        if !super::rules::leads(schema, field) {
            complain("must be a valid path");
        }
    }
}
