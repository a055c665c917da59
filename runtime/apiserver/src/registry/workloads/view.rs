//! Short words for reading and filling parts of objects.

use kiln_apimachinery::meta;
use serde_json::{Map, Value};

/// A field that is there and not null.
pub(super) fn get<'a>(object: &'a Value, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|v| !v.is_null())
}

/// A field that is there and not null, for writing.
pub(super) fn get_mut<'a>(object: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    object.get_mut(key).filter(|v| !v.is_null())
}

/// A text; empty if there is none.
pub(super) fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    meta::text(object, &[key])
}

/// A whole number.
pub(super) fn int(object: &Value, key: &str) -> Option<i64> {
    object.get(key).and_then(Value::as_i64)
}

/// True if the field is `true`.
pub(super) fn is(object: &Value, key: &str) -> bool {
    object.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// The items of a list; none if there is no list.
pub(super) fn items<'a>(object: &'a Value, key: &str) -> &'a [Value] {
    object.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The items of a list, for writing.
pub(super) fn items_mut<'a>(object: &'a mut Value, key: &str) -> &'a mut [Value] {
    object.get_mut(key).and_then(Value::as_array_mut).map_or(&mut [], Vec::as_mut_slice)
}

/// The entries of a map.
pub(super) fn entries<'a>(object: &'a Value, key: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    object.get(key).and_then(Value::as_object).into_iter().flatten().map(|(k, v)| (k.as_str(), v))
}

/// True for what a writer may as well have left out: nothing, an empty text, list or map, zero, false.
pub(super) fn is_zero(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null | Value::Bool(false)) => true,
        Some(Value::String(s)) => s.is_empty(),
        Some(Value::Array(a)) => a.is_empty(),
        Some(Value::Object(m)) => m.is_empty(),
        Some(Value::Number(n)) => n.as_f64() == Some(0.0),
        Some(Value::Bool(true)) => false,
    }
}

/// Sets a field that is absent or as good as absent.
pub(super) fn fill(object: &mut Value, key: &str, value: impl Into<Value>) {
    if is_zero(object.get(key)) {
        meta::object_mut(object).insert(key.to_owned(), value.into());
    }
}

/// The struct at a field, made if it is not there.
pub(super) fn make<'a>(object: &'a mut Value, key: &str) -> &'a mut Value {
    let slot = meta::object_mut(object).entry(key).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Object(Map::new());
    }
    slot
}
