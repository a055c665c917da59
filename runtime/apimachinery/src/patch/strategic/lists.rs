//! How two lists meet, and in which order their elements stand afterwards.

use serde_json::Value;

use super::{Object, PATCH, PatchError, Rule, bad_directive, malformed, merge_map, no_key, not_a_list, not_a_map};
use crate::go::Shown;
use crate::typed::Type;

/// The list that the patch's makes of the object's.
pub(super) fn merge<T: Type>(rule: &Rule<T>, old: Vec<Value>, new: Vec<Value>) -> Result<Vec<Value>, PatchError> {
    if !rule.merges {
        return Ok(new);
    }
    if old.is_empty() && new.is_empty() {
        return Ok(old);
    }
    if !of_maps(&old, &new)? {
        let mut merged: Vec<Value> = Vec::with_capacity(old.len() + new.len());
        for value in old.iter().chain(&new) {
            if !merged.contains(value) {
                merged.push(value.clone());
            }
        }
        return arrange(merged, &new, &old, None);
    }
    let Some(key) = rule.key.as_deref() else {
        return Err(PatchError::Failed("cannot merge lists without merge key for struct".to_owned()));
    };
    let (old, new) = directives(old, new, key)?;
    let mut merged = old.clone();
    for item in &new {
        let map = as_map(item)?;
        let id = map.get(key).ok_or_else(|| no_key(map, key))?;
        match position(&merged, key, id)? {
            Some(at) => {
                if let Value::Object(before) = merged[at].take() {
                    let item_type = rule.ty.as_ref().and_then(Type::item);
                    merged[at] = Value::Object(merge_map(item_type, before, map.clone())?);
                }
            }
            None => merged.push(item.clone()),
        }
    }
    arrange(merged, &new, &old, Some(key))
}

/// Merges a list and puts it into the order that `$setElementOrder` asks for.
pub(super) fn ordered<T: Type>(
    rule: &Rule<T>,
    field: &str,
    original: &mut Object,
    patch: &mut Object,
    order: Value,
) -> Result<(), PatchError> {
    let list = |value: Option<Value>| match value {
        None => Ok(None),
        Some(Value::Array(list)) => Ok(Some(list)),
        Some(other) => Err(not_a_list(&other)),
    };
    let Value::Array(order) = order else { return Err(not_a_list(&order)) };
    let old = list(original.remove(field))?;
    let new = list(patch.remove(field))?;
    let key = rule.key.as_deref();
    fits(new.as_deref().unwrap_or_default(), &order, key)?;
    let merged = match (&old, new) {
        (None, None) => return Ok(()),
        (Some(old), None) => old.clone(),
        (None, Some(new)) => new.into_iter().filter_map(super::without_directives).collect(),
        (Some(old), Some(new)) => merge(rule, old.clone(), new)?,
    };
    let old = old.unwrap_or_default();
    original.insert(field.to_owned(), Value::Array(arrange(merged, &order, &old, key)?));
    Ok(())
}

/// Removes plain values.
pub(super) fn delete_from(list: &mut Vec<Value>, gone: &[Value]) -> Result<(), PatchError> {
    if !list.is_empty() || !gone.is_empty() {
        of_maps(list, gone)?;
    }
    list.retain(|value| !gone.contains(value));
    Ok(())
}

/// True if the elements are objects, false if they are plain values; they must all be of one type.
fn of_maps(a: &[Value], b: &[Value]) -> Result<bool, PatchError> {
    let mut all = a.iter().chain(b);
    let Some(first) = all.next() else {
        return Err(PatchError::Failed("no elements in any of the given slices".to_owned()));
    };
    if first.is_array() {
        return Err(PatchError::DoesNotFit("lists of lists are not supported".to_owned()));
    }
    if all.any(|v| std::mem::discriminant(v) != std::mem::discriminant(first)) {
        let shown = |list: &[Value]| Shown(&Value::from(list.to_vec())).to_string();
        let text = format!("list element types are not identical: [{} {}]", shown(a), shown(b));
        return Err(PatchError::Failed(text));
    }
    Ok(first.is_object())
}

fn as_map(value: &Value) -> Result<&Object, PatchError> {
    value.as_object().ok_or_else(|| not_a_map(value))
}

fn position(list: &[Value], key: &str, id: &Value) -> Result<Option<usize>, PatchError> {
    for (i, value) in list.iter().enumerate() {
        let Value::Object(map) = value else {
            return Err(PatchError::Failed(format!("value for key {i} is not a map")));
        };
        if map.get(key) == Some(id) {
            return Ok(Some(i));
        }
    }
    Ok(None)
}

/// Carries out the `$patch` directives among a patch's elements, and gives both lists as they are after that.
fn directives(mut old: Vec<Value>, new: Vec<Value>, key: &str) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let mut plain = Vec::with_capacity(new.len());
    let mut replace = false;
    for item in new {
        let map = as_map(&item)?;
        match map.get(PATCH).map(|directive| (directive, directive.as_str())) {
            None => plain.push(item),
            Some((_, Some("delete"))) => {
                let id = map.get(key).ok_or_else(|| no_key(map, key))?;
                while let Some(at) = position(&old, key, id)? {
                    old.remove(at);
                }
            }
            Some((_, Some("replace"))) => replace = true,
            Some((_, Some("merge"))) => {
                return Err(PatchError::Failed("merging lists cannot yet be specified in the patch".to_owned()));
            }
            Some((directive, _)) => return Err(bad_directive(directive, map)),
        }
    }
    Ok(if replace { (plain, Vec::new()) } else { (old, plain) })
}

/// What an element counts as in an order: its key, or itself.
fn id<'v>(value: &'v Value, key: Option<&str>) -> &'v Value {
    const NOTHING: &Value = &Value::Null;
    match key {
        Some(key) => value.get(key).unwrap_or(NOTHING),
        None => value,
    }
}

fn place(list: &[Value], value: &Value, key: Option<&str>) -> Option<usize> {
    list.iter().position(|v| id(v, key) == id(value, key))
}

/// The elements that `order` names stand in its order; the others, which only the server has, keep their order, each before
/// the first of the named ones that it stood before.
fn arrange(merged: Vec<Value>, order: &[Value], before: &[Value], key: Option<&str>) -> Result<Vec<Value>, PatchError> {
    if let Some(key) = key {
        for map in merged.iter().chain(order).map(as_map) {
            let map = map?;
            if !map.contains_key(key) {
                return Err(no_key(map, key));
            }
        }
    }
    let (mut named, mut others): (Vec<_>, Vec<_>) = merged.into_iter().partition(|v| place(order, v, key).is_some());
    named.sort_by_key(|v| place(order, v, key));
    others.sort_by_key(|v| place(before, v, key));
    let mut out = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for value in named {
        if let Some(here) = place(before, &value, key) {
            while let Some(other) = others.next_if(|o| place(before, o, key).is_some_and(|p| p < here)) {
                out.push(other);
            }
        }
        out.push(value);
    }
    out.extend(others);
    Ok(out)
}

/// Checks that the patch's elements stand in the order that it asks for.
fn fits(new: &[Value], order: &[Value], key: Option<&str>) -> Result<(), PatchError> {
    if new.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut wanted = order.iter();
    for item in new.iter().filter(|item| item.get(PATCH).is_none()) {
        if let Some(key) = key {
            for map in [item].into_iter().chain(order).map(as_map) {
                let map = map?;
                if !map.contains_key(key) {
                    return Err(no_key(map, key));
                }
            }
        }
        if !wanted.any(|w| id(w, key) == id(item, key)) {
            let shown = |list: &[Value]| Shown(&Value::from(list.to_vec())).to_string();
            return Err(PatchError::Failed(format!(
                "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                shown(new),
                shown(order)
            )));
        }
    }
    if order.iter().any(Value::is_array) {
        return Err(malformed("invalid patch format of setElementOrder list"));
    }
    Ok(())
}
