//! Server-side apply and the owners of fields, through the API.

#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap")]

use crate::common;

use common::{Answer, Api, MAPS, admin, map, user};
use serde_json::{Value, json};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const APPLY: &str = "application/apply-patch+yaml";

async fn apply(api: &Api, path: &str, query: &str, body: Value) -> Answer {
    api.send(admin(), "PATCH", &format!("{path}?{query}"), &[("content-type", APPLY)], body).await
}

fn config_map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data})
}

fn one(name: &str) -> String {
    format!("{MAPS}/{name}")
}

fn owners(object: &Value) -> Vec<(String, Value)> {
    let list = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let text = |e: &Value, key: &str| e[key].as_str().unwrap_or_default().to_owned();
    let name = |e: &Value| format!("{} {} {}", text(e, "manager"), text(e, "operation"), text(e, "subresource"));
    list.iter().map(|e| (name(e).trim_end().to_owned(), e["fieldsV1"].clone())).collect()
}

#[tokio::test]
async fn a_create_is_owned_by_the_user_agents_first_part_or_the_manager_that_is_named() {
    let api = Api::new().await;
    let agent = [("user-agent", "kubectl/v1.36.0 (linux/arm64)")];
    let made = api.send(admin(), "POST", MAPS, &agent, map("a")).await.good();
    assert_eq!(
        made["metadata"]["managedFields"],
        json!([{"manager": "kubectl", "operation": "Update", "apiVersion": "v1", "time": "2026-01-02T03:04:05Z",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {".": {}, "f:k": {}}}}])
    );
    assert_eq!(api.get(&one("a")).await.good(), made);
    let named = api.send(admin(), "POST", &format!("{MAPS}?fieldManager=me"), &agent, map("b")).await.good();
    assert_eq!(owners(&named)[0].0, "me Update");
    assert_eq!(owners(&api.post(MAPS, map("c")).await.good())[0].0, "unknown Update");
}

#[tokio::test]
async fn an_apply_creates_updates_and_removes_what_it_no_longer_says() {
    let api = Api::new().await;
    let first = apply(&api, &one("a"), "fieldManager=me", config_map(json!({"k": "1", "j": "1"}))).await;
    assert_eq!(first.code, 201);
    assert_eq!(first.json()["metadata"]["namespace"], "default");
    let second = apply(&api, &one("a"), "fieldManager=me", config_map(json!({"k": "2"}))).await;
    assert_eq!(second.code, 200);
    let object = second.json();
    assert_eq!(object["data"], json!({"k": "2"}));
    assert_eq!(owners(&object), [("me Apply".to_owned(), json!({"f:data": {"f:k": {}}}))]);
    // The same again is no write.
    let third = apply(&api, &one("a"), "fieldManager=me", config_map(json!({"k": "2"}))).await.good();
    assert_eq!(third, object);
}

#[tokio::test]
async fn a_conflict_is_told_field_by_field_and_force_takes_over() {
    let api = Api::new().await;
    api.send(admin(), "POST", &format!("{MAPS}?fieldManager=hand"), &[], map("a")).await.good();
    let refused = apply(&api, &one("a"), "fieldManager=me", config_map(json!({"k": "2"}))).await;
    assert_eq!(refused.failed(409), "Apply failed with 1 conflict: conflict with \"hand\" using v1: .data.k");
    let status = refused.json();
    assert_eq!(status["reason"], "Conflict");
    assert_eq!(
        status["details"],
        json!({"causes": [{"reason": "FieldManagerConflict", "message": "conflict with \"hand\" using v1", "field": ".data.k"}]})
    );
    let taken = apply(&api, &one("a"), "fieldManager=me&force=true", config_map(json!({"k": "2"}))).await.good();
    assert_eq!(taken["data"]["k"], "2");
    assert_eq!(
        owners(&taken),
        [("me Apply".to_owned(), json!({"f:data": {"f:k": {}}})), ("hand Update".to_owned(), json!({"f:data": {}})),]
    );
}

#[tokio::test]
async fn options_that_do_not_go_together_are_refused() {
    let api = Api::new().await;
    api.post(MAPS, map("a")).await.good();
    let said = |answer: Answer| answer.failed(422);
    assert_eq!(
        said(apply(&api, &one("a"), "", config_map(json!({}))).await),
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
    );
    let merge = [("content-type", "application/merge-patch+json")];
    let patch =
        async |query: String| api.send(admin(), "PATCH", &format!("{}?{query}", one("a")), &merge, json!({})).await;
    assert_eq!(
        said(patch("force=false".into()).await),
        "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch"
    );
    assert_eq!(
        said(patch(format!("fieldManager={}", "x".repeat(129))).await),
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Too long: may not be more than 128 bytes"
    );
    assert_eq!(
        said(api.send(admin(), "PUT", &format!("{}?fieldManager=a%0Ab", one("a")), &[], map("a")).await),
        "UpdateOptions.meta.k8s.io \"\" is invalid: fieldManager: Invalid value: \"a\\nb\": invalid character U+000A (at \
         position 1)"
    );
}

#[tokio::test]
async fn a_configuration_that_is_none_of_this_object_is_refused() {
    let api = Api::new().await;
    let path = one("a");
    let go = |body: Value| apply(&api, &path, "fieldManager=me", body);
    let mut other = config_map(json!({}));
    other["kind"] = json!("Secret");
    assert_eq!(go(other).await.failed(400), "invalid object type: /v1, Kind=Secret");
    let mut owned = config_map(json!({}));
    owned["metadata"]["managedFields"] = json!([]);
    assert_eq!(go(owned).await.failed(400), "metadata.managedFields must be nil");
    let mut named = config_map(json!({}));
    named["metadata"]["name"] = json!("b");
    assert_eq!(go(named).await.failed(400), "the name of the object (b) does not match the name on the URL (a)");
    let mut unknown = config_map(json!({}));
    unknown["dta"] = json!({});
    let refused = go(unknown).await;
    assert_eq!(
        refused.failed(500),
        "failed to create typed patch object (/a; /v1, Kind=ConfigMap): .dta: field not declared in schema"
    );
    assert!(refused.json().get("reason").is_none());
    let mut with_uid = config_map(json!({}));
    with_uid["metadata"]["uid"] = json!("u");
    assert_eq!(
        go(with_uid).await.failed(409),
        "Operation cannot be fulfilled on configmaps \"a\": uid mismatch: the provided object specified uid u, and no \
         existing object was found"
    );
    let text = common::read(
        api.raw(admin(), "PATCH", &format!("{path}?fieldManager=me"), &[("content-type", APPLY)], "a: [").await,
    )
    .await;
    assert!(text.failed(400).starts_with("error decoding YAML: "), "{}", text.text());
    for media in ["application/apply-patch+cbor", "text/plain"] {
        let refused = api.send(admin(), "PATCH", &path, &[("content-type", media)], json!({})).await;
        assert_eq!(
            refused.failed(415),
            "the body of the request was in an unknown format - accepted media types include: \
             application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, \
             application/apply-patch+yaml"
        );
    }
}

#[tokio::test]
async fn an_apply_of_yaml_needs_the_right_to_create_what_is_not_there() {
    let api = Api::new().await;
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]}]);
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    api.post(&format!("{rbac}/roles"), json!({"metadata": {"name": "r"}, "rules": rules})).await.good();
    let binding = json!({"metadata": {"name": "r"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}]});
    api.post(&format!("{rbac}/rolebindings"), binding).await.good();
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  k: |\n    line\n";
    let path = format!("{}?fieldManager=me", one("a"));
    let refused = common::read(api.raw(user("bob"), "PATCH", &path, &[("content-type", APPLY)], yaml).await).await;
    assert_eq!(
        refused.failed(403),
        "configmaps \"a\" is forbidden: User \"bob\" cannot create resource \"configmaps\" in API group \"\" in the namespace \
         \"default\""
    );
    let made = common::read(api.raw(admin(), "PATCH", &path, &[("content-type", APPLY)], yaml).await).await;
    assert_eq!((made.code, &made.json()["data"]["k"]), (201, &json!("line\n")));
}

#[tokio::test]
async fn a_revision_in_the_configuration_is_a_condition_and_a_dry_run_stores_nothing() {
    let api = Api::new().await;
    let made = apply(&api, &one("a"), "fieldManager=me", config_map(json!({"k": "1"}))).await.good();
    let mut stale = config_map(json!({"k": "2"}));
    stale["metadata"]["resourceVersion"] = json!("1");
    let text = apply(&api, &one("a"), "fieldManager=me", stale.clone()).await.failed(409);
    assert!(text.contains("the object has been modified"), "{text}");
    let dry = apply(&api, &one("a"), "fieldManager=me&dryRun=All", config_map(json!({"k": "2"}))).await.good();
    assert_eq!(dry["data"]["k"], "2");
    assert_eq!(api.get(&one("a")).await.good(), made);
    stale["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
    apply(&api, &one("a"), "fieldManager=me", stale).await.good();
}

fn deployment(replicas: Option<i64>) -> Value {
    let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [
            {"name": "c", "image": "i", "ports": [{"containerPort": 80}], "env": [{"name": "E", "value": "1"}]}]}},
    }});
    if let Some(replicas) = replicas {
        object["spec"]["replicas"] = json!(replicas);
    }
    object
}

#[tokio::test]
async fn lists_of_a_builtin_kind_merge_by_the_keys_of_its_schema() {
    let api = Api::new().await;
    let path = format!("{DEPLOYMENTS}/web");
    apply(&api, &path, "fieldManager=me", deployment(Some(1))).await.good();
    let mut sidecar = deployment(None);
    sidecar["spec"] = json!({"template": {"spec": {"containers": [
        {"name": "c", "ports": [{"containerPort": 80, "protocol": "UDP"}]}, {"name": "side", "image": "s"}]}}});
    let both = apply(&api, &path, "fieldManager=injector", sidecar).await.good();
    let containers = both["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    let names: Vec<&Value> = containers.iter().map(|c| &c["name"]).collect();
    assert_eq!(names, ["c", "side"]);
    assert_eq!(containers[0]["ports"].as_array().unwrap().len(), 2);
    let mine = owners(&both).into_iter().find(|(name, _)| name == "injector Apply").unwrap().1;
    assert_eq!(
        mine["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"],
        json!({".": {}, "f:name": {}, "f:ports": {
            "k:{\"containerPort\":80,\"protocol\":\"UDP\"}": {".": {}, "f:containerPort": {}, "f:protocol": {}}}})
    );
}

#[tokio::test]
async fn status_has_its_own_owner_and_the_object_gives_it_none() {
    let api = Api::new().await;
    let path = format!("{DEPLOYMENTS}/web");
    let mut with_status = deployment(Some(1));
    with_status["status"] = json!({"replicas": 7});
    let made = apply(&api, &path, "fieldManager=me", with_status).await.good();
    assert!(owners(&made)[0].1.get("f:status").is_none());
    let status =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "status": {"replicas": 1}});
    let done = apply(&api, &format!("{path}/status"), "fieldManager=controller", status.clone()).await.good();
    assert_eq!(done["status"]["replicas"], 1);
    assert_eq!(
        owners(&done).into_iter().find(|(name, _)| name == "controller Apply status").unwrap().1,
        json!({"f:status": {"f:replicas": {}}})
    );
    let mut other = done;
    other["status"]["replicas"] = json!(2);
    other["spec"]["replicas"] = json!(9);
    let put = api.send(admin(), "PUT", &format!("{path}/status?fieldManager=c2"), &[], other).await.good();
    assert_eq!((&put["status"]["replicas"], &put["spec"]["replicas"]), (&json!(2), &json!(1)));
    let c2 = owners(&put).into_iter().find(|(name, _)| name == "c2 Update status").unwrap().1;
    assert_eq!(c2, json!({"f:status": {"f:replicas": {}}}));
    let missing = apply(&api, &format!("{DEPLOYMENTS}/none/status"), "fieldManager=c", status).await;
    assert_eq!(missing.failed(404), "deployments.apps \"none\" not found");
}

#[tokio::test]
async fn replicas_change_hands_through_scale() {
    let api = Api::new().await;
    let path = format!("{DEPLOYMENTS}/web");
    apply(&api, &path, "fieldManager=me", deployment(Some(1))).await.good();
    let scale =
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": 4}});
    let through = format!("{path}/scale");
    assert_eq!(
        apply(&api, &through, "fieldManager=hpa", scale.clone()).await.failed(409),
        "Apply failed with 1 conflict: conflict with \"me\": .spec.replicas"
    );
    let forced = apply(&api, &through, "fieldManager=hpa&force=true", scale.clone()).await.good();
    assert_eq!((&forced["kind"], &forced["spec"]["replicas"]), (&json!("Scale"), &json!(4)));
    let object = api.get(&path).await.good();
    let hpa = owners(&object).into_iter().find(|(name, _)| name == "hpa Apply scale").unwrap().1;
    assert_eq!(hpa, json!({"f:spec": {"f:replicas": {}}}));
    let mine = owners(&object).into_iter().find(|(name, _)| name == "me Apply").unwrap().1;
    assert!(mine["f:spec"].get("f:replicas").is_none());
    let by_hand = json!({"spec": {"replicas": 2}});
    let merge = [("content-type", "application/merge-patch+json")];
    api.send(admin(), "PATCH", &format!("{through}?fieldManager=hand"), &merge, by_hand).await.good();
    assert!(owners(&api.get(&path).await.good()).iter().any(|(name, _)| name == "hand Update scale"));
    assert_eq!(api.row(&through).await, json!({"Name": "web", "Desired": 2, "Available": 0, "Age": "0s"}));
    let mut odd = scale;
    odd["spec"]["what"] = json!(1);
    assert_eq!(
        apply(&api, &through, "fieldManager=hpa", odd).await.failed(500),
        "failed to create typed patch object (/web; autoscaling/v1, Kind=Scale): .spec.what: field not declared in schema"
    );
}

#[tokio::test]
async fn owners_are_kept_by_writers_who_do_not_know_them_and_reset_on_demand() {
    let api = Api::new().await;
    let made = api.send(admin(), "POST", &format!("{MAPS}?fieldManager=one"), &[], map("a")).await.good();
    let mut blind = map("a");
    blind["data"]["j"] = json!("1");
    let after = api.send(admin(), "PUT", &format!("{}?fieldManager=two", one("a")), &[], blind).await.good();
    assert_eq!(
        owners(&after),
        [
            ("one Update".to_owned(), json!({"f:data": {".": {}, "f:k": {}}})),
            ("two Update".to_owned(), json!({"f:data": {"f:j": {}}})),
        ]
    );
    assert_ne!(after["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    let reset = api.patch("merge", &one("a"), json!({"metadata": {"managedFields": [{}]}})).await.good();
    assert_eq!(owners(&reset), []);
    let replaced =
        api.patch("json", &one("a"), json!([{"op": "replace", "path": "/data/k", "value": "2"}])).await.good();
    assert_eq!(owners(&replaced), []);
}

#[tokio::test]
async fn what_the_server_writes_itself_has_an_owner_too() {
    let api = Api::new().await;
    let namespace = api.get("/api/v1/namespaces/kube-system").await.good();
    assert_eq!(owners(&namespace)[0].0, "kube-apiserver Update");
}

#[tokio::test]
async fn owners_that_a_writer_makes_up_must_have_names_that_a_manager_may_have() {
    let api = Api::new().await;
    let mut made = api.post(MAPS, map("a")).await.good();
    made["metadata"]["managedFields"][0]["manager"] = json!("x".repeat(129));
    assert_eq!(
        api.put(&one("a"), made).await.failed(422),
        "ConfigMap \"a\" is invalid: metadata.managedFields[0].manager: Too long: may not be more than 128 bytes"
    );
}

#[tokio::test]
async fn a_deployment_made_by_hand_has_the_owner_that_any_cluster_gives_it() {
    let api = Api::new().await;
    let object = json!({"metadata": {"name": "nginx", "labels": {"app": "nginx"}}, "spec": {
        "replicas": 1, "selector": {"matchLabels": {"app": "nginx"}}, "strategy": {},
        "template": {"metadata": {"labels": {"app": "nginx"}},
            "spec": {"containers": [{"name": "nginx", "image": "nginx", "resources": {}}]}}}, "status": {}});
    let made = api.send(admin(), "POST", DEPLOYMENTS, &[("user-agent", "kubectl-create")], object).await.good();
    let container = json!({
        ".": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {}, "f:resources": {}, "f:terminationMessagePath": {},
        "f:terminationMessagePolicy": {},
    });
    assert_eq!(
        owners(&made),
        [(
            "kubectl-create Update".to_owned(),
            json!({
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {
                    "f:progressDeadlineSeconds": {}, "f:replicas": {}, "f:revisionHistoryLimit": {}, "f:selector": {},
                    "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}}, "f:type": {}},
                    "f:template": {
                        "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                        "f:spec": {
                            "f:containers": {"k:{\"name\":\"nginx\"}": container},
                            "f:dnsPolicy": {}, "f:restartPolicy": {}, "f:schedulerName": {}, "f:securityContext": {},
                            "f:terminationGracePeriodSeconds": {},
                        },
                    },
                },
            })
        )]
    );
}
