//! JSON patch: a list of operations, applied all or none.

use serde_json::Value;

use super::PatchError;

/// Most operations in one patch.
const MAX_OPERATIONS: usize = 10_000;

/// Applies a JSON patch to `object`, which is left as it was on error.
pub fn apply(object: &mut Value, patch: Value) -> Result<(), PatchError> {
    if let Some(n) = patch.as_array().map(Vec::len).filter(|n| *n > MAX_OPERATIONS) {
        return Err(PatchError::TooLong(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {n}"
        )));
    }
    let patch: json_patch::Patch =
        serde_json::from_value(patch).map_err(|e| PatchError::Malformed(format!("error decoding patch: {e}")))?;
    json_patch::patch(object, &patch).map_err(|e| PatchError::DoesNotFit(e.to_string()))
}
