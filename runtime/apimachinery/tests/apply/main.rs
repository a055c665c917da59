//! Server-side apply by a small type: the examples of its documentation, and the corners that lists have.

#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap")]

#[path = "../common/mod.rs"]
mod common;
mod lists;
mod world;

use common::{thing, writer};
use kiln_apimachinery::apply::{ApplyError, Set, Writer, ignore_times};
use serde_json::{Value, json};
use world::{EARLY, LATER, World};

#[test]
fn a_create_is_owned_by_its_writer_field_by_field() {
    let mut w = World::new();
    w.update_by(
        &writer("kubectl-create", EARLY, &Set::default()),
        thing(json!({
            "metadata": {"labels": {"app": "x"}, "uid": "u", "creationTimestamp": EARLY},
            "spec": {
                "replicas": 1,
                "containers": [{"name": "a", "image": "i", "resources": {}, "ports": [{"containerPort": 80}]}],
                "selector": {"matchLabels": {"app": "x"}}, "strategy": {"type": "R"}, "volumes": [{"name": "v", "emptyDir": {}}],
            },
            "status": {},
        })),
    );
    // A struct that is always there belongs to nobody; a map, an element and what is empty do.
    assert_eq!(
        w.object()["metadata"]["managedFields"],
        json!([{
            "manager": "kubectl-create", "operation": "Update", "apiVersion": "v1", "time": EARLY, "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {
                    "f:replicas": {}, "f:selector": {}, "f:strategy": {"f:type": {}},
                    "f:containers": {"k:{\"name\":\"a\"}": {
                        ".": {}, "f:name": {}, "f:image": {}, "f:resources": {},
                        "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
                    }},
                    "f:volumes": {".": {}, "k:{\"name\":\"v\"}": {".": {}, "f:name": {}, "f:emptyDir": {}}},
                },
            },
        }])
    );
}

#[test]
fn a_change_moves_to_its_writer_and_one_who_owns_nothing_is_forgotten() {
    let mut w = World::new();
    w.update("a", |o| o["data"] = json!({"k": "1"}));
    w.now = LATER;
    w.update("b", |o| o["data"] = json!({"k": "2", "j": "1"}));
    assert_eq!(w.fields("a Update"), json!({"f:data": {}}));
    assert_eq!(w.fields("b Update"), json!({"f:data": {"f:j": {}, "f:k": {}}}));
    w.update("c", |o| o["data"] = json!({}));
    assert_eq!(w.fields("a Update"), json!({"f:data": {}}));
    w.update("c", |o| drop(o.as_object_mut().unwrap().remove("data")));
    assert_eq!(w.owners(), []);
}

#[test]
fn an_update_of_nothing_changes_no_time_and_no_owner() {
    let mut w = World::new();
    w.update("a", |o| o["data"] = json!({"k": "1"}));
    let before = w.object().clone();
    w.now = LATER;
    assert_eq!(*w.update("b", |_| {}), before);
    assert_eq!(*w.update("a", |o| drop(o["metadata"].as_object_mut().unwrap().remove("managedFields"))), before);
}

#[test]
fn an_apply_creates_shares_equal_values_and_conflicts_over_others() {
    let mut w = World::new();
    w.apply("one", json!({"data": {"k": "1"}}));
    assert_eq!(w.owners(), [("one Apply".to_owned(), json!({"f:data": {"f:k": {}}}))]);
    w.apply("two", json!({"data": {"k": "1"}}));
    assert_eq!(w.owners().len(), 2);
    assert_eq!(
        w.refused("two", json!({"data": {"k": "2"}})),
        "Apply failed with 1 conflict: conflict with \"one\": .data.k"
    );
    let forced = w.try_apply("two", json!({"data": {"k": "2"}}), true).unwrap();
    assert_eq!(forced["data"]["k"], "2");
    assert_eq!(w.owners(), [("two Apply".to_owned(), json!({"f:data": {"f:k": {}}}))]);
}

#[test]
fn a_conflict_names_version_and_subresource_of_an_updater_and_lists_many_fields() {
    let mut w = World::new();
    w.update("hpa", |o| o["spec"] = json!({"replicas": 3, "paused": true}));
    assert_eq!(
        w.refused("me", json!({"spec": {"replicas": 1}})),
        "Apply failed with 1 conflict: conflict with \"hpa\" using v1: .spec.replicas"
    );
    assert_eq!(
        w.refused("me", json!({"spec": {"replicas": 1, "paused": false}})),
        "Apply failed with 2 conflicts: conflicts with \"hpa\" using v1:\n- .spec.paused\n- .spec.replicas"
    );
    let nothing = Set::default();
    let by = Writer { subresource: "status", ..writer("kubelet", EARLY, &nothing) };
    let new = thing(json!({"spec": {"replicas": 3, "paused": true}, "status": {"phase": "A"},
        "metadata": {"managedFields": w.object()["metadata"]["managedFields"]}}));
    w.update_by(&by, new);
    let ApplyError::Conflicts(found) = w.try_apply("me", json!({"status": {"phase": "B"}}), false).unwrap_err() else {
        panic!("no conflict")
    };
    assert_eq!(
        (found[0].owner.as_str(), found[0].field()),
        ("\"kubelet\" with subresource \"status\" using v1", ".status.phase".into())
    );
}

#[test]
fn what_is_no_longer_applied_goes_unless_somebody_else_owns_it() {
    let mut w = World::new();
    w.apply(
        "one",
        json!({"data": {"a": "1", "b": "1", "c": "1"}, "spec": {"containers": [{"name": "x", "image": "i"}]}}),
    );
    w.apply("two", json!({"data": {"b": "1"}}));
    w.update("hand", |o| o["data"]["c"] = json!("2"));
    w.apply("one", json!({"data": {}}));
    // `c` was taken by an update, `b` is shared, `a` and the container are gone.
    assert_eq!(w.object()["data"], json!({"b": "1", "c": "2"}));
    assert!(w.object().get("spec").is_none());
}

#[test]
fn a_field_given_up_to_a_controller_stays() {
    let mut w = World::new();
    w.apply("me", json!({"spec": {"replicas": 3, "paused": true}}));
    w.update("hpa", |o| o["spec"]["replicas"] = json!(5));
    // The handover of the documentation: stop applying what the controller owns.
    w.apply("me", json!({"spec": {"paused": true}}));
    assert_eq!(w.object()["spec"], json!({"replicas": 5, "paused": true}));
    assert_eq!(w.fields("hpa Update"), json!({"f:spec": {"f:replicas": {}}}));
}

#[test]
fn before_the_first_apply_everything_has_one_old_owner() {
    let mut w = World::new();
    w.live = Some(thing(json!({"metadata": {"uid": "u"}, "data": {"k": "1"}, "spec": {"replicas": 1}})));
    // Owners that were never told are not told by an update either.
    w.update("hand", |o| o["data"]["j"] = json!("2"));
    assert_eq!(w.owners(), []);
    assert!(
        w.refused("me", json!({"spec": {"replicas": 2}})).contains("\"before-first-apply\" using v1: .spec.replicas")
    );
    w.apply("me", json!({"data": {"k": "1"}}));
    assert_eq!(
        w.fields("before-first-apply Update"),
        json!({"f:data": {".": {}, "f:j": {}, "f:k": {}}, "f:spec": {"f:replicas": {}}})
    );
}

#[test]
fn client_side_apply_hands_over_to_server_side_apply_without_conflict() {
    let last = json!({"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "t"}, "data": {"k": "1", "gone": "1"}});
    let mut w = World::new();
    let key = "kubectl.kubernetes.io/last-applied-configuration";
    w.update("kubectl-client-side-apply", |o| {
        o["data"] = json!({"k": "1"});
        o["metadata"]["annotations"] = json!({key: last.to_string()});
    });
    w.update("hpa", |o| o["spec"] = json!({"replicas": 3}));
    assert!(w.refused("kubectl", json!({"data": {"k": "2"}, "spec": {"replicas": 1}})).ends_with(": .spec.replicas"));
    let done = w.apply("kubectl", json!({"data": {"k": "2"}})).clone();
    assert_eq!(done["data"], json!({"k": "2"}));
    let text = done["metadata"]["annotations"][key].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(text).unwrap(), thing(json!({"data": {"k": "2"}})));
    assert!(text.ends_with('\n'));
    assert!(w.refused("other", json!({"data": {"k": "3"}})).contains("conflict"));
}

#[test]
fn a_configuration_of_another_kind_or_with_owners_or_unknown_fields_is_refused() {
    let mut w = World::new();
    assert_eq!(w.refused("m", json!({"kind": "Thang"})), "invalid object type: /v1, Kind=Thang");
    assert_eq!(w.refused("m", json!({"metadata": {"managedFields": []}})), "metadata.managedFields must be nil");
    let prefix = "failed to create typed patch object (default/t; /v1, Kind=Thing): ";
    assert_eq!(w.refused("m", json!({"spec": {"x": 1}})), format!("{prefix}.spec.x: field not declared in schema"));
    assert_eq!(
        w.refused("m", json!({"data": {"x": 1}})),
        format!("{prefix}.data.x: expected string, got &value.valueUnstructured{{Value:1}}")
    );
    assert_eq!(
        w.refused("m", json!({"spec": {"containers": [{"image": "i"}]}})),
        format!(
            "{prefix}.spec.containers: element 0: associative list with keys has an element that omits all key fields \
             [\"name\"] (and doesn't have default values for any key fields)"
        )
    );
}

#[test]
fn a_second_equal_apply_changes_nothing_at_all() {
    let mut w = World::new();
    let config =
        json!({"data": {"k": "1"}, "spec": {"containers": [{"name": "a", "env": [{"name": "E", "value": "1"}]}]}});
    let first = w.apply("me", config.clone()).clone();
    w.now = LATER;
    assert_eq!(*w.apply("me", config), first);
}

#[test]
fn times_alone_are_no_change() {
    let mut w = World::new();
    let old = w.apply("me", json!({"data": {"k": "1"}})).clone();
    let mut new = old.clone();
    new["metadata"]["managedFields"][0]["time"] = json!(LATER);
    ignore_times(&mut new, &old);
    assert_eq!(new, old);
    new["metadata"]["managedFields"][0]["time"] = json!(LATER);
    new["data"]["k"] = json!("2");
    let changed = new.clone();
    ignore_times(&mut new, &old);
    assert_eq!(new, changed);
}

#[test]
fn owners_are_reset_by_an_empty_list_and_a_malformed_list_keeps_those_of_the_object() {
    for (list, owners) in [
        (json!([]), 0),
        (json!([{}]), 0),
        (json!([{"manager": "x", "operation": "Patch", "apiVersion": "v1", "fieldsType": "FieldsV1"}]), 1),
        (json!([{"manager": "x", "operation": "Update", "apiVersion": "v1"}]), 1),
        (json!([{"manager": "x", "operation": "Update", "apiVersion": "", "fieldsType": "FieldsV1"}]), 1),
        (
            json!([{"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"data": {}}}]),
            1,
        ),
    ] {
        let mut w = World::new();
        w.update("a", |o| o["data"] = json!({"k": "1"}));
        w.update("a", |o| o["metadata"]["managedFields"] = list.clone());
        assert_eq!(w.owners().len(), owners, "{list}");
    }
}

#[test]
fn a_subresource_keeps_its_own_entry_and_leaves_the_ignored_fields_to_nobody() {
    let (spec, status) = (Set::of(&[&["spec"]]), Set::of(&[&["status"]]));
    let mut w = World::new();
    w.update_by(&writer("m", EARLY, &status), thing(json!({"spec": {"paused": true}, "status": {"phase": "A"}})));
    assert_eq!(w.fields("m Update"), json!({"f:spec": {"f:paused": {}}}));
    let mut new = w.object().clone();
    new["status"]["phase"] = json!("B");
    new["metadata"]["managedFields"] = json!([{}]);
    w.update_by(&Writer { subresource: "status", ..writer("m", LATER, &spec) }, new);
    let list = &w.object()["metadata"]["managedFields"];
    assert_eq!((&list[0]["subresource"], &list[1]["subresource"]), (&Value::Null, &json!("status")));
    assert_eq!(list[1]["fieldsV1"], json!({"f:status": {"f:phase": {}}}));
}

#[test]
fn owners_of_a_version_that_is_not_served_are_forgotten() {
    let mut w = World::new();
    w.update("a", |o| o["data"] = json!({"k": "1"}));
    w.update("a", |o| {
        let mut entries: Vec<Value> = o["metadata"]["managedFields"].as_array().unwrap().clone();
        for version in ["v1beta1", "v1alpha1"] {
            entries.push(
                json!({"manager": version, "operation": "Update", "apiVersion": version, "fieldsType": "FieldsV1",
                "fieldsV1": {"f:data": {"f:k": {}}}}),
            );
        }
        o["metadata"]["managedFields"] = Value::from(entries);
    });
    assert_eq!(w.owners().iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["v1beta1 Update", "a Update"]);
}

#[test]
fn more_than_ten_updaters_are_put_together_oldest_first() {
    let times: Vec<String> = (0..14).map(|i| format!("2026-01-01T00:00:{i:02}Z")).collect();
    let mut w = World::new();
    for (i, time) in times.iter().enumerate() {
        let mut new = w.live.clone().unwrap_or_else(|| thing(json!({})));
        new["data"][format!("k{i}")] = json!("1");
        let manager = format!("m{i:02}");
        w.update_by(&writer(&manager, time, &Set::default()), new);
    }
    let names: Vec<String> = w.owners().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 10);
    assert_eq!((names[0].as_str(), names[1].as_str()), ("ancient-changes Update", "m05 Update"));
    assert_eq!(
        w.fields("ancient-changes Update"),
        json!({"f:data": {".": {}, "f:k0": {}, "f:k1": {}, "f:k2": {}, "f:k3": {}, "f:k4": {}}})
    );
}
