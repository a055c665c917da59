//! The fields that an object names: what an applier's configuration says it owns.

use serde_json::Value;

use super::path::Element;
use super::set::Set;
use super::shape::{self, Shape};
use crate::typed::Type;

/// The set of fields in an object.
pub fn set_of<T: Type>(ty: T, value: &Value) -> Set {
    let mut set = Set::default();
    walk(ty, value, &mut set);
    set
}

/// Puts what is below into `out`; true if the value is a leaf.
fn walk<T: Type>(ty: T, value: &Value, out: &mut Set) -> bool {
    match shape::of(ty, value) {
        Shape::Leaf => true,
        Shape::Map => {
            for (name, value) in shape::map(Some(value)).into_iter().flatten() {
                let mut below = Set::default();
                let leaf = shape::child(ty, name).is_none_or(|child| walk(child, value, &mut below));
                let empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
                out.put(Element::field(name), leaf || empty || !ty.declares(name), below);
            }
            false
        }
        Shape::List => {
            let items: Vec<(Element, &Value)> = shape::list(Some(value))
                .iter()
                .filter_map(|item| Some((shape::element(ty, item).ok()?, item)))
                .collect();
            for (i, (element, item)) in items.iter().enumerate() {
                let mut below = Set::default();
                let twice = items.iter().enumerate().any(|(j, (other, _))| i != j && other == element);
                // Elements that stand several times are owned as one.
                if let Some(ty) = ty.item().filter(|_| !twice) {
                    walk(ty, item, &mut below);
                }
                out.put(element.clone(), true, below);
            }
            false
        }
    }
}
