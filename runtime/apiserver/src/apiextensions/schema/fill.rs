//! Values that are absent or null, and what they count as.

use serde_json::Value;

use super::SchemaRef;

/// Adds the defaults of what is absent, at any depth, and of nulls where null is no value.
pub(crate) fn defaults(schema: SchemaRef<'_>, value: &mut Value) {
    if !schema.fills() {
        return;
    }
    match value {
        Value::Object(map) => {
            for (name, property) in schema.properties() {
                let Some(default) = property.default() else { continue };
                if map.get(name).is_none_or(|found| is_no_value(found, property)) {
                    map.insert(name.to_owned(), default.clone());
                }
            }
            for (key, value) in map.iter_mut() {
                if let Some(property) = schema.property(key) {
                    defaults(property, value);
                } else if let Some(other) = schema.additional() {
                    element(other, value);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = schema.items() {
                list.iter_mut().for_each(|value| element(items, value));
            }
        }
        _ => {}
    }
}

fn is_no_value(value: &Value, schema: SchemaRef<'_>) -> bool {
    value.is_null() && !schema.is_nullable()
}

fn element(schema: SchemaRef<'_>, value: &mut Value) {
    if is_no_value(value, schema)
        && let Some(default) = schema.default()
    {
        *value = default.clone();
    }
    defaults(schema, value);
}

/// Removes the nulls of fields where null is no value and that have no default.
pub(crate) fn nulls(schema: Option<SchemaRef<'_>>, value: &mut Value) {
    match value {
        Value::Object(map) => {
            let of = |key: &str| schema.and_then(|s| s.field_schema(key));
            map.retain(|key, value| {
                !(value.is_null() && of(key).is_some_and(|s| !s.is_nullable() && s.default().is_none()))
            });
            for (key, value) in map.iter_mut() {
                nulls(of(key), value);
            }
        }
        Value::Array(list) => {
            let items = schema.and_then(SchemaRef::items);
            list.iter_mut().for_each(|value| nulls(items, value));
        }
        _ => {}
    }
}
