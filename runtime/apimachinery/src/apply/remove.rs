//! Taking fields out of an object.

use serde_json::{Map, Value};

use super::path::Element;
use super::set::Set;
use super::shape::{self, Shape};
use crate::typed::Type;

/// The object without the members of `fields`. What becomes empty by it stays, as an empty object or list.
pub fn remove<T: Type>(ty: T, value: &Value, fields: &Set) -> Value {
    match shape::of(ty, value) {
        Shape::Leaf => value.clone(),
        Shape::Map => {
            let mut out = Map::new();
            for (name, value) in shape::map(Some(value)).into_iter().flatten() {
                let element = Element::field(name);
                if !fields.holds(&element) {
                    let below = fields.below(&element).zip(shape::child(ty, name));
                    out.insert(name.clone(), below.map_or_else(|| value.clone(), |(set, ty)| inner(ty, value, set)));
                }
            }
            Value::Object(out)
        }
        Shape::List => {
            let mut out = Vec::new();
            for item in shape::list(Some(value)) {
                let Ok(element) = shape::element(ty, item) else { continue };
                if !fields.holds(&element) {
                    let below = fields.below(&element).zip(ty.item());
                    out.push(below.map_or_else(|| item.clone(), |(set, ty)| inner(ty, item, set)));
                }
            }
            Value::Array(out)
        }
    }
}

/// Below an atomic object or list nothing is owned; what names fields there takes all of it.
fn inner<T: Type>(ty: T, value: &Value, fields: &Set) -> Value {
    match (shape::of(ty, value), value) {
        (Shape::Leaf, Value::Object(_)) => Value::Object(Map::new()),
        (Shape::Leaf, Value::Array(_)) => Value::Array(Vec::new()),
        _ => remove(ty, value, fields),
    }
}
