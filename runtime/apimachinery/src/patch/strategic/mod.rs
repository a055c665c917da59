//! Strategic merge patch: a merge patch that knows by the type which lists merge element by element, and that takes
//! directives (`$patch`, `$retainKeys`, `$setElementOrder/…`, `$deleteFromPrimitiveList/…`).

mod lists;

use serde_json::{Map, Value};

use super::PatchError;
use crate::go::{Shown, bad_type};
use crate::typed::{PatchStrategy, Type};

const PATCH: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";

type Object = Map<String, Value>;

/// Applies a strategic merge patch to `object`, which is left empty on error. Where the type is not known objects merge and
/// lists are replaced.
pub fn apply<T: Type>(ty: T, object: &mut Value, patch: Value) -> Result<(), PatchError> {
    let Value::Object(patch) = patch else {
        let found = crate::go::json_kind(&patch);
        return Err(PatchError::Malformed(format!(
            "json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
        )));
    };
    let original = match object.take() {
        Value::Object(map) => map,
        _ => Object::new(),
    };
    *object = Value::Object(merge_map(Some(ty), original, patch)?);
    Ok(())
}

/// How a field's list or object meets the patch's.
struct Rule<T> {
    /// The field's type.
    ty: Option<T>,
    merges: bool,
    replaces: bool,
    key: Option<String>,
}

fn rule<T: Type>(ty: Option<T>, field: &str) -> Rule<T> {
    let ty = ty.and_then(|ty| ty.field(field));
    let (strategy, key) = ty.as_ref().map_or((PatchStrategy::Default, None), |ty| {
        let rule = ty.patch();
        (rule.strategy, rule.merge_key.map(str::to_owned))
    });
    Rule {
        ty,
        merges: matches!(strategy, PatchStrategy::Merge | PatchStrategy::MergeRetainKeys),
        replaces: strategy == PatchStrategy::Replace,
        key,
    }
}

fn merge_map<T: Type>(ty: Option<T>, mut original: Object, mut patch: Object) -> Result<Object, PatchError> {
    if let Some(directive) = patch.get(PATCH) {
        return match directive.as_str() {
            Some("replace") => {
                patch.remove(PATCH);
                Ok(patch)
            }
            Some("delete") => Ok(Object::new()),
            _ => Err(bad_directive(directive, &patch)),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    for (key, order) in take_orders(&mut patch) {
        lists::ordered(&rule(ty, &key), &key, &mut original, &mut patch, order)?;
    }
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix(DELETE_FROM) {
            if let (Some(Value::Array(list)), Value::Array(gone)) = (original.get_mut(field), value) {
                lists::delete_from(list, &gone)?;
            }
            continue;
        }
        if key.starts_with(DELETE_FROM.trim_end_matches('/')) {
            return Err(malformed("invalid patch format of primitive list"));
        }
        merge_field(ty, &mut original, key, value)?;
    }
    Ok(original)
}

fn merge_field<T: Type>(ty: Option<T>, original: &mut Object, key: String, value: Value) -> Result<(), PatchError> {
    let merged = match (original.remove(&key), value) {
        (_, Value::Null) => None,
        (Some(Value::Object(old)), Value::Object(new)) => {
            let rule = rule(ty, &key);
            Some(Value::Object(if rule.replaces { new } else { merge_map(rule.ty, old, new)? }))
        }
        (Some(Value::Array(old)), Value::Array(new)) => Some(Value::Array(lists::merge(&rule(ty, &key), old, new)?)),
        (_, mut new) => {
            drop_nulls(&mut new);
            without_directives(new)
        }
    };
    if let Some(value) = merged {
        original.insert(key, value);
    }
    Ok(())
}

/// `$retainKeys`: what it does not name goes, and the patch may say nothing else.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    let Some(keep) = patch.remove(RETAIN) else { return Ok(()) };
    let bad = || malformed("invalid patch format of retainKeys");
    let Value::Array(keep) = keep else { return Err(bad()) };
    let kept = |key: &str| keep.iter().any(|k| k.as_str() == Some(key));
    let is_directive = |key: &str| key.starts_with(ORDER.trim_end_matches('/')) || key.starts_with(DELETE_FROM);
    if patch.iter().any(|(key, value)| !value.is_null() && !is_directive(key) && !kept(key)) {
        return Err(bad());
    }
    original.retain(|key, _| kept(key));
    Ok(())
}

/// The `$setElementOrder` directives, by field.
fn take_orders(patch: &mut Object) -> Vec<(String, Value)> {
    let keys: Vec<String> = patch.keys().filter(|key| key.starts_with(ORDER)).cloned().collect();
    keys.into_iter().filter_map(|key| patch.remove(&key).map(|order| (key[ORDER.len()..].to_owned(), order))).collect()
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// What is left of a patch's value where there is nothing to merge it with; nothing if it is a directive itself.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(PATCH) => None,
        Value::Object(map) => {
            let fields = map.into_iter().filter_map(|(key, value)| Some((key, without_directives(value)?)));
            Some(Value::Object(fields.collect()))
        }
        Value::Array(list) => Some(Value::Array(list.into_iter().filter_map(without_directives).collect())),
        other => Some(other),
    }
}

fn malformed(text: &str) -> PatchError {
    PatchError::Malformed(text.to_owned())
}

fn bad_directive(directive: &Value, patch: &Object) -> PatchError {
    PatchError::Failed(format!("unknown patch type: {} in map: {}", Shown(directive), Shown::map(patch)))
}

fn no_key(map: &Object, key: &str) -> PatchError {
    PatchError::Failed(format!("map: {} does not contain declared merge key: {key}", Shown::map(map)))
}

fn not_a_list(found: &Value) -> PatchError {
    PatchError::Failed(bad_type("[]interface {}", found))
}

fn not_a_map(found: &Value) -> PatchError {
    PatchError::Failed(bad_type("map[string]interface {}", found))
}

#[cfg(test)]
mod tests;
