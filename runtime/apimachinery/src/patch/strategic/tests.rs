use serde_json::json;

use super::*;
use crate::typed::Untyped;

#[test]
fn without_a_type_objects_merge_and_lists_are_replaced() {
    let mut o = json!({"a": {"x": 1, "y": 2}, "l": [1, 2]});
    apply(Untyped, &mut o, json!({"a": {"y": null, "z": {"n": null, "m": 1}}, "l": [3]})).unwrap();
    assert_eq!(o, json!({"a": {"x": 1, "z": {"m": 1}}, "l": [3]}));
}

#[test]
fn maps_are_replaced_deleted_or_reduced_on_demand() {
    let mut o = json!({"a": {"x": 1, "y": 2}, "b": {"x": 1}, "c": {"x": 1, "y": 2}});
    let p = json!({"a": {"$patch": "replace", "z": 3}, "b": {"$patch": "delete"},
        "c": {"$retainKeys": ["y", "n"], "n": 5}});
    apply(Untyped, &mut o, p).unwrap();
    assert_eq!(o, json!({"a": {"z": 3}, "b": {}, "c": {"y": 2, "n": 5}}));
}
