//! Deletes: options, policies, finalizers, grace, what is answered.

use crate::common;

use common::{Answer, Api, MAPS, admin, map};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";

fn one(name: &str) -> String {
    format!("{MAPS}/{name}")
}

async fn delete(api: &Api, path: &str, options: Value) -> Answer {
    api.send(admin(), "DELETE", path, &[], options).await
}

async fn with_map(name: &str) -> (Api, Value) {
    let api = Api::new().await;
    let made = api.post(MAPS, map(name)).await.good();
    (api, made)
}

#[tokio::test]
async fn the_policy_of_a_delete_becomes_a_finalizer() {
    for (policy, finalizer) in [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")] {
        let (api, _) = with_map("a").await;
        let kept = delete(&api, &one("a"), json!({"propagationPolicy": policy})).await.good();
        assert_eq!(kept["metadata"]["finalizers"], json!([finalizer]));
        assert_eq!(kept["metadata"]["deletionTimestamp"], "2026-01-02T03:04:05Z");
        assert_eq!(kept["metadata"]["deletionGracePeriodSeconds"], 0);
        let again = api.delete(&format!("{}?propagationPolicy={policy}", one("a"))).await.good();
        assert_eq!(again["metadata"]["resourceVersion"], kept["metadata"]["resourceVersion"]);
        api.patch("merge", &one("a"), json!({"metadata": {"finalizers": null}})).await.good();
        api.get(&one("a")).await.failed(404);
    }
    let (api, _) = with_map("a").await;
    delete(&api, &one("a"), json!({"propagationPolicy": "Background"})).await.good();
    api.get(&one("a")).await.failed(404);
}

#[tokio::test]
async fn dependents_that_are_to_be_deleted_first_answer_with_accepted_when_asked_in_the_old_way() {
    let api = Api::new().await;
    api.post(MAPS, json!({"metadata": {"name": "a", "finalizers": ["x.io/hold"]}})).await.good();
    assert_eq!(delete(&api, &one("a"), json!({"orphanDependents": false})).await.code, 202);
    let kept = api.delete(&format!("{}?orphanDependents=true", one("a"))).await;
    assert_eq!((kept.code, &kept.json()["metadata"]["finalizers"]), (200, &json!(["x.io/hold", "orphan"])));
}

#[tokio::test]
async fn options_that_contradict_each_other_or_mean_nothing_are_invalid() {
    let (api, _) = with_map("a").await;
    let both = delete(&api, &one("a"), json!({"propagationPolicy": "Orphan", "orphanDependents": true})).await;
    assert_eq!(
        both.failed(422),
        "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Invalid value: \"Orphan\": orphanDependents and \
         deletionPropagation cannot be both set"
    );
    let odd = api.delete(&format!("{}?propagationPolicy=Later", one("a"))).await;
    assert_eq!(
        odd.failed(422),
        "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"Later\": supported values: \
         \"Foreground\", \"Background\", \"Orphan\", \"nil\""
    );
    let dry = delete(&api, &one("a"), json!({"dryRun": ["Some"]})).await.failed(422);
    assert!(dry.ends_with("dryRun: Unsupported value: [\"Some\"]: supported values: \"All\""), "{dry}");
    let grace = delete(&api, &one("a"), json!({"gracePeriodSeconds": "soon"})).await.failed(400);
    assert!(
        grace.ends_with("cannot unmarshal string into Go struct field DeleteOptions.gracePeriodSeconds of type int64")
    );
    let text = api.delete(&format!("{}?gracePeriodSeconds=soon", one("a"))).await.failed(400);
    assert_eq!(text, "strconv.ParseInt: parsing \"soon\": invalid syntax");
    api.get(&one("a")).await.good();
}

#[tokio::test]
async fn preconditions_hold_in_the_body_and_in_the_query() {
    let (api, made) = with_map("a").await;
    let uid = made["metadata"]["uid"].as_str().unwrap();
    let wrong = delete(&api, &one("a"), json!({"preconditions": {"uid": "other"}})).await.failed(409);
    assert_eq!(
        wrong,
        format!(
            "Operation cannot be fulfilled on ConfigMap \"a\": the UID in the precondition (other) does not match the UID in \
             record ({uid}). The object might have been deleted and then recreated"
        )
    );
    let wrong = api.delete(&format!("{}?resourceVersion=1", one("a"))).await.failed(409);
    assert!(wrong.contains("the ResourceVersion in the precondition (1) does not match the ResourceVersion in record"));
    let ns = "/api/v1/namespaces/n";
    api.post("/api/v1/namespaces", json!({"metadata": {"name": "n"}})).await.good();
    let wrong = delete(&api, ns, json!({"preconditions": {"uid": "other"}})).await.failed(409);
    assert!(wrong.starts_with(
        "Operation cannot be fulfilled on namespaces \"n\": Precondition failed: UID in precondition: other"
    ));
    let right = json!({"preconditions": {"uid": uid, "resourceVersion": made["metadata"]["resourceVersion"]}});
    let gone = delete(&api, &one("a"), right).await.good();
    assert_eq!(gone["details"], json!({"name": "a", "kind": "configmaps", "uid": uid}));
}

#[tokio::test]
async fn a_dry_delete_tells_what_would_be_and_changes_nothing() {
    let (api, made) = with_map("a").await;
    assert_eq!(delete(&api, &one("a"), json!({"dryRun": ["All"]})).await.good()["status"], "Success");
    let dry = json!({"dryRun": ["All"], "propagationPolicy": "Orphan"});
    let marked = delete(&api, &one("a"), dry).await.good();
    assert_eq!(marked["metadata"]["finalizers"], json!(["orphan"]));
    assert_eq!(api.get(&one("a")).await.good(), made);
}

#[tokio::test]
async fn some_kinds_answer_with_the_object_that_is_gone() {
    let api = Api::new().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    api.post(accounts, json!({"metadata": {"name": "s"}})).await.good();
    let gone = api.delete(&format!("{accounts}/s")).await.good();
    assert_eq!(gone["kind"], "ServiceAccount");
    assert_eq!(common::revision(&gone), api.storage.current_revision());
}

#[tokio::test]
async fn concurrent_deletes_of_one_object_succeed_once() {
    let (api, _) = with_map("a").await;
    let path = one("a");
    let answers = futures_util::future::join_all((0..8).map(|_| api.delete(&path))).await;
    assert_eq!(answers.iter().filter(|a| a.code == 200).count(), 1);
    assert_eq!(answers.iter().filter(|a| a.code == 404).count(), 7);
}

#[tokio::test]
async fn a_delete_gets_through_while_the_object_is_being_written() {
    let (api, _) = with_map("a").await;
    let path = one("a");
    let patches = (0..20).map(|i| api.patch("merge", &path, json!({"data": {"k": format!("{i}")}})));
    let (gone, _) = futures_util::future::join(api.delete(&path), futures_util::future::join_all(patches)).await;
    gone.good();
    api.get(&path).await.failed(404);
}

#[tokio::test]
async fn a_pod_that_its_node_lets_go_while_it_is_deleted_is_deleted() {
    let api = Api::new().await;
    let pods = "/api/v1/namespaces/default/pods";
    for i in 0..20 {
        let (name, path) = (format!("p{i}"), format!("{pods}/p{i}"));
        let spec = json!({"nodeName": "n", "containers": [{"name": "c", "image": "i"}]});
        api.post(pods, json!({"metadata": {"name": name}, "spec": spec})).await.good();
        api.patch("merge", &format!("{path}/status"), json!({"status": {"phase": "Succeeded"}})).await.good();
        // The kubelet acts as soon as it sees that the pod is to go.
        let kubelet = async {
            loop {
                let pod = api.get(&path).await;
                if pod.code == 404 {
                    return;
                }
                if pod.json()["metadata"].get("deletionTimestamp").is_some() {
                    delete(&api, &path, json!({"gracePeriodSeconds": 0})).await;
                }
                tokio::task::yield_now().await;
            }
        };
        let (deleted, ()) = futures_util::future::join(api.delete(&path), kubelet).await;
        deleted.good();
    }
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector_and_limit_and_told() {
    let api = Api::new().await;
    for i in 0..5 {
        api.post(MAPS, common::labelled(&format!("m{i}"), if i == 4 { "no" } else { "yes" })).await.good();
    }
    let first = api.delete(&format!("{MAPS}?labelSelector=l%3Dyes&limit=2")).await.good();
    assert_eq!((&first["kind"], common::names(&first)), (&json!("ConfigMapList"), vec!["m0", "m1"]));
    let held = delete(&api, &format!("{MAPS}?labelSelector=l%3Dyes"), json!({"propagationPolicy": "Orphan"})).await;
    assert_eq!(common::names(&held.good()), ["m2", "m3"]);
    assert_eq!(api.get(&one("m2")).await.good()["metadata"]["finalizers"], json!(["orphan"]));
    assert_eq!(api.get(&one("m4")).await.code, 200);
}

#[tokio::test]
async fn a_namespace_is_marked_once_and_told_again() {
    let api = Api::new().await;
    let path = "/api/v1/namespaces/n";
    api.post("/api/v1/namespaces", json!({"metadata": {"name": "n"}})).await.good();
    let going = delete(&api, path, json!({"propagationPolicy": "Foreground"})).await.good();
    assert_eq!(going["status"]["phase"], "Terminating");
    assert_eq!(going["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    assert_eq!(api.delete(path).await.good(), going);
}

#[tokio::test]
async fn a_generation_counts_the_delete_that_marks() {
    let api = Api::new().await;
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}}});
    let made = api.post(path, json!({"metadata": {"name": "d"}, "spec": spec})).await.good();
    let kept = delete(&api, &format!("{path}/d"), json!({"propagationPolicy": "Foreground"})).await.good();
    let generation = |o: &Value| o["metadata"]["generation"].as_i64().unwrap();
    assert_eq!(generation(&kept), generation(&made) + 1);
}

#[tokio::test]
async fn a_pod_goes_at_once_or_gracefully_by_what_it_is_doing() {
    let api = Api::new().await;
    let pod = |name: &str, node: &str| {
        let container = json!([{"name": "c", "image": "i"}]);
        json!({"metadata": {"name": name}, "spec": {"nodeName": node, "containers": container, "terminationGracePeriodSeconds": 20}})
    };
    api.post(PODS, pod("bound", "n1")).await.good();
    api.post(PODS, pod("free", "")).await.good();
    assert_eq!(api.delete(&format!("{PODS}/free")).await.good()["kind"], "Pod");
    api.get(&format!("{PODS}/free")).await.failed(404);
    let path = format!("{PODS}/bound");
    let going = api.delete(&path).await.good();
    assert_eq!(going["metadata"]["deletionTimestamp"], "2026-01-02T03:04:25Z");
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 20);
    // A report of the node does not end the grace period.
    api.patch("merge", &format!("{path}/status"), json!({"status": {"message": "stopping"}})).await.good();
    assert_eq!(api.get(&path).await.code, 200);
    let sooner = delete(&api, &path, json!({"gracePeriodSeconds": 5})).await.good();
    assert_eq!(sooner["metadata"]["deletionTimestamp"], "2026-01-02T03:04:10Z");
    delete(&api, &path, json!({"gracePeriodSeconds": 0})).await.good();
    api.get(&path).await.failed(404);
}
