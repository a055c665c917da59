//! Webhooks: who is asked about which requests, and what becomes of their answers.
#![allow(clippy::unwrap_used, reason = "tests may unwrap in their helpers too")]

use crate::common;
use crate::hooks;

use common::{Api, MAPS, admin, map};
use hooks::{Hook, patched};
use serde_json::{Value, json};

const BASE: &str = "/apis/admissionregistration.k8s.io/v1";

pub(crate) fn webhook(name: &str, client: Value) -> Value {
    json!({
        "name": name, "clientConfig": client, "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "rules": [{"operations": ["CREATE", "UPDATE", "DELETE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
    })
}

pub(crate) async fn register(api: &Api, kind: &str, name: &str, webhooks: Value) -> Value {
    let object = json!({"metadata": {"name": name}, "webhooks": webhooks});
    api.post(&format!("{BASE}/{}webhookconfigurations", kind.to_lowercase()), object).await.good()
}

#[tokio::test]
async fn a_webhook_that_refuses_is_told_with_its_words() {
    let api = Api::new().await;
    let hook = Hook::serve(|review| match review["request"]["name"].as_str() {
        Some("bad") => {
            json!({"allowed": false, "status": {"message": "not this one", "reason": "Forbidden", "code": 403}})
        }
        Some("odd") => json!({"allowed": false}),
        _ => json!({"allowed": true, "warnings": ["mind the gap"]}),
    })
    .await;
    register(&api, "Validating", "v", json!([webhook("deny.example.com", hook.client())])).await;
    let refused = api.post(MAPS, map("bad")).await;
    assert_eq!(refused.failed(403), "admission webhook \"deny.example.com\" denied the request: not this one");
    let refused = api.post(MAPS, map("odd")).await;
    assert_eq!(refused.failed(400), "admission webhook \"deny.example.com\" denied the request without explanation");
    let good = api.post(MAPS, map("good")).await;
    assert_eq!(good.headers["warning"], "299 - \"mind the gap\"");
    good.good();
    api.delete(&format!("{MAPS}/good")).await.good();
    let seen = hook.seen.lock().unwrap();
    let last = seen.last().unwrap();
    assert_eq!(
        (&last["operation"], &last["oldObject"]["metadata"]["name"], &last["object"]),
        (&json!("DELETE"), &json!("good"), &Value::Null)
    );
    assert_eq!(last["options"], json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"}));
    let first = &seen[0];
    assert_eq!(first["kind"], json!({"group": "", "version": "v1", "kind": "ConfigMap"}));
    assert_eq!(first["resource"], json!({"group": "", "version": "v1", "resource": "configmaps"}));
    assert_eq!((&first["namespace"], &first["userInfo"]["username"]), (&json!("default"), &json!("admin")));
}

#[tokio::test]
async fn what_a_webhook_patches_is_stored_and_earlier_ones_see_it() {
    let api = Api::new().await;
    let first = Hook::serve(|review| {
        let stage = review["request"]["object"]["data"].get("second").is_some();
        patched(json!([{"op": "add", "path": "/data/first", "value": if stage { "again" } else { "once" }}]))
    })
    .await;
    let second = Hook::serve(|_| patched(json!([{"op": "add", "path": "/data/second", "value": "yes"}]))).await;
    let mut one = webhook("a.example.com", first.client());
    one["reinvocationPolicy"] = json!("IfNeeded");
    register(&api, "Mutating", "m", json!([one, webhook("b.example.com", second.client())])).await;
    let made = api.post(MAPS, map("a")).await.good();
    assert_eq!(made["data"], json!({"k": "v", "first": "again", "second": "yes"}));
    assert_eq!(first.seen.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn selectors_and_conditions_say_what_a_webhook_is_asked() {
    let api = Api::new().await;
    let hook = Hook::serve(|_| json!({"allowed": false, "status": {"message": "no"}})).await;
    let mut one = webhook("a.example.com", hook.client());
    one["objectSelector"] = json!({"matchLabels": {"l": "yes"}});
    let mut two = webhook("b.example.com", hook.client());
    two["matchConditions"] = json!([{"name": "named", "expression": "object.metadata.name.startsWith('no-') && request.operation == 'CREATE'"}]);
    let mut three = webhook("c.example.com", hook.client());
    three["namespaceSelector"] = json!({"matchLabels": {"kubernetes.io/metadata.name": "other"}});
    register(&api, "Validating", "v", json!([one, two, three])).await;
    api.post(MAPS, common::labelled("plain", "no")).await.good();
    assert_eq!(api.post(MAPS, common::labelled("a", "yes")).await.code, 400);
    assert_eq!(api.post(MAPS, map("no-way")).await.code, 400);
    api.post("/api/v1/namespaces", json!({"metadata": {"name": "other"}})).await.good();
    assert_eq!(api.post("/api/v1/namespaces/other/configmaps", map("a")).await.code, 400);
    let wrong = json!([{"name": "x", "expression": "object.metadata.name =="}]);
    let mut bad = webhook("a.example.com", hook.client());
    bad["matchConditions"] = wrong;
    let object = json!({"metadata": {"name": "bad"}, "webhooks": [bad]});
    let refused = api.post(&format!("{BASE}/validatingwebhookconfigurations"), object).await;
    assert!(refused.failed(422).contains("compilation failed: ERROR: <input>:1:24: Syntax error"));
}

#[tokio::test]
async fn a_webhook_that_fails_closes_or_opens_as_its_policy_says() {
    let api = Api::new().await;
    // Nobody listens on a port that was closed again.
    let port = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() };
    let nobody = json!({"url": format!("https://127.0.0.1:{port}/x"), "caBundle": common::b64("no certificate")});
    let mut closed = webhook("closed.example.com", nobody.clone());
    closed["objectSelector"] = json!({"matchLabels": {"l": "closed"}});
    let mut open = webhook("open.example.com", nobody);
    open["failurePolicy"] = json!("Ignore");
    let lying = Hook::serve(|_| json!({"allowed": true, "uid": "another"})).await;
    let mut lies = webhook("lies.example.com", lying.client());
    lies["objectSelector"] = json!({"matchLabels": {"l": "lies"}});
    let patches = Hook::serve(|_| json!({"allowed": true, "patchType": "JSONPatch", "patch": "e30="})).await;
    let mut patched = webhook("patch.example.com", patches.client());
    patched["objectSelector"] = json!({"matchLabels": {"l": "patch"}});
    register(&api, "Validating", "v", json!([closed, open, lies])).await;
    register(&api, "Mutating", "m", json!([patched])).await;
    let refused = api.post(MAPS, common::labelled("a", "closed")).await.failed(500);
    assert!(refused.starts_with("Internal error occurred: failed calling webhook \"closed.example.com\": failed to call webhook: Post \"https://127.0.0.1"), "{refused}");
    let refused = api.post(MAPS, common::labelled("b", "lies")).await.failed(500);
    assert!(refused.contains("received invalid webhook response: expected response.uid="), "{refused}");
    assert_eq!(api.post(MAPS, common::labelled("c", "patch")).await.code, 500);
    api.post(MAPS, common::labelled("d", "other")).await.good();
}

#[tokio::test]
async fn a_webhook_with_side_effects_is_no_part_of_a_dry_run_and_own_configurations_are_exempt() {
    let api = Api::new().await;
    let hook = Hook::serve(|_| json!({"allowed": false})).await;
    let mut one = webhook("a.example.com", hook.client());
    one["rules"] = json!([{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]);
    register(&api, "Validating", "v", json!([one])).await;
    assert_eq!(api.post(&format!("{MAPS}?dryRun=All"), map("a")).await.code, 400);
    api.delete(&format!("{BASE}/validatingwebhookconfigurations/v")).await.good();
    api.post(MAPS, map("a")).await.good();
}

#[tokio::test]
async fn equivalent_versions_match_and_pods_are_attached_to_with_leave() {
    let api = Api::new().await;
    let hook = Hook::serve(|review| json!({"allowed": review["request"]["operation"] != "CONNECT"})).await;
    let mut scaler = webhook("scaler.example.com", hook.client());
    scaler["rules"] = json!([{"operations": ["CREATE"], "apiGroups": ["autoscaling"], "apiVersions": ["v2"], "resources": ["horizontalpodautoscalers"]}]);
    let mut attach = webhook("attach.example.com", hook.client());
    attach["rules"] =
        json!([{"operations": ["CONNECT"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/attach"]}]);
    register(&api, "Validating", "v", json!([scaler, attach])).await;
    let target = json!({"kind": "Deployment", "name": "x", "apiVersion": "apps/v1"});
    let old = json!({"metadata": {"name": "a"}, "spec": {"scaleTargetRef": target, "maxReplicas": 3, "targetCPUUtilizationPercentage": 50}});
    api.post("/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers", old).await.good();
    {
        let seen = hook.seen.lock().unwrap();
        assert_eq!(seen[0]["object"]["apiVersion"], "autoscaling/v2");
        assert_eq!((&seen[0]["kind"]["version"], &seen[0]["requestKind"]["version"]), (&json!("v2"), &json!("v1")));
        assert!(seen[0]["object"]["spec"]["metrics"].is_array());
    }
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "b"}]}});
    api.post("/api/v1/namespaces/default/pods", pod).await.good();
    let refused =
        api.send(admin(), "POST", "/api/v1/namespaces/default/pods/p/attach?stdin=true", &[], Value::Null).await;
    assert!(refused.failed(400).contains("attach.example.com"));
    assert_eq!(hook.seen.lock().unwrap().last().unwrap()["object"]["kind"], "PodAttachOptions");
}

#[tokio::test]
async fn what_a_webhook_adds_gets_its_defaults() {
    let api = Api::new().await;
    let container = json!({"name": "added", "image": "x"});
    let hook =
        Hook::serve(move |_| patched(json!([{"op": "add", "path": "/spec/initContainers", "value": [container]}])))
            .await;
    let mut one = webhook("a.example.com", hook.client());
    one["rules"][0]["resources"] = json!(["pods"]);
    register(&api, "Mutating", "m", json!([one])).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "b"}]}});
    let made = api.post("/api/v1/namespaces/default/pods", pod).await.good();
    let added = &made["spec"]["initContainers"][0];
    assert_eq!((&added["imagePullPolicy"], &added["terminationMessagePolicy"]), (&json!("Always"), &json!("File")));
}

#[tokio::test]
async fn a_webhook_that_is_slow_is_given_up_in_time() {
    let api = Api::new().await;
    // It takes connections and never says a word.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let client = json!({"url": format!("https://127.0.0.1:{port}/x")});
    let mut slow = webhook("slow.example.com", client);
    slow["timeoutSeconds"] = json!(1);
    register(&api, "Validating", "v", json!([slow])).await;
    tokio::time::pause();
    let refused = api.post(MAPS, map("a")).await.failed(500);
    assert!(refused.contains("?timeout=1s\": context deadline exceeded"), "{refused}");
}

#[tokio::test]
async fn custom_resources_are_judged_and_changed_like_all_others() {
    let api = Api::new().await;
    let schema =
        json!({"type": "object", "properties": {"data": {"type": "object", "properties": {"a": {"type": "string"}}}}});
    let version = |name: &str, storage: bool| json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema}});
    let definition = |kind: &str| {
        let plural = format!("{}s", kind.to_lowercase());
        json!({
            "metadata": {"name": format!("{plural}.example.com"), "labels": {"kind": kind}},
            "spec": {
                "group": "example.com", "scope": "Namespaced", "names": {"plural": plural, "kind": kind},
                "versions": [version("v1", false), version("v2", true)],
            },
        })
    };
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let made = api.post(crds, definition("Foo")).await.good();
    let mut watch = api.watch(&format!("{crds}?watch=1&resourceVersion={}", common::revision(&made))).await;
    while !watch.next().await.unwrap()["object"]["status"]["conditions"]
        .as_array()
        .is_some_and(|all| all.iter().any(|c| c["type"] == "Established" && c["status"] == "True"))
    {}
    let changes = Hook::serve(|_| {
        patched(json!([{"op": "add", "path": "/data/a", "value": "x"}, {"op": "add", "path": "/data/odd", "value": 1}]))
    })
    .await;
    let mut change = webhook("change.example.com", changes.client());
    change["rules"] =
        json!([{"operations": ["CREATE"], "apiGroups": ["example.com"], "apiVersions": ["v2"], "resources": ["foos"]}]);
    register(&api, "Mutating", "m", json!([change])).await;
    let denies = Hook::serve(|review| json!({"allowed": review["request"]["operation"] != "DELETE" && review["request"]["object"]["metadata"]["labels"]["kind"] != "Bar"})).await;
    let mut deny = webhook("deny.example.com", denies.client());
    deny["rules"] = json!([
        {"operations": ["DELETE"], "apiGroups": ["example.com"], "apiVersions": ["*"], "resources": ["*"]},
        {"operations": ["CREATE"], "apiGroups": ["apiextensions.k8s.io"], "apiVersions": ["*"], "resources": ["customresourcedefinitions"]},
    ]);
    register(&api, "Validating", "v", json!([deny])).await;
    let foos = "/apis/example.com/v1/namespaces/default/foos";
    let foo = json!({"apiVersion": "example.com/v1", "kind": "Foo", "metadata": {"name": "a"}, "data": {}});
    let made = api.post(foos, foo).await.good();
    assert_eq!((&made["apiVersion"], &made["data"]), (&json!("example.com/v1"), &json!({"a": "x"})));
    assert_eq!(changes.seen.lock().unwrap()[0]["object"]["apiVersion"], "example.com/v2");
    assert!(api.delete(&format!("{foos}/a")).await.failed(400).contains("deny.example.com"));
    assert!(api.post(crds, definition("Bar")).await.failed(400).contains("deny.example.com"));
}

#[tokio::test]
async fn what_a_webhook_changes_is_seen_by_the_servers_own_admission_and_by_policies() {
    let api = Api::new().await;
    let account = json!({"metadata": {"name": "default"}});
    api.post("/api/v1/namespaces/default/serviceaccounts", account).await;
    let limits = json!({"limits": [{"type": "Container", "default": {"cpu": "100m"}}]});
    api.post("/api/v1/namespaces/default/limitranges", json!({"metadata": {"name": "l"}, "spec": limits})).await.good();
    let rules = json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]);
    for (name, again) in [("again.example.com", "IfNeeded"), ("once.example.com", "Never")] {
        let patch = format!(
            "[JSONPatch{{op: 'add', path: '/metadata/labels', value: {{'{again}': string(object.spec.containers.size())}}}}]"
        );
        let spec = json!({
            "matchConstraints": {"resourceRules": rules}, "reinvocationPolicy": again, "failurePolicy": "Fail",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": format!(
                "has(object.metadata.labels) ? [JSONPatch{{op: 'add', path: '/metadata/labels/{again}', value: string(object.spec.containers.size())}}] : {patch}"
            )}}],
        });
        api.post(&format!("{BASE}/mutatingadmissionpolicies"), json!({"metadata": {"name": name}, "spec": spec}))
            .await
            .good();
        let binding = json!({"metadata": {"name": name}, "spec": {"policyName": name}});
        api.post(&format!("{BASE}/mutatingadmissionpolicybindings"), binding).await.good();
    }
    let sidecar = json!({"name": "sidecar", "image": "x"});
    let hook =
        Hook::serve(move |_| patched(json!([{"op": "add", "path": "/spec/containers/-", "value": sidecar}]))).await;
    let mut inject = webhook("inject.example.com", hook.client());
    inject["rules"][0]["resources"] = json!(["pods"]);
    register(&api, "Mutating", "m", json!([inject])).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "b"}]}});
    let made = api.post("/api/v1/namespaces/default/pods", pod).await.good();
    let added = &made["spec"]["containers"][1];
    assert_eq!(added["resources"]["limits"], json!({"cpu": "100m"}));
    assert_eq!(added["volumeMounts"][0]["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");
    assert_eq!(made["metadata"]["labels"], json!({"IfNeeded": "2", "Never": "1"}));
    assert_eq!(hook.seen.lock().unwrap().len(), 1);
}
