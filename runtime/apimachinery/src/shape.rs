//! The JSON types that fields may have, checked with the words of Go's decoder, which people know and search for:
//! `json: cannot unmarshal number into Go struct field ConfigMap.data of type string`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// A field's name and type.
pub type Field = (&'static str, Shape);

/// A type. `null` is of every type, as in Go.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// `true` or `false`.
    Bool,
    /// A whole number that 64 bits hold.
    Int,
    /// A string.
    Text,
    /// A string with an RFC 3339 time.
    Time,
    /// A string with bytes in base64.
    Bytes,
    /// An object with any keys and values of one type.
    Map(&'static Shape),
    /// An array of values of one type.
    List(&'static Shape),
    /// An object of the Go type of this name with these fields; others are not looked at.
    Struct(&'static str, &'static [Field]),
}

impl Shape {
    /// The type as Go writes it.
    fn go(self) -> String {
        match self {
            Shape::Bool => "bool".to_owned(),
            Shape::Int => "int64".to_owned(),
            Shape::Text | Shape::Time => "string".to_owned(),
            Shape::Bytes => "[]uint8".to_owned(),
            Shape::Map(of) => format!("map[string]{}", of.go()),
            Shape::List(of) => format!("[]{}", of.go()),
            Shape::Struct(name, _) => format!("v1.{name}"),
        }
    }
}

/// Checks those of an object's fields that are named; `owner` is the Go type that they are fields of. The error is a
/// sentence for a 400.
pub fn check(owner: &str, fields: &[Field], object: &Value) -> Result<(), String> {
    check_fields(owner, "", fields, object)
}

fn check_fields(owner: &str, path: &str, fields: &[Field], object: &Value) -> Result<(), String> {
    let map = object.as_object().into_iter().flatten();
    for (key, value) in map.filter(|(_, value)| !value.is_null()) {
        if let Some((name, shape)) = fields.iter().find(|(name, _)| name == key) {
            let path = if path.is_empty() { (*name).to_owned() } else { format!("{path}.{name}") };
            check_value(owner, &path, *shape, value)?;
        }
    }
    Ok(())
}

fn check_value(owner: &str, path: &str, shape: Shape, value: &Value) -> Result<(), String> {
    match (shape, value) {
        (_, Value::Null) | (Shape::Bool, Value::Bool(_)) | (Shape::Text, Value::String(_)) => Ok(()),
        (Shape::Int, Value::Number(n)) if n.is_i64() => Ok(()),
        (Shape::Int, Value::Number(n)) => Err(mismatch(&format!("number {n}"), owner, path, shape)),
        (Shape::Time, Value::String(text)) => check_time(text),
        (Shape::Time, _) => Err(format!("json: cannot unmarshal {} into Go value of type string", kind(value))),
        (Shape::Bytes, Value::String(text)) => check_base64(text),
        (Shape::Map(of), Value::Object(map)) => map.values().try_for_each(|v| check_value(owner, path, *of, v)),
        (Shape::List(of), Value::Array(list)) => list.iter().try_for_each(|v| check_value(owner, path, *of, v)),
        (Shape::Struct(name, fields), Value::Object(_)) => check_fields(name, path, fields, value),
        _ => Err(mismatch(kind(value), owner, path, shape)),
    }
}

fn mismatch(found: &str, owner: &str, path: &str, shape: Shape) -> String {
    format!("json: cannot unmarshal {found} into Go struct field {owner}.{path} of type {}", shape.go())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn check_time(text: &str) -> Result<(), String> {
    match crate::time::parse(text) {
        Some(_) => Ok(()),
        None => {
            Err(format!("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\""))
        }
    }
}

fn check_base64(text: &str) -> Result<(), String> {
    use base64::DecodeError::{InvalidByte, InvalidLastSymbol, InvalidLength, InvalidPadding};
    STANDARD.decode(text).map(drop).map_err(|error| {
        let at = match error {
            InvalidByte(at, _) | InvalidLastSymbol(at, _) => at,
            // The last group of four characters.
            InvalidLength(_) | InvalidPadding => text.len() / 4 * 4,
        };
        format!("illegal base64 data at input byte {at}")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FIELDS: &[Field] = &[
        ("data", Shape::Map(&Shape::Text)),
        ("bytes", Shape::Map(&Shape::Bytes)),
        ("immutable", Shape::Bool),
        ("spec", Shape::Struct("ThingSpec", &[("replicas", Shape::Int), ("since", Shape::Time)])),
        ("names", Shape::List(&Shape::Text)),
    ];

    fn why(object: &Value) -> String {
        check("Thing", FIELDS, object).unwrap_err()
    }

    #[test]
    fn a_wrong_type_is_told_in_the_words_of_go() {
        let of = |found: &str, field: &str, go: &str| {
            format!("json: cannot unmarshal {found} into Go struct field {field} of type {go}")
        };
        assert_eq!(why(&json!({"data": {"a": 3}})), of("number", "Thing.data", "string"));
        assert_eq!(why(&json!({"data": "x"})), of("string", "Thing.data", "map[string]string"));
        assert_eq!(why(&json!({"immutable": "yes"})), of("string", "Thing.immutable", "bool"));
        assert_eq!(why(&json!({"spec": {"replicas": true}})), of("bool", "ThingSpec.spec.replicas", "int64"));
        assert_eq!(why(&json!({"spec": {"replicas": 1.5}})), of("number 1.5", "ThingSpec.spec.replicas", "int64"));
        assert_eq!(why(&json!({"spec": []})), of("array", "Thing.spec", "v1.ThingSpec"));
        assert_eq!(why(&json!({"names": [{}]})), of("object", "Thing.names", "string"));
        assert_eq!(why(&json!({"bytes": {"a": "a*=="}})), "illegal base64 data at input byte 1");
        assert!(why(&json!({"spec": {"since": "noon"}})).starts_with("parsing time \"noon\" as"));
    }

    #[test]
    fn nulls_and_fields_that_are_not_named_are_not_looked_at() {
        let good = json!({"data": null, "names": [null], "other": 3, "spec": {"replicas": 2, "since": "2026-01-02T03:04:05Z"}});
        assert_eq!(check("Thing", FIELDS, &good), Ok(()));
    }
}
