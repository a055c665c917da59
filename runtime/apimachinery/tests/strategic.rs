//! Strategic merge patches by a small type: a row per case of the documentation, and the errors in the reference's words.

mod common;

use common::{THING, thing};
use kiln_apimachinery::patch::{PatchError, strategic_merge_patch};
use serde_json::{Value, json};

fn patched(object: &Value, patch: &Value) -> Result<Value, PatchError> {
    let mut object = thing(object.clone());
    strategic_merge_patch(THING, &mut object, patch.clone()).map(|()| object)
}

#[test]
fn lists_and_maps_merge_as_their_types_say() {
    let rows = [
        (
            "containers merge by name",
            json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}}),
            json!({"spec": {"containers": [{"name": "b", "image": "2"}, {"name": "c"}]}}),
            json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}, {"name": "c"}]}}),
        ),
        (
            "an element that two have is patched in both",
            json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 1, "name": "x"}]}]}}),
            json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 1, "hostPort": 9}, {"containerPort": 2}]}]}}),
            json!({"spec": {"containers": [{"name": "a", "ports": [
                {"containerPort": 1, "name": "x", "hostPort": 9}, {"containerPort": 2}]}]}}),
        ),
        (
            "tolerations have no merge key and are replaced",
            json!({"spec": {"tolerations": [{"key": "a"}]}}),
            json!({"spec": {"tolerations": [{"key": "b"}]}}),
            json!({"spec": {"tolerations": [{"key": "b"}]}}),
        ),
        (
            "finalizers are a set",
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"finalizers": ["c", "b"]}}),
            json!({"metadata": {"finalizers": ["c", "a", "b"]}}),
        ),
        (
            "a set shrinks by its directive",
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a", "x"]}}),
            json!({"metadata": {"finalizers": ["b"]}}),
        ),
        (
            "an element is deleted by its key",
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}),
            json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}),
            json!({"spec": {"containers": [{"name": "b"}]}}),
        ),
        (
            "a list is replaced on demand",
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}),
            json!({"spec": {"containers": [{"name": "c"}, {"$patch": "replace"}]}}),
            json!({"spec": {"containers": [{"name": "c"}]}}),
        ),
        (
            "a map is replaced on demand",
            json!({"metadata": {"labels": {"a": "1"}}}),
            json!({"metadata": {"labels": {"$patch": "replace", "b": "2"}}}),
            json!({"metadata": {"labels": {"b": "2"}}}),
        ),
        (
            "null removes, also what is not there",
            json!({"spec": {"paused": true, "replicas": 1}}),
            json!({"spec": {"paused": null, "nodeName": null, "strategy": {"type": null, "rollingUpdate": {"a": "1"}}}}),
            json!({"spec": {"replicas": 1, "strategy": {"rollingUpdate": {"a": "1"}}}}),
        ),
        (
            "retainKeys clears the old source of a volume",
            json!({"spec": {"volumes": [{"name": "v", "emptyDir": {"medium": "m"}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "configMap"], "configMap": {"name": "c"}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "configMap": {"name": "c"}}]}}),
        ),
        (
            "retainKeys of a map",
            json!({"spec": {"strategy": {"type": "R", "rollingUpdate": {"max": "1"}}}}),
            json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
            json!({"spec": {"strategy": {"type": "Recreate"}}}),
        ),
        (
            "an order puts what the patch knows in its order and the rest where it was",
            json!({"spec": {"containers": [{"name": "a"}, {"name": "server"}, {"name": "b"}]}}),
            json!({"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "b"}],
                "containers": [{"name": "a", "$patch": "delete"}, {"name": "c", "image": "i"}]}}),
            json!({"spec": {"containers": [{"name": "c", "image": "i"}, {"name": "server"}, {"name": "b"}]}}),
        ),
        (
            "an order alone sorts",
            json!({"metadata": {"finalizers": ["a", "b", "c"]}}),
            json!({"metadata": {"$setElementOrder/finalizers": ["c", "a"]}}),
            json!({"metadata": {"finalizers": ["b", "c", "a"]}}),
        ),
        (
            "directives leave nothing behind where there was nothing",
            json!({}),
            json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}, {"name": "b", "image": null}],
                "strategy": {"$patch": "delete"}}}),
            json!({"spec": {"containers": [{"name": "b"}]}}),
        ),
        (
            "a value of another type replaces",
            json!({"bag": {"x": [1]}}),
            json!({"bag": {"x": {"y": 1}}}),
            json!({"bag": {"x": {"y": 1}}}),
        ),
    ];
    for (what, object, patch, expected) in rows {
        assert_eq!(patched(&object, &patch).map_err(|e| e.to_string()), Ok(thing(expected)), "{what}");
    }
}

#[test]
fn what_a_patch_may_not_say_is_refused_in_the_words_of_the_reference() {
    let malformed = |text: &str| PatchError::Malformed(text.to_owned());
    let failed = |text: &str| PatchError::Failed(text.to_owned());
    let containers = json!({"spec": {"containers": [{"name": "a", "image": "1"}]}});
    let rows = [
        (json!([]), malformed("json: cannot unmarshal array into Go value of type map[string]interface {}")),
        (
            json!({"spec": {"containers": [{"image": "2"}]}}),
            failed("map: map[image:2] does not contain declared merge key: name"),
        ),
        (
            json!({"spec": {"containers": [{"$patch": "delete"}]}}),
            failed("map: map[$patch:delete] does not contain declared merge key: name"),
        ),
        (
            json!({"spec": {"containers": [{"name": "a", "$patch": "merge"}]}}),
            failed("merging lists cannot yet be specified in the patch"),
        ),
        (
            json!({"spec": {"containers": [{"name": "a", "$patch": "x"}]}}),
            failed("unknown patch type: x in map: map[$patch:x name:a]"),
        ),
        (json!({"spec": {"$patch": "merge"}}), failed("unknown patch type: merge in map: map[$patch:merge]")),
        (
            json!({"spec": {"containers": ["a"]}}),
            failed("list element types are not identical: [[map[image:1 name:a]] [a]]"),
        ),
        (
            json!({"spec": {"containers": [{"name": "b"}, {"name": "a"}], "$setElementOrder/containers": [{"name": "a"}, {"name": "b"}]}}),
            failed(
                "The order in patch list:\n[map[name:b] map[name:a]]\n doesn't match $setElementOrder list:\n[map[name:a] \
                 map[name:b]]\n",
            ),
        ),
        (
            json!({"spec": {"$setElementOrder/containers": "a"}}),
            failed("expected a []interface {}, but received a string"),
        ),
        (json!({"spec": {"$retainKeys": "a"}}), malformed("invalid patch format of retainKeys")),
        (json!({"spec": {"$retainKeys": ["paused"], "replicas": 1}}), malformed("invalid patch format of retainKeys")),
        (json!({"spec": {"$deleteFromPrimitiveList": []}}), malformed("invalid patch format of primitive list")),
    ];
    for (patch, error) in rows {
        assert_eq!(patched(&containers, &patch), Err(error), "{patch}");
    }
}
