//! Lists whose elements are told apart by value or by keys: none may stand twice.

use std::collections::HashMap;

use kiln_apimachinery::FieldError;
use serde_json::{Map, Value};

use super::{Flags, List, SchemaRef};

/// Complaints about elements that stand twice.
pub(crate) fn unique(schema: SchemaRef<'_>, value: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(schema, value, "", &mut errors);
    errors
}

fn walk(schema: SchemaRef<'_>, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if !schema.has(Flags::UNIQUE) {
        return;
    }
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if let Some(property) = schema.property(key) {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    walk(property, value, &path, errors);
                } else if let Some(other) = schema.additional() {
                    walk(other, value, &format!("{path}[{key}]"), errors);
                }
            }
        }
        Value::Array(list) => {
            match schema.list() {
                List::Atomic => {}
                List::Set => twice(list, path, errors),
                List::Map => twice_by_key(schema, list, path, errors),
            }
            if let Some(items) = schema.items() {
                for (at, value) in list.iter().enumerate() {
                    walk(items, value, &format!("{path}[{at}]"), errors);
                }
            }
        }
        _ => {}
    }
}

/// Each value that stands more than once is told once.
fn twice(list: &[Value], path: &str, errors: &mut Vec<FieldError>) {
    let mut seen: HashMap<String, usize> = HashMap::with_capacity(list.len());
    for (at, value) in list.iter().enumerate() {
        let times = seen.entry(value.to_string()).or_default();
        *times += 1;
        if *times == 2 {
            errors.push(FieldError::duplicate(format!("{path}[{at}]"), value));
        }
    }
}

fn twice_by_key(schema: SchemaRef<'_>, list: &[Value], path: &str, errors: &mut Vec<FieldError>) {
    if let Some((at, odd)) = list.iter().enumerate().find(|(_, v)| !v.is_object() && !v.is_null()) {
        let why = "must be an object for an array of list-type map";
        errors.push(FieldError::invalid(format!("{path}[{at}]"), odd, why));
        return;
    }
    let key = |value: &Value| -> Value {
        let found = schema.keys().filter_map(|k| value.get(k).map(|v| (k.to_owned(), v.clone())));
        found.collect::<Map<_, _>>().into()
    };
    twice(&list.iter().map(key).collect::<Vec<_>>(), path, errors);
}
