//! Merging a configuration into an object: what the configuration says wins, what it does not say stays.

use serde_json::{Map, Value};

use super::path::Element;
use super::shape::{self, Shape};
use crate::typed::Type;

/// `right` merged into `left`; `None` if nothing is left. The error names a list element that can't be told apart.
pub fn merge<T: Type>(ty: T, left: Option<&Value>, right: Option<&Value>) -> Result<Option<Value>, String> {
    match shape::common(ty, left, right) {
        Some(Shape::Map | Shape::List) if shape::is_void(left) && shape::is_void(right) => Ok(right.or(left).cloned()),
        Some(Shape::Map) => maps(ty, left, right),
        Some(Shape::List) => lists(ty, left, right),
        Some(Shape::Leaf) | None => Ok(right.or(left).cloned()),
    }
}

fn maps<T: Type>(ty: T, left: Option<&Value>, right: Option<&Value>) -> Result<Option<Value>, String> {
    let (left, right) = (shape::map(left), shape::map(right));
    let mut out = Map::new();
    let mut put = |name: &String, l: Option<&Value>, r: Option<&Value>| {
        let merged = match (shape::child(ty, name), r) {
            (Some(child), Some(_)) => merge(child, l, r).map_err(|e| format!(".{name}{e}"))?,
            _ => r.or(l).cloned(),
        };
        if let Some(value) = merged {
            out.insert(name.clone(), value);
        }
        Ok::<_, String>(())
    };
    for (name, value) in left.into_iter().flatten() {
        put(name, Some(value), right.and_then(|map| map.get(name)))?;
    }
    for (name, value) in right.into_iter().flatten().filter(|(name, _)| left.is_none_or(|l| !l.contains_key(*name))) {
        put(name, None, Some(value))?;
    }
    Ok((!out.is_empty()).then_some(Value::Object(out)))
}

/// Elements with what tells them apart. In the object an element may stand twice, in a configuration not.
fn indexed<T: Type>(ty: T, list: &[Value], twice: bool) -> Result<Vec<(Element, &Value)>, String> {
    let mut out: Vec<(Element, &Value)> = Vec::with_capacity(list.len());
    for (i, value) in list.iter().enumerate() {
        let element = shape::element(ty, value).map_err(|e| format!(": element {i}: {e}"))?;
        if !twice && out.iter().any(|(known, _)| *known == element) {
            return Err(format!(": duplicate entries for key {element}"));
        }
        out.push((element, value));
    }
    Ok(out)
}

/// Elements of the configuration keep its order, elements of the object keep theirs, and those that only the object has stay
/// behind the element that they stood behind.
fn lists<T: Type>(ty: T, left: Option<&Value>, right: Option<&Value>) -> Result<Option<Value>, String> {
    let right = indexed(ty, shape::list(right), false)?;
    let left = indexed(ty, shape::list(left), true)?;
    let in_right = |e: &Element| right.iter().any(|(known, _)| known == e);
    // An element that stands twice is not merged but replaced.
    let mine = |e: &Element| {
        let mut found = left.iter().filter(|(known, _)| known == e);
        found.next().filter(|_| found.next().is_none()).map(|(_, value)| *value)
    };
    let item = |l: Option<&Value>, r: &Value, e: &Element| match ty.item() {
        Some(item) => merge(item, l, Some(r)).map_err(|why| format!("{e}{why}")),
        None => Ok(Some(r.clone())),
    };
    let mut shared = right.iter().map(|(e, _)| e).filter(|e| left.iter().any(|(known, _)| known == *e)).peekable();
    let mut merged = vec![false; right.len()];
    let place = |e: &Element| right.iter().position(|(known, _)| known == e);
    let mut out = Vec::with_capacity(left.len().max(right.len()));
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if let (Some((a, _)), Some((b, value))) = (left.get(l), right.get(r)) {
            if a == b {
                merged[r] = true;
                out.extend(item(mine(a), value, a)?);
                (l, r) = (l + 1, r + 1);
                shared.next();
                continue;
            }
            if in_right(a) && shared.peek().is_some_and(|next| *next != a) {
                // Shared, but not the one whose turn it is.
                l += 1;
                continue;
            }
        }
        if let Some((a, value)) = left.get(l) {
            match place(a) {
                None => {
                    out.push((*value).clone());
                    l += 1;
                    continue;
                }
                Some(at) if merged[at] => l += 1,
                Some(_) => {}
            }
        }
        if let Some((b, value)) = right.get(r) {
            merged[r] = true;
            out.extend(item(mine(b), value, b)?);
            r += 1;
            shared.next_if(|next| *next == b);
        }
    }
    Ok((!out.is_empty()).then_some(Value::Array(out)))
}
