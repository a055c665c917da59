//! How a value is walked by its type: as a leaf, which has one owner, or by its fields or elements.

use serde_json::{Map, Value};

use super::path::Element;
use crate::typed::{Kind, ListType, Type};

/// The way a value is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// As one.
    Leaf,
    /// Field by field.
    Map,
    /// Element by element.
    List,
}

/// The shape of a value; null, which stands for any value, has its type's.
pub(super) fn of<T: Type>(ty: T, value: &Value) -> Shape {
    match (ty.kind(), value) {
        (Kind::Struct | Kind::Map, Value::Object(_) | Value::Null) | (Kind::Any, Value::Object(_)) if !ty.atomic() => {
            Shape::Map
        }
        (Kind::List, Value::Array(_) | Value::Null) if ty.list() != ListType::Atomic => Shape::List,
        _ => Shape::Leaf,
    }
}

/// The shape in which two values are walked together: their common one, or none if they differ.
pub(super) fn common<T: Type>(ty: T, left: Option<&Value>, right: Option<&Value>) -> Option<Shape> {
    match (left, right) {
        (Some(Value::Null) | None, Some(value)) | (Some(value), Some(Value::Null) | None) => Some(of(ty, value)),
        (Some(a), Some(b)) => Some(of(ty, a)).filter(|shape| *shape == of(ty, b)),
        (None, None) => Some(Shape::Leaf),
    }
}

/// True if values of the type have one owner as a whole.
pub(super) fn is_atomic<T: Type>(ty: T) -> bool {
    match ty.kind() {
        Kind::Struct | Kind::Map => ty.atomic(),
        Kind::List => ty.list() == ListType::Atomic,
        Kind::Scalar | Kind::Any => false,
    }
}

/// The type of a field.
pub(super) fn child<T: Type>(ty: T, name: &str) -> Option<T> {
    match ty.kind() {
        Kind::Any => Some(ty),
        _ => ty.field(name),
    }
}

pub(super) fn map(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

pub(super) fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// True for an absent value, null, `{}` and `[]`.
pub(super) fn is_void(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(_) => false,
    }
}

/// What tells an element of a list apart from the others.
pub(super) fn element<T: Type>(list: T, item: &Value) -> Result<Element, String> {
    match list.list() {
        ListType::Atomic => Err("invalid indexing of non-associative list".to_owned()),
        ListType::Set => match item {
            Value::Object(_) => Err("associative list without keys has an element that's a map type".to_owned()),
            Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
            Value::Null => Err("associative list without keys has an element that's an explicit null".to_owned()),
            value => Ok(Element::Value(value.clone())),
        },
        ListType::Map => keyed(list, item),
    }
}

fn keyed<T: Type>(list: T, item: &Value) -> Result<Element, String> {
    let map = match item {
        Value::Object(map) => map,
        Value::Null => return Err("associative list with keys may not have a null element".to_owned()),
        _ => return Err("associative list with keys may not have non-map elements".to_owned()),
    };
    let mut fields: Vec<(Box<str>, Value)> = Vec::with_capacity(2);
    let mut index = 0;
    while let Some(name) = list.key(index) {
        if let Some(value) = map.get(name).cloned().or_else(|| list.key_default(name)) {
            fields.push((name.into(), value));
        }
        index += 1;
    }
    if fields.is_empty() && index > 0 {
        let names: Vec<String> = (0..index).filter_map(|i| list.key(i)).map(|name| format!("{name:?}")).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for \
             any key fields)",
            names.join(" ")
        ));
    }
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(Element::Key(fields))
}
