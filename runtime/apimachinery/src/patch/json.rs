//! JSON patch: a list of operations, applied all or none. Where the reference reads RFC 6902 in its own way, so does this:
//! a key that is absent equals `null`, `replace` sets one that is absent, and indices below zero count from the end.

use serde_json::{Map, Value};

use super::PatchError;
use crate::decode::{MAX_DEPTH, deeper_than};
use crate::go::json_kind;

/// Most operations in one patch.
const MAX_OPERATIONS: usize = 10_000;
/// Most bytes, as JSON, that the copies of one patch may add together.
const MAX_COPIED: usize = 3 * 1024 * 1024;

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
    let mut work = Work { document: object.clone(), copied: 0 };
    for operation in operations {
        if let Value::Object(operation) = operation {
            work.operation(operation).map_err(PatchError::DoesNotFit)?;
        }
    }
    *object = work.document;
    Ok(())
}

/// A document in work.
struct Work {
    document: Value,
    /// Bytes that copies have added.
    copied: usize,
}

impl Work {
    fn operation(&mut self, mut operation: Map<String, Value>) -> Result<(), String> {
        let value = operation.remove("value").unwrap_or_default();
        let text = |key: &str| operation.get(key).and_then(Value::as_str);
        let missing = |key: &str| format!("operation missing {key} field");
        let path = text("path").ok_or_else(|| missing("path"));
        let from = text("from").ok_or_else(|| missing("from"));
        match text("op").unwrap_or_default() {
            "add" => self.add(path?, value),
            "remove" => self.remove(path?).map(|_| ()),
            "replace" => self.replace(path?, value),
            "test" => self.test(path?, &value),
            "move" => {
                let value = self.remove(from?)?;
                self.add(path?, value)
            }
            "copy" => {
                let value = self.value(from?)?.cloned().unwrap_or_default();
                self.copied += value.to_string().len();
                if self.copied > MAX_COPIED {
                    return Err(format!(
                        "Unable to complete the copy, the accumulated size increase of copy is {}, exceeding the limit {MAX_COPIED}",
                        self.copied
                    ));
                }
                self.add(path?, value)
            }
            other => Err(format!("Unexpected kind: {other}")),
        }
    }

    fn add(&mut self, path: &str, value: Value) -> Result<(), String> {
        check_depth(path, &value)?;
        match self.place(path)? {
            Place::Member(map, key) => _ = map.insert(key, value),
            Place::Item(list, key) if key == "-" => list.push(value),
            Place::Item(list, key) => list.insert(index(&key, list.len() + 1)?, value),
        }
        Ok(())
    }

    fn remove(&mut self, path: &str) -> Result<Value, String> {
        match self.place(path)? {
            Place::Member(map, key) => {
                map.remove(&key).ok_or_else(|| format!("Unable to remove nonexistent key: {key}"))
            }
            Place::Item(list, key) => Ok(list.remove(index(&key, list.len())?)),
        }
    }

    fn replace(&mut self, path: &str, value: Value) -> Result<(), String> {
        check_depth(path, &value)?;
        if path.is_empty() {
            if !value.is_object() && !value.is_array() {
                return Err("replace operation value must be object or array".into());
            }
            self.document = value;
            return Ok(());
        }
        match self.place(path)? {
            Place::Member(map, key) => _ = map.insert(key, value),
            Place::Item(list, key) => {
                let at = index(&key, list.len())?;
                list[at] = value;
            }
        }
        Ok(())
    }

    fn test(&mut self, path: &str, value: &Value) -> Result<(), String> {
        let found = if path.is_empty() { Some(&self.document) } else { self.value(path)? };
        if found.unwrap_or(&Value::Null) == value { Ok(()) } else { Err(format!("testing value {path} failed")) }
    }

    /// The value at a path; `None` if the object that it would be in has not that key.
    fn value(&mut self, path: &str) -> Result<Option<&Value>, String> {
        match self.place(path)? {
            Place::Member(map, key) => Ok(map.get(&key)),
            Place::Item(list, key) => Ok(Some(&list[index(&key, list.len())?])),
        }
    }

    /// Where the last part of a path is, or would be.
    fn place(&mut self, path: &str) -> Result<Place<'_>, String> {
        let missing = || format!("doc is missing path: {path:?}");
        let (above, key) = path.rsplit_once('/').ok_or_else(missing)?;
        let mut at = &mut self.document;
        // Whatever stands before the first slash counts for nothing.
        for part in above.split('/').skip(1).map(unescaped) {
            at = match at {
                Value::Object(map) => map.get_mut(&part),
                Value::Array(list) => index(&part, list.len()).ok().and_then(|i| list.get_mut(i)),
                _ => None,
            }
            .ok_or_else(missing)?;
        }
        match at {
            Value::Object(map) => Ok(Place::Member(map, unescaped(key))),
            Value::Array(list) => Ok(Place::Item(list, unescaped(key))),
            _ => Err(missing()),
        }
    }
}

/// What a path points into.
enum Place<'a> {
    Member(&'a mut Map<String, Value>, String),
    Item(&'a mut Vec<Value>, String),
}

/// Refuses what would make a document that nobody can read back.
fn check_depth(path: &str, value: &Value) -> Result<(), String> {
    let above = path.matches('/').count();
    if above > MAX_DEPTH || deeper_than(value, MAX_DEPTH - above) {
        return Err(format!("the value at {path:?} would be nested more than {MAX_DEPTH} deep"));
    }
    Ok(())
}

/// The place in a list of which `len` are open; below zero from the end.
fn index(key: &str, len: usize) -> Result<usize, String> {
    let number: i64 = key.parse().map_err(|_| format!("value was not a proper array index: '{key}'"))?;
    let at = if number < 0 {
        usize::try_from(number.unsigned_abs()).ok().and_then(|back| len.checked_sub(back))
    } else {
        usize::try_from(number).ok().filter(|at| *at < len)
    };
    at.ok_or_else(|| format!("Unable to access invalid index: {number}"))
}

fn unescaped(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
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
            json!({"op": "move", "from": "/none", "path": "/a"}),
            json!({"op": "add", "path": "/none/x", "value": 1}),
            json!({"op": "add", "path": "", "value": {}}),
            json!({"op": "add", "path": "/l/3", "value": 1}),
            json!({"op": "replace", "path": "/l/9", "value": 1}),
            json!({"op": "replace", "path": "", "value": 1}),
            json!({"op": "remove", "path": "/l/-3"}),
            json!({"op": "test", "path": "/l/x", "value": null}),
            json!({"op": "what", "path": "/a"}),
            json!({"path": "/a"}),
            json!({"op": "copy", "path": "/c"}),
        ] {
            let refused = patched(json!([{"op": "add", "path": "/z", "value": 1}, last]));
            assert!(matches!(refused, Err(PatchError::DoesNotFit(_))), "{last}");
        }
    }

    #[test]
    fn a_key_that_is_absent_is_null_to_a_test_and_free_to_a_replacement() {
        let all = json!([
            {"op": "test", "path": "/none", "value": null}, {"op": "test", "path": "/a/none"},
            {"op": "replace", "path": "/a/c", "value": 2}, {"op": "copy", "from": "/none", "path": "/n"},
            {"op": "add", "path": "/o"}, {"op": "test", "path": "", "value": {"a": {"b": 1, "c": 2}, "l": [1, 2], "n": null, "o": null}},
        ]);
        assert_eq!(patched(all), Ok(json!({"a": {"b": 1, "c": 2}, "l": [1, 2], "n": null, "o": null})));
    }

    #[test]
    fn indices_below_zero_count_from_the_end() {
        let all = json!([
            {"op": "add", "path": "/l/-1", "value": 3}, {"op": "test", "path": "/l/-1", "value": 3},
            {"op": "replace", "path": "/l/-2", "value": 9}, {"op": "remove", "path": "/l/-3"},
        ]);
        assert_eq!(patched(all), Ok(json!({"a": {"b": 1}, "l": [9, 3]})));
    }

    #[test]
    fn copies_of_copies_end_before_the_memory_does() {
        let mut all = vec![json!({"op": "add", "path": "/a/x", "value": "y".repeat(1000)})];
        all.extend((0..64).map(|i| json!({"op": "copy", "from": "/a", "path": format!("/a/{i}")})));
        let Err(PatchError::DoesNotFit(why)) = patched(all.into()) else { panic!("it was let through") };
        assert!(why.starts_with("Unable to complete the copy"), "{why}");
    }

    #[test]
    fn a_patch_can_not_nest_deeper_than_a_body() {
        let nest = |depth: usize| (0..depth).fold(json!(1), |inner, _| json!({"n": inner}));
        let under = |depth: usize| format!("/a{}", "/n".repeat(depth));
        let add = |path: String, depth| json!([{"op": "add", "path": "/a", "value": nest(60)}, {"op": "add", "path": path, "value": nest(depth)}]);
        assert!(patched(add(under(10), 20)).is_ok());
        assert!(patched(add(under(50), 60)).is_err());
        let twice: Vec<Value> = (0..1000).map(|_| json!({"op": "copy", "from": "/a", "path": "/a/b"})).collect();
        assert!(patched([vec![json!({"op": "add", "path": "/a/b", "value": {}})], twice].concat().into()).is_err());
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
