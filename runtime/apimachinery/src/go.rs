//! Values and types as Go's `fmt` shows them, which is how the reference words its errors.

use std::fmt;

use serde_json::{Map, Value};

/// A value as `%v`.
pub(crate) struct Shown<'v>(pub(crate) &'v Value);

impl Shown<'_> {
    /// An object as `%v`.
    pub(crate) fn map(map: &Map<String, Value>) -> String {
        let fields: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{}", Shown(value))).collect();
        format!("map[{}]", fields.join(" "))
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Null => f.write_str("<nil>"),
            Value::String(text) => f.write_str(text),
            Value::Array(list) => {
                let items: Vec<String> = list.iter().map(|item| Shown(item).to_string()).collect();
                write!(f, "[{}]", items.join(" "))
            }
            Value::Object(map) => f.write_str(&Self::map(map)),
            other => write!(f, "{other}"),
        }
    }
}

/// The type that Go gives a JSON value; of null, what `%s` makes of a type that is none.
pub fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// The complaint about a value of the wrong type.
pub(crate) fn bad_type(expected: &str, found: &Value) -> String {
    format!("expected a {expected}, but received a {}", type_of(found))
}

/// What Go's decoder calls a JSON value.
pub fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
