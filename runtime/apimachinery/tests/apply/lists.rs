//! Lists of each type, and what is atomic or untyped.

use serde_json::{Value, json};

use crate::common::UNTYPED;
use crate::world::World;

#[test]
fn lists_merge_by_their_keys_in_the_order_of_the_configuration() {
    let cases = [
        // (live, applied, merged)
        ("a b c", "c a", "b c a"),
        ("a b", "c", "a b c"),
        ("a b", "b c a", "b c a"),
        ("x a y b", "b a", "x y b a"),
        ("a", "a b", "a b"),
        ("", "b a", "b a"),
    ];
    for (live, applied, merged) in cases {
        let list = |names: &str| Value::from(names.split_whitespace().map(|n| json!({"name": n})).collect::<Vec<_>>());
        let mut w = World::new();
        w.update("hand", |o| o["spec"] = json!({"containers": list(live)}));
        w.apply("me", json!({"spec": {"containers": list(applied)}}));
        assert_eq!(w.object()["spec"]["containers"], list(merged), "{live} + {applied}");
    }
}

#[test]
fn ports_of_two_protocols_are_two_and_a_default_counts_as_said() {
    let mut w = World::new();
    let ports = |list: Value| json!({"spec": {"containers": [{"name": "c", "ports": list}]}});
    w.apply("one", ports(json!([{"containerPort": 53}])));
    w.apply("two", ports(json!([{"containerPort": 53, "protocol": "UDP", "name": "u"}])));
    w.apply("three", ports(json!([{"containerPort": 53, "protocol": "TCP", "name": "t"}])));
    assert_eq!(
        w.object()["spec"]["containers"][0]["ports"],
        json!([{"containerPort": 53, "protocol": "TCP", "name": "t"}, {"containerPort": 53, "protocol": "UDP", "name": "u"}])
    );
    let why = w.refused("four", ports(json!([{"containerPort": 1}, {"containerPort": 1}])));
    assert_eq!(
        why,
        "failed to create typed patch object (default/t; /v1, Kind=Thing): .spec.containers[name=\"c\"].ports: duplicate \
         entries for key [containerPort=1,protocol=\"TCP\"]"
    );
}

#[test]
fn sets_union_and_lose_what_is_no_longer_applied() {
    let mut w = World::new();
    w.apply("one", json!({"metadata": {"finalizers": ["a/x", "b/x"]}}));
    w.apply("two", json!({"metadata": {"finalizers": ["b/x", "c/x"]}}));
    assert_eq!(w.object()["metadata"]["finalizers"], json!(["a/x", "b/x", "c/x"]));
    assert_eq!(w.fields("two Apply"), json!({"f:metadata": {"f:finalizers": {"v:\"b/x\"": {}, "v:\"c/x\"": {}}}}));
    w.apply("one", json!({"metadata": {}}));
    assert_eq!(w.object()["metadata"]["finalizers"], json!(["b/x", "c/x"]));
}

#[test]
fn what_is_atomic_has_one_owner_and_is_replaced_whole() {
    let mut w = World::new();
    w.apply("one", json!({"spec": {"selector": {"matchLabels": {"a": "1"}}, "tolerations": [{"key": "a"}]}}));
    assert_eq!(w.fields("one Apply"), json!({"f:spec": {"f:selector": {}, "f:tolerations": {}}}));
    let why = w.refused("two", json!({"spec": {"selector": {"matchLabels": {"b": "1"}}}}));
    assert!(why.ends_with("conflict with \"one\": .spec.selector"), "{why}");
    w.try_apply("two", json!({"spec": {"selector": {"matchLabels": {"b": "1"}}}}), true).unwrap();
    assert_eq!(w.object()["spec"]["selector"], json!({"matchLabels": {"b": "1"}}));
    assert_eq!(w.fields("one Apply"), json!({"f:spec": {"f:tolerations": {}}}));
}

#[test]
fn untyped_json_merges_its_objects_and_replaces_its_lists() {
    let mut w = World { ty: UNTYPED, ..World::new() };
    w.apply("one", json!({"bag": {"a": {"b": 1}, "l": [1]}}));
    w.apply("two", json!({"bag": {"a": {"c": 2}}}));
    assert_eq!(w.object()["bag"], json!({"a": {"b": 1, "c": 2}, "l": [1]}));
    assert!(w.refused("two", json!({"bag": {"l": [2]}})).ends_with(": .bag.l"));
    // An object in place of a number takes what was there before.
    w.try_apply("two", json!({"bag": {"a": {"b": {"x": 1}}}}), true).unwrap();
    assert_eq!(w.object()["bag"], json!({"a": {"b": {"x": 1}}, "l": [1]}));
}

#[test]
fn a_list_element_that_stands_twice_is_owned_as_one() {
    let mut w = World::new();
    let env = |list: Value| json!({"containers": [{"name": "c", "env": list}]});
    w.update("a", |o| o["spec"] = env(json!([{"name": "E", "value": "1"}, {"name": "E", "value": "2"}])));
    let inner = |w: &World| w.fields("a Update")["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"]["f:env"].clone();
    assert_eq!(inner(&w), json!({".": {}, "k:{\"name\":\"E\"}": {}}));
    w.update("a", |o| o["spec"] = env(json!([{"name": "E", "value": "2"}])));
    assert_eq!(inner(&w), json!({".": {}, "k:{\"name\":\"E\"}": {".": {}, "f:name": {}, "f:value": {}}}));
}

#[test]
fn a_field_that_became_atomic_is_owned_as_a_whole() {
    let mut w = World::new();
    w.update("a", |o| o["spec"] = json!({"selector": {"matchLabels": {"a": "1"}}}));
    let list = w.object()["metadata"]["managedFields"].as_array().unwrap();
    let mut old = list[0].clone();
    old["fieldsV1"] = json!({"f:spec": {"f:selector": {"f:matchLabels": {"f:a": {}}}}});
    w.update("b", |o| {
        o["metadata"]["managedFields"] = json!([old]);
        o["data"] = json!({"k": "1"});
    });
    assert_eq!(w.fields("a Update"), json!({"f:spec": {"f:selector": {}}}));
}
