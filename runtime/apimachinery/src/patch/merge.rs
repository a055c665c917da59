//! JSON merge patch: objects merge, `null` removes, everything else replaces.

use serde_json::{Map, Value};

use super::PatchError;
use crate::go::json_kind;

/// Applies a merge patch to `object`.
pub fn apply(object: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *object = patch;
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    if let Value::Object(map) = object {
        for (key, value) in patch {
            if value.is_null() {
                map.remove(&key);
            } else {
                apply(map.entry(key).or_insert(Value::Null), value);
            }
        }
    }
}

/// Applies a merge patch, which must be an object, to an object.
pub fn apply_object(object: &mut Value, patch: Value) -> Result<(), PatchError> {
    if !patch.is_object() {
        return Err(PatchError::Malformed(format!(
            "error decoding patch: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            json_kind(&patch)
        )));
    }
    apply(object, patch);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn null_removes_objects_merge_and_lists_replace() {
        let mut o = json!({"a": {"b": 1, "c": 2}, "l": [1, 2]});
        apply(&mut o, json!({"a": {"b": null, "d": {"e": null, "f": 1}}, "l": [3]}));
        assert_eq!(o, json!({"a": {"c": 2, "d": {"f": 1}}, "l": [3]}));
    }
}
