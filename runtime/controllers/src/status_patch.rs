//! Writes a status when it is not what it was, and only what of it changed.

use kiln_client::{Client, ClientError, PatchKind, path};
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

use crate::owned::{Owned, name, namespace};
use crate::reconcile::{Failure, to_value};

/// Writes the status of `object`, which has `old`; answers whether there was anything to write. Fails with a conflict if the
/// object has changed meanwhile.
pub(crate) async fn write<O: Owned>(
    client: &Client,
    object: &O,
    old: Option<&impl Serialize>,
    new: &impl Serialize,
) -> Result<bool, Failure> {
    let old = old.map(to_value).transpose()?.unwrap_or_else(|| json!({}));
    let Some(changed) = difference(&old, &to_value(new)?) else { return Ok(false) };
    let patch = json!({
        "metadata": {"resourceVersion": object.resource_version(), "uid": object.uid()},
        "status": changed,
    });
    let path = format!("{}/status", path::<O>(namespace(object), name(object)));
    match client.patch::<IgnoredAny>(&path, PatchKind::Merge, &patch).await {
        Ok(_) => Ok(true),
        // Nobody needs it any more.
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Zero as nothing, as fields that are omitted when they are empty have it.
pub(crate) fn shown(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

/// The merge patch that makes `new` of `old`; `None` if they are one.
pub(crate) fn difference(old: &Value, new: &Value) -> Option<Value> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let mut patch = Map::new();
            for key in old.keys().filter(|key| !new.contains_key(*key)) {
                patch.insert(key.clone(), Value::Null);
            }
            for (key, value) in new {
                let changed = match old.get(key) {
                    Some(old) => difference(old, value),
                    None => Some(value.clone()),
                };
                if let Some(changed) = changed {
                    patch.insert(key.clone(), changed);
                }
            }
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        _ => (old != new).then(|| new.clone()),
    }
}

/// What a write came to, where it does not matter if the object is gone.
#[allow(dead_code, reason = "controllers that delete what they made are to use it")]
pub(crate) fn unless_gone<T>(done: Result<T, ClientError>) -> Result<(), Failure> {
    match done {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_in_the_patch() {
        let old = json!({"a": 1, "b": {"c": 1, "d": 2}, "e": [1], "f": 1});
        assert_eq!(difference(&old, &old), None);
        let new = json!({"a": 1, "b": {"c": 2}, "e": [1, 2], "g": 0});
        assert_eq!(difference(&old, &new), Some(json!({"b": {"c": 2, "d": null}, "e": [1, 2], "f": null, "g": 0})));
    }
}
