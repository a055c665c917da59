//! OpenAPI 2 in the protobuf of gnostic: the document that kubectl reads for `explain` and for what a server can do. Numbers
//! are those of `OpenAPIv2.proto`; only what documents of Kubernetes' servers have is written.

use std::convert::Infallible;
use std::io::{self, Write};

use serde_json::{Map, Value};

use crate::protobuf::wire::{put_bytes, put_double, put_integer, put_message};

/// A field of text, if there is one.
fn text(out: &mut Vec<u8>, number: u16, value: Option<&Value>) {
    if let Some(text) = value.and_then(Value::as_str) {
        put_bytes(out, number, text.as_bytes());
    }
}

/// A field of `true`, if it is.
fn flag(out: &mut Vec<u8>, number: u16, value: Option<&Value>) {
    if value == Some(&Value::Bool(true)) {
        put_integer(out, number, 1);
    }
}

fn texts(out: &mut Vec<u8>, number: u16, value: Option<&Value>) {
    value.and_then(Value::as_array).into_iter().flatten().for_each(|v| text(out, number, Some(v)));
}

fn message(out: &mut Vec<u8>, number: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let filled = put_message(out, number, |out| {
        fill(out);
        Ok::<(), Infallible>(())
    });
    match filled {
        Ok(()) => {}
        Err(never) => match never {},
    }
}

/// A value of any type, as YAML, of which JSON is a part.
fn any(out: &mut Vec<u8>, value: &Value) {
    put_bytes(out, 2, value.to_string().as_bytes());
}

/// The members that begin with `x-`.
fn extensions(out: &mut Vec<u8>, number: u16, object: &Map<String, Value>) {
    for (name, value) in object.iter().filter(|(name, _)| name.starts_with("x-")) {
        message(out, number, |out| {
            put_bytes(out, 1, name.as_bytes());
            message(out, 2, |out| any(out, value));
        });
    }
}

fn schema(out: &mut Vec<u8>, value: &Value) {
    let Some(object) = value.as_object() else { return };
    text(out, 1, object.get("$ref"));
    text(out, 2, object.get("format"));
    text(out, 3, object.get("title"));
    text(out, 4, object.get("description"));
    if let Some(value) = object.get("default") {
        message(out, 5, |out| any(out, value));
    }
    for (number, key) in [(6, "multipleOf"), (7, "maximum"), (9, "minimum")] {
        if let Some(value) = object.get(key).and_then(Value::as_f64) {
            put_double(out, number, value);
        }
    }
    flag(out, 8, object.get("exclusiveMaximum"));
    flag(out, 10, object.get("exclusiveMinimum"));
    for (number, key) in [
        (11, "maxLength"),
        (12, "minLength"),
        (14, "maxItems"),
        (15, "minItems"),
        (17, "maxProperties"),
        (18, "minProperties"),
    ] {
        if let Some(value) = object.get(key).and_then(Value::as_i64) {
            put_integer(out, number, value);
        }
    }
    text(out, 13, object.get("pattern"));
    flag(out, 16, object.get("uniqueItems"));
    texts(out, 19, object.get("required"));
    for value in object.get("enum").and_then(Value::as_array).into_iter().flatten() {
        message(out, 20, |out| any(out, value));
    }
    if let Some(values) = object.get("additionalProperties") {
        message(out, 21, |out| match values {
            Value::Bool(yes) => put_integer(out, 2, i64::from(*yes)),
            values => message(out, 1, |out| schema(out, values)),
        });
    }
    if let Some(kind) = object.get("type") {
        message(out, 22, |out| text(out, 1, Some(kind)));
    }
    if let Some(items) = object.get("items") {
        message(out, 23, |out| message(out, 1, |out| schema(out, items)));
    }
    for value in object.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        message(out, 24, |out| schema(out, value));
    }
    if let Some(properties) = object.get("properties").and_then(Value::as_object) {
        message(out, 25, |out| {
            properties.iter().for_each(|(name, value)| message(out, 1, |out| named_schema(out, name, value)));
        });
    }
    extensions(out, 31, object);
}

fn named_schema(out: &mut Vec<u8>, name: &str, value: &Value) {
    put_bytes(out, 1, name.as_bytes());
    message(out, 2, |out| schema(out, value));
}

fn parameter(out: &mut Vec<u8>, number: u16, value: &Value) {
    let place = value.get("in").and_then(Value::as_str).unwrap_or_default();
    message(out, number, |out| {
        message(out, 1, |out| match place {
            "body" => message(out, 1, |out| {
                text(out, 1, value.get("description"));
                text(out, 2, value.get("name"));
                text(out, 3, value.get("in"));
                flag(out, 4, value.get("required"));
                if let Some(value) = value.get("schema") {
                    message(out, 5, |out| schema(out, value));
                }
            }),
            _ => message(out, 2, |out| {
                // Parameters in paths and headers lack one of the fields of the others, so that the numbers behind it differ.
                let (which, kind, unique) = match place {
                    "header" => (1, 5, 19),
                    "formData" => (2, 6, 20),
                    "path" => (4, 5, 19),
                    _ => (3, 6, 20),
                };
                message(out, which, |out| {
                    flag(out, 1, value.get("required"));
                    text(out, 2, value.get("in"));
                    text(out, 3, value.get("description"));
                    text(out, 4, value.get("name"));
                    text(out, kind, value.get("type"));
                    text(out, kind + 1, value.get("format"));
                    flag(out, unique, value.get("uniqueItems"));
                });
            }),
        });
    });
}

fn operation(out: &mut Vec<u8>, value: &Value) {
    let Some(object) = value.as_object() else { return };
    texts(out, 1, object.get("tags"));
    text(out, 2, object.get("summary"));
    text(out, 3, object.get("description"));
    text(out, 5, object.get("operationId"));
    texts(out, 6, object.get("produces"));
    texts(out, 7, object.get("consumes"));
    object.get("parameters").and_then(Value::as_array).into_iter().flatten().for_each(|p| parameter(out, 8, p));
    if let Some(responses) = object.get("responses").and_then(Value::as_object) {
        message(out, 9, |out| {
            for (code, response) in responses {
                message(out, 1, |out| {
                    put_bytes(out, 1, code.as_bytes());
                    message(out, 2, |out| {
                        message(out, 1, |out| {
                            text(out, 1, response.get("description"));
                            if let Some(value) = response.get("schema") {
                                message(out, 2, |out| message(out, 1, |out| schema(out, value)));
                            }
                        });
                    });
                });
            }
        });
    }
    texts(out, 10, object.get("schemes"));
    flag(out, 11, object.get("deprecated"));
    extensions(out, 13, object);
}

fn path(out: &mut Vec<u8>, name: &str, value: &Value) {
    put_bytes(out, 1, name.as_bytes());
    message(out, 2, |out| {
        for (method, number) in
            [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("options", 6), ("head", 7), ("patch", 8)]
        {
            if let Some(value) = value.get(method) {
                message(out, number, |out| operation(out, value));
            }
        }
        value.get("parameters").and_then(Value::as_array).into_iter().flatten().for_each(|p| parameter(out, 9, p));
    });
}

/// Writes a document. Its two big fields are messages of entries, and a message that comes in several parts is one, so that
/// each entry is written as a part of its own and none has to be kept.
pub(super) fn document(
    version: &str,
    paths: impl Iterator<Item = (String, Value)>,
    definitions: impl Iterator<Item = (String, Value)>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut part = Vec::new();
    put_bytes(&mut part, 1, b"2.0");
    message(&mut part, 2, |out| {
        put_bytes(out, 1, b"Kubernetes");
        put_bytes(out, 2, version.as_bytes());
    });
    out.write_all(&part)?;
    for (name, value) in paths {
        part.clear();
        message(&mut part, 8, |out| message(out, 2, |out| path(out, &name, &value)));
        out.write_all(&part)?;
    }
    for (name, value) in definitions {
        part.clear();
        message(&mut part, 9, |out| message(out, 1, |out| named_schema(out, &name, &value)));
        out.write_all(&part)?;
    }
    Ok(())
}
