//! Custom kinds as definitions: what their schemas say, and what every object has.

use serde_json::{Map, Value, json};

use super::{Custom, Dialect, Served};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should \
    convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this \
    from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA: &str = "Standard object's metadata. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
const LIST_METADATA: &str = "Standard list metadata. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const EMBEDDED_VERSION: &str = "apiVersion defines the versioned schema of this representation of an object. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const EMBEDDED_KIND: &str = "kind is a string value representing the type of this object. In CamelCase. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";

/// A kind's name in documents: `com.example.v1.Foo`.
pub(super) fn model(served: &Served<'_>, kind: &str) -> String {
    let group: Vec<&str> = served.group.rsplit('.').collect();
    format!("{}.{}.{kind}", group.join("."), served.version)
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

/// A reference with words of its own, which version 3 takes no beside a reference.
fn reference(name: &str, description: &str, dialect: Dialect) -> Value {
    let mut out = match dialect {
        Dialect::V2 => dialect.reference(name),
        Dialect::V3 => json!({"allOf": [dialect.reference(name)]}),
    };
    out["description"] = description.into();
    out
}

fn told(out: &mut Value, served: &Served<'_>, kind: &str, custom: &Custom<'_>) {
    out["x-kubernetes-group-version-kind"] = json!([{"group": served.group, "version": served.version, "kind": kind}]);
    if !custom.selectable.is_empty() {
        out["x-kubernetes-selectable-fields"] = custom.selectable.iter().map(|f| json!({"fieldPath": f})).collect();
    }
}

/// The kind.
pub(super) fn definition(served: &Served<'_>, custom: &Custom<'_>, dialect: Dialect) -> Value {
    let open = custom.schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    let mut out = if !custom.schema.is_object() || (open && dialect == Dialect::V2) {
        // With more properties clients would take all others for unknown.
        json!({"type": "object"})
    } else {
        let mut out = custom.schema.clone();
        published(&mut out, dialect);
        let properties = member(&mut out, "properties");
        properties.insert("apiVersion".into(), text(API_VERSION));
        properties.insert("kind".into(), text(KIND));
        properties.insert("metadata".into(), reference(&format!("{META}.ObjectMeta"), METADATA, dialect));
        out
    };
    told(&mut out, served, served.kind, custom);
    out
}

/// The list of a kind.
pub(super) fn list(served: &Served<'_>, custom: &Custom<'_>, dialect: Dialect) -> Value {
    let of = dialect.reference(&model(served, served.kind));
    let words = format!(
        "List of {}. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md",
        served.plural
    );
    let mut out = json!({
        "type": "object",
        "description": format!("{} is a list of {}", custom.list_kind, served.kind),
        "required": ["items"],
        "properties": {
            "apiVersion": text(API_VERSION),
            "kind": text(KIND),
            "items": {"type": "array", "items": of, "description": words},
            "metadata": reference(&format!("{META}.ListMeta"), LIST_METADATA, dialect),
        },
    });
    told(&mut out, served, custom.list_kind, custom);
    out
}

/// The object at a key, made if it is not there.
fn member<'v>(value: &'v mut Value, key: &str) -> &'v mut Map<String, Value> {
    kiln_apimachinery::meta::child(value, key)
}

fn yes(schema: &Value, key: &str) -> bool {
    schema.get(key) == Some(&Value::Bool(true))
}

/// Makes of a definition's schema what is published of it.
fn published(schema: &mut Value, dialect: Dialect) {
    if !schema.is_object() {
        return;
    }
    if yes(schema, "x-kubernetes-int-or-string") {
        int_or_string(schema);
    }
    if dialect == Dialect::V2 {
        older(schema);
    }
    for key in ["items", "additionalProperties"] {
        schema.get_mut(key).into_iter().for_each(|inner| published(inner, dialect));
    }
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(|inner| published(inner, dialect));
    }
    let open = dialect == Dialect::V2 && yes(schema, "x-kubernetes-preserve-unknown-fields");
    if yes(schema, "x-kubernetes-embedded-resource") && !open {
        let properties = member(schema, "properties");
        properties.insert("apiVersion".into(), text(EMBEDDED_VERSION));
        properties.insert("kind".into(), text(EMBEDDED_KIND));
        properties.insert("metadata".into(), reference(&format!("{META}.ObjectMeta"), METADATA, dialect));
        let required = schema.get("required").cloned().unwrap_or_else(|| json!([]));
        let mut required = required.as_array().cloned().unwrap_or_default();
        for key in ["kind", "apiVersion"] {
            if !required.iter().any(|r| r == key) {
                required.push(key.into());
            }
        }
        schema["required"] = required.into();
    }
}

/// Says that a number or a text will do, where that is not said.
fn int_or_string(schema: &mut Value) {
    let both = json!([{"type": "integer"}, {"type": "string"}]);
    if schema.get("anyOf") == Some(&both) || schema.pointer("/allOf/0/anyOf") == Some(&both) {
        return;
    }
    match schema.get("anyOf") {
        None => schema["anyOf"] = both,
        Some(_) => {
            let mut all = schema.get("allOf").and_then(Value::as_array).cloned().unwrap_or_default();
            all.insert(0, json!({"anyOf": both}));
            schema["allOf"] = all.into();
        }
    }
}

/// Drops what version 2 has not, or what its readers stumble over.
fn older(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    ["allOf", "anyOf", "oneOf", "not"].iter().for_each(|key| drop(map.remove(*key)));
    let flag = |map: &Map<String, Value>, key: &str| map.get(key) == Some(&Value::Bool(true));
    let nulls = |schema: &Value| yes(schema, "nullable");
    let loose: Vec<String> = map
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(_, p)| nulls(p))
        .map(|(name, _)| name.clone())
        .collect();
    if map.get("additionalProperties").is_some_and(nulls) {
        map.remove("required");
    } else if let Some(Value::Array(required)) = map.get_mut("required") {
        required.retain(|r| !loose.iter().any(|name| r == name.as_str()));
        if required.is_empty() {
            map.remove("required");
        }
    }
    if flag(map, "nullable") {
        ["type", "nullable", "items", "properties"].iter().for_each(|key| drop(map.remove(*key)));
    }
    let open = flag(map, "x-kubernetes-preserve-unknown-fields");
    if open {
        ["items", "properties"].iter().for_each(|key| drop(map.remove(*key)));
    }
    let kind = map.get("type").and_then(Value::as_str).unwrap_or_default();
    if (kind == "array" && !map.contains_key("items")) || (open && kind == "object") {
        map.remove("type");
    }
}
