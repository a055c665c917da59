//! JSON patch: a list of operations, applied all or none.

use json_patch::PatchOperation;
use serde_json::Value;

use super::PatchError;
use crate::go::json_kind;

/// Most operations in one patch.
const MAX_OPERATIONS: usize = 10_000;

/// Applies a JSON patch to `object`, which is left as it was on error.
pub fn apply(object: &mut Value, patch: Value) -> Result<(), PatchError> {
    let misfit = |found: &Value, wanted: &str| {
        let found = json_kind(found);
        PatchError::Malformed(format!(
            "error decoding patch: json: cannot unmarshal {found} into Go value of type {wanted}"
        ))
    };
    let Value::Array(operations) = patch else { return Err(misfit(&patch, "[]handlers.jsonPatchOp")) };
    if let Some(other) = operations.iter().find(|operation| !operation.is_object()) {
        return Err(misfit(other, "handlers.jsonPatchOp"));
    }
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooLong(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    // An operation that is none is found only when its turn comes, so it does not fit rather than being malformed.
    let operations: Result<Vec<PatchOperation>, _> = operations.into_iter().map(serde_json::from_value).collect();
    let operations = operations.map_err(|e| PatchError::DoesNotFit(e.to_string()))?;
    json_patch::patch(object, &operations).map_err(|e| PatchError::DoesNotFit(e.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(patch: Value) -> Result<Value, PatchError> {
        let mut object = json!({"a": {"b": 1}, "l": [1, 2]});
        let before = object.clone();
        let done = apply(&mut object, patch);
        assert!(done.is_ok() || object == before, "an error leaves the object as it was");
        done.map(|()| object)
    }

    #[test]
    fn operations_are_applied_all_or_none() {
        let all = json!([
            {"op": "test", "path": "/a/b", "value": 1}, {"op": "add", "path": "/l/-", "value": 3},
            {"op": "move", "from": "/a/b", "path": "/c"}, {"op": "copy", "from": "/c", "path": "/l/0"},
            {"op": "replace", "path": "/c", "value": {"x~/y": 1}}, {"op": "remove", "path": "/c/x~0~1y"},
        ]);
        assert_eq!(patched(all), Ok(json!({"a": {}, "l": [1, 1, 2, 3], "c": {}})));
        for last in [
            json!({"op": "test", "path": "/a/b", "value": 2}),
            json!({"op": "remove", "path": "/none"}),
            json!({"op": "add", "path": "/none/x", "value": 1}),
            json!({"op": "replace", "path": "/l/9", "value": 1}),
            json!({"op": "what", "path": "/a"}),
            json!({"path": "/a"}),
        ] {
            let refused = patched(json!([{"op": "add", "path": "/z", "value": 1}, last]));
            assert!(matches!(refused, Err(PatchError::DoesNotFit(_))), "{last}");
        }
    }

    #[test]
    fn a_patch_that_is_no_list_of_operations_or_too_long_a_one_is_refused() {
        let text = "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp";
        assert_eq!(patched(json!({})), Err(PatchError::Malformed(text.into())));
        let text = "error decoding patch: json: cannot unmarshal number into Go value of type handlers.jsonPatchOp";
        assert_eq!(patched(json!([1])), Err(PatchError::Malformed(text.into())));
        let many: Vec<Value> = (0..10_001).map(|_| json!({"op": "test", "path": "/a/b", "value": 1})).collect();
        let text = "The allowed maximum operations in a JSON patch is 10000, got 10001";
        assert_eq!(patched(many.into()), Err(PatchError::TooLong(text.into())));
    }
}
