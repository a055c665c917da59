//! Laws of patches and of server-side apply, over objects made at random.

#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap")]

mod common;

use common::{THING, Ty, UNTYPED, thing, writer};
use kiln_apimachinery::Gvk;
use kiln_apimachinery::apply::{self, ApplyError, Set, compare, set_of, update};
use kiln_apimachinery::patch::{merge_patch, strategic_merge_patch};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const NOW: &str = "2026-01-01T00:00:00Z";

fn texts() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-d]", "[xy]", 0..3)
        .prop_map(|map| Value::Object(map.into_iter().map(|(k, v)| (k, v.into())).collect()))
}

/// A list of elements of which no two have the same key. An empty list is owned by nobody, so none is made.
fn keyed(key: &'static str, field: &'static str) -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-d]", prop::option::of("[xy]"), 1..4).prop_flat_map(move |map| {
        let items = map.into_iter().map(|(name, value)| match value {
            Some(value) => json!({key: name, field: value}),
            None => json!({key: name}),
        });
        Just(items.collect::<Vec<_>>()).prop_shuffle().prop_map(Value::from)
    })
}

fn field(
    name: &'static str,
    value: impl Strategy<Value = Value>,
) -> impl Strategy<Value = Option<(&'static str, Value)>> {
    prop::option::of(value.prop_map(move |value| (name, value)))
}

fn object<const N: usize>(fields: [Option<(&'static str, Value)>; N]) -> Value {
    Value::Object(fields.into_iter().flatten().map(|(k, v)| (k.to_owned(), v)).collect::<Map<_, _>>())
}

/// Parts of a thing: maps, sets, lists by keys, what is atomic, scalars.
fn parts() -> impl Strategy<Value = Value> {
    let containers =
        (keyed("name", "value"), "[xy]").prop_map(|(env, image)| json!([{"name": "one", "image": image, "env": env}]));
    let sets =
        prop::collection::btree_set("[a-d]/x", 1..3).prop_map(|set| Value::from(set.into_iter().collect::<Vec<_>>()));
    let spec = (
        field("replicas", (0..3).prop_map(Value::from)),
        field("containers", containers),
        field(
            "volumes",
            keyed("name", "x").prop_map(|list| {
                list.as_array().into_iter().flatten().map(|v| json!({"name": v["name"], "emptyDir": {}})).collect()
            }),
        ),
        field("selector", texts().prop_map(|map| json!({"matchLabels": map}))),
    );
    (
        field("data", texts()),
        field("spec", spec.prop_map(|(a, b, c, d)| object([a, b, c, d]))),
        field("metadata", (field("labels", texts()), field("finalizers", sets)).prop_map(|(a, b)| object([a, b]))),
        field("bag", any_json()),
    )
        .prop_map(|(a, b, c, d)| object([a, b, c, d]))
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf =
        prop_oneof![(0..3).prop_map(Value::from), "[xy]".prop_map(Value::from), any::<bool>().prop_map(Value::from)];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-c]", inner, 0..3).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn try_apply(ty: Ty, live: Option<&Value>, manager: &str, parts: &Value, force: bool) -> Result<Value, ApplyError> {
    let nothing = Set::default();
    apply::apply(ty, &Gvk::new("", "v1", "Thing"), live, &thing(parts.clone()), &writer(manager, NOW, &nothing), force)
}

fn forced(live: Option<&Value>, manager: &str, parts: &Value) -> Value {
    try_apply(THING, live, manager, parts, true).unwrap()
}

/// Without the lists of owners.
fn bare(object: &Value) -> Value {
    let mut object = object.clone();
    object["metadata"].as_object_mut().unwrap().remove("managedFields");
    object
}

fn fields_of(object: &Value, manager: &str) -> Set {
    let list = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let mine = list.iter().find(|e| e["manager"] == manager);
    mine.map(|e| Set::from_value(&e["fieldsV1"]).unwrap()).unwrap_or_default()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_apply_twice_is_an_apply_once(base in parts(), config in parts()) {
        let live = forced(None, "base", &base);
        let once = forced(Some(&live), "me", &config);
        prop_assert_eq!(forced(Some(&once), "me", &config), once);
    }

    #[test]
    fn what_a_sole_applier_applies_is_what_there_is(before in parts(), config in parts()) {
        let live = forced(None, "me", &before);
        let after = forced(Some(&live), "me", &config);
        let wanted = thing(config);
        let difference = compare(THING, Some(&wanted), Some(&bare(&after)));
        prop_assert!(difference.modified.is_empty() && difference.removed.is_empty(), "{:?}", difference);
        // Parents that are left empty may stay; no leaf of the former configuration does.
        let left = set_of(THING, &bare(&after)).leaves();
        let mut stray = left.clone();
        stray.subtract(&set_of(THING, &wanted));
        let mut known = set_of(THING, &thing(before));
        known.subtract(&known.leaves());
        stray.subtract(&known);
        prop_assert!(stray.is_empty(), "{:?}", stray.paths());
    }

    #[test]
    fn applies_of_two_without_conflict_may_come_in_either_order(a in texts(), b in texts(), fa in texts(), fb in texts()) {
        let mine = |data: &Value, labels: &Value, prefix: &str| {
            let named = |map: &Value| -> Map<String, Value> {
                map.as_object().unwrap().iter().map(|(k, v)| (format!("{prefix}{k}"), v.clone())).collect()
            };
            json!({"data": named(data), "metadata": {"labels": named(labels)}})
        };
        let (one, two) = (mine(&a, &fa, "a"), mine(&b, &fb, "b"));
        let apply = |first: (&str, &Value), second: (&str, &Value)| {
            let live = try_apply(THING, None, first.0, first.1, false).unwrap();
            try_apply(THING, Some(&live), second.0, second.1, false).unwrap()
        };
        let (ab, ba) = (apply(("one", &one), ("two", &two)), apply(("two", &two), ("one", &one)));
        prop_assert_eq!(bare(&ab), bare(&ba));
        prop_assert_eq!(fields_of(&ab, "one"), fields_of(&ba, "one"));
        prop_assert_eq!(fields_of(&ab, "two"), fields_of(&ba, "two"));
    }

    #[test]
    fn force_takes_what_was_in_conflict_and_no_one_else_owns_another_value(a in parts(), b in parts()) {
        let live = forced(None, "one", &a);
        match try_apply(THING, Some(&live), "two", &b, false) {
            Ok(done) => prop_assert_eq!(done, forced(Some(&live), "two", &b)),
            Err(ApplyError::Conflicts(found)) => {
                let done = forced(Some(&live), "two", &b);
                for conflict in found {
                    let owned = fields_of(&done, "one").paths();
                    let shown: Vec<String> = owned.iter().map(|p| p.iter().map(ToString::to_string).collect()).collect();
                    prop_assert!(!shown.contains(&conflict.field()), "{}", conflict.field());
                }
                prop_assert!(try_apply(THING, Some(&done), "two", &b, false).is_ok());
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn an_update_leaves_every_leaf_with_one_owner_at_least(a in parts(), b in parts()) {
        let nothing = Set::default();
        // With a field that stays, since what has no owner at all is not tracked.
        let (mut live, mut new) = (thing(a), thing(b));
        for object in [&mut live, &mut new] {
            object["data"]["stays"] = json!("1");
        }
        update(THING, None, &mut live, &writer("one", NOW, &nothing));
        update(THING, Some(&live), &mut new, &writer("two", NOW, &nothing));
        let mut leaves = set_of(THING, &bare(&new)).leaves();
        leaves.subtract(&fields_of(&new, "one"));
        leaves.subtract(&fields_of(&new, "two"));
        leaves.subtract(&Set::of(&[&["apiVersion"], &["kind"], &["metadata", "name"], &["metadata", "namespace"], &["spec"]]));
        prop_assert!(leaves.is_empty(), "{:?}", leaves.paths());
        // And nobody owns what is gone.
        let mut gone = fields_of(&new, "one").leaves();
        gone.subtract(&set_of(THING, &bare(&new)));
        let empty = compare(THING, Some(&Value::Null), Some(&bare(&new))).added;
        gone.subtract(&empty);
        prop_assert!(gone.is_empty(), "{:?}", gone.paths());
    }

    #[test]
    fn a_difference_is_what_comparing_says_and_comparing_the_same_says_nothing(a in parts(), b in parts()) {
        for ty in [THING, UNTYPED] {
            prop_assert!(compare(ty, Some(&thing(a.clone())), Some(&thing(a.clone()))).is_empty());
            let there = compare(ty, Some(&thing(a.clone())), Some(&thing(b.clone())));
            let back = compare(ty, Some(&thing(b.clone())), Some(&thing(a.clone())));
            prop_assert_eq!((there.added, there.removed, there.modified), (back.removed, back.added, back.modified));
        }
    }

    #[test]
    fn a_set_survives_being_written(a in parts()) {
        let set = set_of(THING, &thing(a));
        prop_assert_eq!(Set::from_value(&set.to_value()), Ok(set));
    }

    #[test]
    fn a_merge_patch_twice_is_a_merge_patch_once(object in any_json(), patch in any_json()) {
        let mut once = object;
        merge_patch(&mut once, patch.clone());
        let mut twice = once.clone();
        merge_patch(&mut twice, patch);
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn a_strategic_patch_twice_is_a_strategic_patch_once(object in parts(), patch in parts()) {
        let mut once = thing(object);
        let once = strategic_merge_patch(THING, &mut once, patch.clone()).map(|()| once);
        if let Ok(once) = once {
            let mut twice = once.clone();
            strategic_merge_patch(THING, &mut twice, patch.clone()).unwrap();
            prop_assert_eq!(&once, &twice);
            // An object that has all of a patch, without directives, is what the patch asked for.
            let missing = compare(UNTYPED, Some(&patch["data"]), Some(&once["data"]));
            prop_assert!(patch["data"].is_null() || (missing.removed.is_empty() && missing.modified.is_empty()));
        }
    }
}
