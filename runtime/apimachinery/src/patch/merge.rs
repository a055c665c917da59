//! JSON merge patch: objects merge, `null` removes, everything else replaces.

use serde_json::{Map, Value};

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
