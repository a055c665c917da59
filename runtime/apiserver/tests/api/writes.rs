//! Creating, changing and deleting.

use crate::common;

use common::{Api, MAPS, admin, map, revision};
use serde_json::{Value, json};

fn one(name: &str) -> String {
    format!("{MAPS}/{name}")
}

#[tokio::test]
async fn a_created_object_has_the_metadata_that_only_the_server_gives() {
    let api = Api::new().await;
    let made = api
        .post(MAPS, json!({"metadata": {"name": "a", "uid": "mine", "selfLink": "x", "generation": 7}}))
        .await
        .good();
    assert_eq!(made["kind"], "ConfigMap");
    assert_eq!(made["metadata"]["namespace"], "default");
    assert_eq!(made["metadata"]["creationTimestamp"], "2026-01-02T03:04:05Z");
    assert_ne!(made["metadata"]["uid"], "mine");
    assert!(made["metadata"].get("selfLink").is_none() && made["metadata"].get("generation").is_none());
    assert_eq!(api.get(&one("a")).await.good(), made);
}

#[tokio::test]
async fn a_second_create_of_a_name_is_a_conflict_with_reason_already_exists() {
    let api = Api::new().await;
    api.post(MAPS, map("a")).await.good();
    let again = api.post(MAPS, map("a")).await;
    assert_eq!(again.failed(409), "configmaps \"a\" already exists");
    assert_eq!(again.json()["reason"], "AlreadyExists");
}

#[tokio::test]
async fn an_update_of_an_old_revision_is_refused_and_one_without_revision_wins() {
    let api = Api::new().await;
    let first = api.post(MAPS, map("a")).await.good();
    let mut second = first.clone();
    second["data"] = json!({"k": "2"});
    api.put(&one("a"), second.clone()).await.good();
    let mut stale = first;
    stale["data"] = json!({"k": "3"});
    assert_eq!(
        api.put(&one("a"), stale.clone()).await.failed(409),
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the \
         latest version and try again"
    );
    stale["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    assert_eq!(api.put(&one("a"), stale).await.good()["data"]["k"], "3");
}

#[tokio::test]
async fn an_update_that_changes_nothing_writes_nothing() {
    let api = Api::new().await;
    let made = api.post(MAPS, map("a")).await.good();
    assert_eq!(revision(&api.put(&one("a"), made.clone()).await.good()), revision(&made));
    assert_eq!(revision(&api.patch("merge", &one("a"), json!({"data": {"k": "v"}})).await.good()), revision(&made));
}

#[tokio::test]
async fn all_three_patches_change_an_object_and_keep_its_identity() {
    let api = Api::new().await;
    let made = api.post(MAPS, map("a")).await.good();
    let p = json!([{"op": "add", "path": "/data/j", "value": "1"}]);
    api.patch("json", &one("a"), p).await.good();
    api.patch("merge", &one("a"), json!({"data": {"m": "1", "k": null}})).await.good();
    let last =
        api.patch("strategic-merge", &one("a"), json!({"data": {"s": "1"}, "metadata": {"uid": null}})).await.good();
    assert_eq!(last["data"], json!({"j": "1", "m": "1", "s": "1"}));
    assert_eq!(last["metadata"]["uid"], made["metadata"]["uid"]);
    let failed = api.patch("json", &one("a"), json!([{"op": "test", "path": "/data/j", "value": "2"}])).await;
    assert_eq!(failed.failed(422), "the server rejected our request due to an error in our request");
    let other = api.patch("strategic-merge", &one("a"), json!({"immutable": "no", "data": {"x": null}})).await;
    assert_eq!(
        other.failed(422),
        " \"\" is invalid: patch: Invalid value: \"map[data:map[x:<nil>] immutable:no]\": unrecognized type: bool"
    );
    let stale = api.patch("merge", &one("a"), json!({"metadata": {"resourceVersion": "1"}, "data": {"x": "y"}})).await;
    assert!(stale.failed(409).contains("has been modified"));
}

#[tokio::test]
async fn concurrent_patches_without_a_revision_all_arrive() {
    let api = Api::new().await;
    api.post(MAPS, map("a")).await.good();
    let path = one("a");
    let patches = (0..5).map(|i| api.patch("merge", &path, json!({"data": {format!("p{i}"): "1"}})));
    for answer in futures_util::future::join_all(patches).await {
        answer.good();
    }
    assert_eq!(api.get(&one("a")).await.good()["data"].as_object().unwrap().len(), 6);
}

#[tokio::test]
async fn a_bad_name_or_key_is_invalid_with_field_and_cause() {
    let api = Api::new().await;
    let bad = api.post(MAPS, json!({"metadata": {"name": "A_b"}, "data": {"in valid": "x"}})).await;
    let text = bad.failed(422);
    assert!(
        text.starts_with(
            "ConfigMap \"A_b\" is invalid: [metadata.name: Invalid value: \"A_b\": a lowercase RFC 1123 subdomain"
        ),
        "{text}"
    );
    let causes = &bad.json()["details"]["causes"];
    assert_eq!((&causes[0]["field"], &causes[0]["reason"]), (&json!("metadata.name"), &json!("FieldValueInvalid")));
    assert_eq!(causes[1]["field"], "data[in valid]");
    assert_eq!(
        api.post(MAPS, json!({"metadata": {}})).await.failed(422),
        "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required"
    );
}

#[tokio::test]
async fn a_value_of_the_wrong_type_is_told_in_upstreams_words() {
    let api = Api::new().await;
    let text = "json: cannot unmarshal number into Go struct field ConfigMap.data of type string";
    assert_eq!(
        api.post(MAPS, json!({"metadata": {"name": "a"}, "data": {"k": 3}})).await.failed(400),
        format!("ConfigMap in version \"v1\" cannot be handled as a ConfigMap: {text}")
    );
    api.post(MAPS, map("a")).await.good();
    let patched = api.patch("merge", &one("a"), json!({"data": {"k": 3}})).await;
    let said = patched.failed(422);
    assert!(said.starts_with(" \"\" is invalid: patch: Invalid value: \"{") && said.ends_with(text), "{said}");
    assert_eq!(patched.json()["details"]["causes"][0]["field"], "patch");
    let secrets = "/api/v1/namespaces/default/secrets";
    let text = api.post(secrets, json!({"metadata": {"name": "s"}, "data": {"k": "!"}})).await.failed(400);
    assert!(text.ends_with("illegal base64 data at input byte 0"), "{text}");
}

#[tokio::test]
async fn a_generated_name_is_the_base_with_five_characters() {
    let api = Api::new().await;
    let made = api.post(MAPS, json!({"metadata": {"generateName": "web-"}})).await.good();
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("web-") && name.len() == 9, "{name}");
}

#[tokio::test]
async fn an_immutable_config_map_refuses_new_data() {
    let api = Api::new().await;
    api.post(MAPS, json!({"metadata": {"name": "a"}, "data": {"k": "v"}, "immutable": true})).await.good();
    let text = api.patch("merge", &one("a"), json!({"data": {"k": "w"}})).await.failed(422);
    assert_eq!(text, "ConfigMap \"a\" is invalid: data: Forbidden: field is immutable when `immutable` is set");
}

#[tokio::test]
async fn string_data_of_a_secret_becomes_data_and_more_than_a_mebibyte_is_too_long() {
    let api = Api::new().await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let made = api.post(secrets, json!({"metadata": {"name": "a"}, "stringData": {"p": "w"}})).await.good();
    assert_eq!((&made["data"], &made["type"]), (&json!({"p": "dw=="}), &json!("Opaque")));
    assert!(made.get("stringData").is_none());
    let big = json!({"metadata": {"name": "b"}, "stringData": {"p": "x".repeat(1024 * 1024 + 1)}});
    assert!(api.post(secrets, big).await.failed(422).contains("Too long: may not be more than 1048576 bytes"));
}

#[tokio::test]
async fn unknown_and_duplicate_fields_are_refused_warned_of_or_ignored() {
    let api = Api::new().await;
    let body = r#"{"metadata": {"name": "a"}, "data": {"k": "1", "k": "2"}, "dta": {}}"#;
    let post = async |how: &str| {
        common::read(api.raw(admin(), "POST", &format!("{MAPS}?dryRun=All&fieldValidation={how}"), &[], body).await)
            .await
    };
    assert_eq!(
        post("Strict").await.failed(400),
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"dta\", duplicate \
         field \"data.k\""
    );
    let warned = post("Warn").await;
    assert_eq!(warned.warnings(), [r#"unknown field "dta""#, r#"duplicate field "data.k""#]);
    assert!(post("Ignore").await.headers.get("warning").is_none());
}

#[tokio::test]
async fn a_dry_run_answers_as_if_and_stores_nothing() {
    let api = Api::new().await;
    let made = api.post(&format!("{MAPS}?dryRun=All"), map("a")).await.good();
    assert!(made["metadata"].get("resourceVersion").is_none());
    assert_eq!(api.get(&one("a")).await.failed(404), "configmaps \"a\" not found");
}

#[tokio::test]
async fn finalizers_hold_a_deleted_object_until_the_last_is_gone() {
    let api = Api::new().await;
    api.post(MAPS, json!({"metadata": {"name": "a", "finalizers": ["x.io/hold"]}})).await.good();
    let marked = api.delete(&one("a")).await.good();
    assert_eq!(marked["metadata"]["deletionTimestamp"], "2026-01-02T03:04:05Z");
    let more =
        api.patch("merge", &one("a"), json!({"metadata": {"finalizers": ["x.io/hold", "x.io/new"]}})).await.failed(422);
    assert!(
        more.contains(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{\"x.io/new\"}"
        ),
        "{more}"
    );
    api.patch("merge", &one("a"), json!({"metadata": {"finalizers": null}})).await.good();
    api.get(&one("a")).await.failed(404);
}

#[tokio::test]
async fn a_namespace_goes_only_once_it_is_finalized_and_takes_nothing_new_meanwhile() {
    let api = Api::new().await;
    let ns = "/api/v1/namespaces";
    api.post(ns, json!({"metadata": {"name": "n"}})).await.good();
    let going = api.delete(&format!("{ns}/n")).await.good();
    assert_eq!(going["status"]["phase"], "Terminating");
    let text = api.post("/api/v1/namespaces/n/configmaps", map("a")).await.failed(403);
    assert_eq!(
        text,
        "configmaps \"a\" is forbidden: unable to create new content in namespace n because it is being terminated"
    );
    assert_eq!(api.delete(&format!("{ns}/n")).await.good()["status"]["phase"], "Terminating");
    let mut empty = going;
    empty["spec"]["finalizers"] = json!([]);
    api.put(&format!("{ns}/n/finalize"), empty).await.good();
    api.get(&format!("{ns}/n")).await.failed(404);
    assert_eq!(api.post("/api/v1/namespaces/n/configmaps", map("a")).await.failed(404), "namespaces \"n\" not found");
    assert_eq!(
        api.delete(&format!("{ns}/kube-system")).await.failed(403),
        "namespaces \"kube-system\" is forbidden: this namespace may not be deleted"
    );
}

#[tokio::test]
async fn status_and_the_rest_are_written_apart() {
    let api = Api::new().await;
    let nodes = "/api/v1/nodes";
    let n = api.post(nodes, json!({"metadata": {"name": "n"}, "status": {"capacity": {"cpu": "4"}}})).await.good();
    assert_eq!(n["status"]["allocatable"]["cpu"], "4");
    let p = json!({"spec": {"unschedulable": true}, "status": {"capacity": {"cpu": "8"}}});
    let main = api.patch("merge", &format!("{nodes}/n"), p.clone()).await.good();
    assert_eq!((&main["spec"]["unschedulable"], &main["status"]["capacity"]["cpu"]), (&json!(true), &json!("4")));
    let p = json!({"spec": {"unschedulable": false}, "status": {"capacity": {"cpu": "8"}}});
    let status = api.patch("strategic-merge", &format!("{nodes}/n/status"), p).await.good();
    assert_eq!((&status["spec"]["unschedulable"], &status["status"]["capacity"]["cpu"]), (&json!(true), &json!("8")));
}

#[tokio::test]
async fn revision_zero_is_none() {
    let api = Api::new().await;
    api.post(MAPS, map("a")).await.good();
    for (revision, code) in [("0", 200), ("1", 409), ("", 200)] {
        let new = json!({"metadata": {"name": "a", "resourceVersion": revision}, "data": {"r": revision}});
        assert_eq!(api.put(&format!("{MAPS}/a"), new).await.code, code, "{revision}");
    }
}

#[tokio::test]
async fn delete_collection_takes_what_the_selector_names() {
    let api = Api::new().await;
    for (name, label) in [("a", "x"), ("b", "y"), ("c", "x")] {
        api.post(MAPS, common::labelled(name, label)).await.good();
    }
    api.delete(&format!("{MAPS}?labelSelector=l%3Dx")).await.good();
    assert_eq!(common::names(&api.get(MAPS).await.good()), ["b"]);
}

#[tokio::test]
async fn a_lease_is_put_into_being_and_then_needs_its_revision() {
    let api = Api::new().await;
    let path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n";
    let lease = json!({"metadata": {"name": "n"}, "spec": {"holderIdentity": "n", "leaseDurationSeconds": 40}});
    assert_eq!(api.put(path, lease.clone()).await.code, 201);
    assert!(
        api.put(path, lease.clone())
            .await
            .failed(422)
            .contains("metadata.resourceVersion: Invalid value: 0: must be specified for an update")
    );
    let bad = json!({"metadata": {"name": "m"}, "spec": {"leaseDurationSeconds": 0}});
    assert!(api.put(&path.replace("/n", "/m").replace("/mamespaces", "/namespaces"), bad).await.code >= 400);
}

#[tokio::test]
async fn events_are_one_store_in_two_shapes() {
    let api = Api::new().await;
    let event = json!({"metadata": {"name": "e", "namespace": "default"}, "involvedObject": {"kind": "Node", "name": "n"},
        "reason": "Started", "message": "hello", "count": 2, "type": "Normal"});
    api.post("/api/v1/namespaces/default/events", event).await.good();
    let new = api.get("/apis/events.k8s.io/v1/namespaces/default/events/e").await.good();
    assert_eq!(
        (&new["apiVersion"], &new["note"], &new["regarding"]["name"]),
        (&json!("events.k8s.io/v1"), &json!("hello"), &json!("n"))
    );
    let found = api.get("/api/v1/events?fieldSelector=involvedObject.kind%3DNode,reason%3DStarted").await.good();
    assert_eq!(common::names(&found), ["e"]);
    let bad: Value = api.get("/api/v1/events?fieldSelector=nope%3D1").await.json();
    assert!(bad["message"].as_str().unwrap().ends_with("field label not supported: nope"));
}

#[tokio::test]
async fn a_refusal_tells_too_what_was_warned_of() {
    let api = Api::new().await;
    let refused = api.post(MAPS, json!({"metadata": {"name": "a"}, "dta": 1, "data": {"no/key": ""}})).await;
    assert!(refused.failed(422).contains("data[no/key]: Invalid value"), "{}", refused.text());
    assert_eq!(refused.headers["warning"], r#"299 - "unknown field \"dta\"""#);
}

#[tokio::test]
async fn metadata_that_no_writer_may_change_is_refused_or_kept() {
    let api = Api::new().await;
    let made = api.post(MAPS, map("a")).await.good();
    let mut other = made.clone();
    other["metadata"]["uid"] = json!("other");
    let uid = made["metadata"]["uid"].as_str().unwrap();
    assert_eq!(
        api.put(&one("a"), other).await.failed(409),
        format!(
            "Operation cannot be fulfilled on configmaps \"a\": Precondition failed: UID in precondition: other, UID in \
             object meta: {uid}"
        )
    );
    let patch =
        |metadata: Value| api.patch("merge", "/api/v1/namespaces/default/configmaps/a", json!({"metadata": metadata}));
    assert_eq!(
        patch(json!({"uid": "other"})).await.failed(422),
        "ConfigMap \"a\" is invalid: metadata.uid: Invalid value: \"other\": field is immutable"
    );
    assert_eq!(
        patch(json!({"deletionTimestamp": "2026-01-02T03:04:05Z"})).await.failed(422),
        "ConfigMap \"a\" is invalid: metadata.deletionTimestamp: Invalid value: \"2026-01-02T03:04:05Z\": field is immutable"
    );
    let kept = patch(json!({"creationTimestamp": "2020-01-01T00:00:00Z", "generation": 9})).await.good();
    assert_eq!(kept, made);
}

#[tokio::test]
async fn a_name_that_is_taken_says_so_and_more_of_one_that_is_going_or_was_to_be_unique() {
    let api = Api::new().await;
    let mut held = map("a");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    held["metadata"]["generateName"] = json!("a");
    api.post(MAPS, held).await.good();
    let mut unique = map("a");
    unique["metadata"]["generateName"] = json!("a");
    let refused = api.post(MAPS, unique).await;
    assert_eq!(
        refused.failed(409),
        "configmaps \"a\" already exists, the server was not able to generate a unique name for the object"
    );
    assert_eq!(refused.json()["details"]["retryAfterSeconds"], 1);
    api.delete(&one("a")).await.good();
    assert_eq!(api.post(MAPS, map("a")).await.failed(409), "object is being deleted: configmaps \"a\" already exists");
    let mut revised = map("b");
    revised["metadata"]["resourceVersion"] = json!("7");
    assert_eq!(api.post(MAPS, revised).await.failed(500), "resourceVersion should not be set on objects to be created");
}
