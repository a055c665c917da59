//! Quotas, limits, classes and nodes: what they are given and what they may not say.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

use crate::common;

use common::{Api, b64};
use serde_json::{Value, json};

/// Posts each body, which must be refused with the complaint.
async fn all_refused(api: &Api, path: &str, kind: &str, name: &str, table: &[(Value, &str)]) {
    for (body, wanted) in table {
        let text = api.post(path, body.clone()).await.failed(422);
        assert_eq!(text, format!("{kind} {name:?} is invalid: {wanted}"), "{body}");
    }
}

#[tokio::test]
async fn a_limit_is_filled_in_from_its_bounds_and_is_within_them() {
    let api = Api::new().await;
    let path = "/api/v1/namespaces/default/limitranges";
    let range = |limit: Value| json!({"metadata": {"name": "l"}, "spec": {"limits": [limit]}});
    all_refused(&api, path, "LimitRange", "l", &[
        (
            range(json!({"type": "Box"})),
            "spec.limits[0].type: Invalid value: \"Box\": must be a standard limit type or fully qualified",
        ),
        (
            range(json!({"type": "Pod", "default": {"cpu": "1"}})),
            "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
        ),
        (
            range(json!({"type": "Container", "max": {"disk": "1"}})),
            "[spec.limits[0].max[disk]: Invalid value: \"disk\": must be a standard resource type or fully qualified, \
             spec.limits[0].default[disk]: Invalid value: \"disk\": must be a standard resource type or fully qualified, \
             spec.limits[0].defaultRequest[disk]: Invalid value: \"disk\": must be a standard resource type or fully qualified]",
        ),
        (
            range(json!({"type": "Pod", "min": {"cpu": "2"}, "max": {"cpu": "1"}})),
            "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
        ),
        (
            range(json!({"type": "Pod", "min": {"cpu": "1"}, "max": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "3"}})),
            "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"3\": ratio 3 is greater than max/min = 2.000000",
        ),
        (
            range(json!({"type": "PersistentVolumeClaim"})),
            "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided",
        ),
    ])
    .await;
    let made =
        api.post(path, range(json!({"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}))).await.good();
    let limit = &made["spec"]["limits"][0];
    assert_eq!(limit["default"], json!({"cpu": "2"}));
    assert_eq!(limit["defaultRequest"], json!({"cpu": "2", "memory": "1Mi"}));
}

#[tokio::test]
async fn a_quota_bounds_what_quotas_know_and_keeps_its_scopes() {
    let api = Api::new().await;
    let path = "/api/v1/namespaces/default/resourcequotas";
    let quota = |spec: Value| json!({"metadata": {"name": "q"}, "spec": spec});
    all_refused(&api, path, "ResourceQuota", "q", &[
        (
            quota(json!({"hard": {"storage": "1"}})),
            "spec.hard[storage]: Invalid value: \"storage\": must be a standard resource for quota",
        ),
        (quota(json!({"hard": {"pods": "1500m"}})), "spec.hard[pods]: Invalid value: \"1500m\": must be an integer"),
        (
            quota(json!({"hard": {"cpu": "-1"}})),
            "spec.hard[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
        ),
        (
            quota(json!({"scopes": ["BestEffort", "NotBestEffort"]})),
            "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes",
        ),
        (
            quota(json!({"hard": {"cpu": "1"}, "scopes": ["BestEffort"]})),
            "spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource",
        ),
        (
            quota(json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}})),
            "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or \
             'NotIn' for scope selector",
        ),
    ])
    .await;
    let made = api.post(path, quota(json!({"hard": {"pods": "4", "count/widgets.example.org": "5"}}))).await.good();
    assert_eq!(made["status"], json!({}));
    let one = format!("{path}/q");
    let text = api
        .patch("merge", &one, json!({"spec": {"scopes": ["BestEffort"], "hard": {"count/widgets.example.org": null}}}))
        .await
        .failed(422);
    assert!(text.contains("spec.scopes: Invalid value: [\"BestEffort\"]: field is immutable"), "{text}");
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    api.post("/api/v1/namespaces/default/pods", pod).await.good();
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = api.send(common::admin(), "GET", path, &accept, Value::Null).await.good();
    assert_eq!(table["rows"][0]["cells"], json!(["q", "count/widgets.example.org: 0/5, pods: 1/4", "", "0s"]));
}

#[tokio::test]
async fn priorities_beyond_a_billion_are_the_clusters_own() {
    let api = Api::new().await;
    let path = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let class = |name: &str, value: i64| json!({"metadata": {"name": name}, "value": value});
    let text = api.post(path, class("c", 1_000_000_001)).await.failed(422);
    let why = "value: Forbidden: maximum allowed value of a user defined priority is 1000000000";
    assert_eq!(text, format!("PriorityClass.scheduling.k8s.io \"c\" is invalid: {why}"));
    let text = api.post(path, class("system-mine", 5)).await.failed(422);
    let why = "priority class names with 'system-' prefix are reserved for system use only. error: system-mine is not a known \
               system priority class";
    assert!(text.ends_with(why), "{text}");
    let made = api.post(path, class("c", 10)).await.good();
    assert_eq!(
        (&made["metadata"]["generation"], &made["preemptionPolicy"]),
        (&json!(1), &json!("PreemptLowerPriority"))
    );
    let text = api.patch("merge", &format!("{path}/c"), json!({"value": 11})).await.failed(422);
    assert!(text.ends_with("value: Forbidden: may not be changed in an update."), "{text}");
    let own = api.get(&format!("{path}/system-node-critical")).await.good();
    assert_eq!((&own["value"], &own["metadata"]["generation"]), (&json!(2_000_001_000), &json!(1)));
}

#[tokio::test]
async fn a_class_of_runtimes_keeps_its_handler() {
    let api = Api::new().await;
    let path = "/apis/node.k8s.io/v1/runtimeclasses";
    let class = |handler: &str| json!({"metadata": {"name": "r"}, "handler": handler});
    let text = api.post(path, class("")).await.failed(422);
    assert_eq!(text, "RuntimeClass.node.k8s.io \"r\" is invalid: handler: Required value");
    let mut made = api.post(path, class("kata")).await.good();
    made["handler"] = "runc".into();
    let text = api.put(&format!("{path}/r"), made).await.failed(422);
    assert!(text.ends_with("handler: Invalid value: \"runc\": field is immutable"), "{text}");
}

#[tokio::test]
async fn a_node_has_its_networks_and_taints_once() {
    let api = Api::new().await;
    let path = "/api/v1/nodes";
    let node = |spec: Value| json!({"metadata": {"name": "n"}, "spec": spec});
    let text = api.post(path, node(json!({"taints": [{"key": "a", "effect": "Never"}]}))).await.failed(422);
    let why = "metadata.taints[0].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", \
               \"PreferNoSchedule\", \"NoExecute\"";
    assert_eq!(text, format!("Node \"n\" is invalid: {why}"));
    let made = api.post(path, node(json!({"podCIDR": "10.42.0.0/24"}))).await.good();
    assert_eq!(made["spec"]["podCIDRs"], json!(["10.42.0.0/24"]));
    let other = json!({"spec": {"podCIDR": "10.42.1.0/24", "podCIDRs": ["10.42.1.0/24"]}});
    let text = api.patch("merge", &format!("{path}/n"), other).await.failed(422);
    let why = "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid";
    assert_eq!(text, format!("Node \"n\" is invalid: {why}"));
}

#[tokio::test]
async fn every_group_that_is_served_has_an_available_api_service() {
    let api = Api::new().await;
    let groups = api.get("/apis").await.good();
    let found = api.get("/apis/apiregistration.k8s.io/v1/apiservices").await.good();
    let names = common::names(&found);
    assert!(names.contains(&"v1."), "{names:?}");
    for group in groups["groups"].as_array().unwrap() {
        let group_name = group["name"].as_str().unwrap();
        for version in group["versions"].as_array().unwrap() {
            let wanted = format!("{}.{group_name}", version["version"].as_str().unwrap());
            assert!(group_name == "apiregistration.k8s.io" || names.contains(&wanted.as_str()), "{wanted}");
        }
    }
    let one = &found["items"][0];
    assert_eq!(
        (&one["status"]["conditions"][0]["type"], &one["status"]["conditions"][0]["status"]),
        (&json!("Available"), &json!("True"))
    );
}

#[tokio::test]
async fn what_is_immutable_stays_and_keys_are_not_empty() {
    let api = Api::new().await;
    for (plural, value) in [("secrets", b64("v")), ("configmaps", "v".to_owned())] {
        let all = format!("/api/v1/namespaces/default/{plural}");
        let empty = api.post(&all, json!({"metadata": {"name": "e"}, "data": {"": value}})).await.causes();
        assert!(empty[0].starts_with("data[]: Invalid value: \"\": a valid config key must consist of"), "{empty:?}");
        api.post(&all, json!({"metadata": {"name": "i"}, "data": {"k": value}, "immutable": true})).await.good();
        let one = format!("{all}/i");
        for (patch, field) in [(json!({"data": {"k": null}}), "data"), (json!({"immutable": false}), "immutable")] {
            let why = format!("{field}: Forbidden: field is immutable when `immutable` is set");
            assert_eq!(api.patch("merge", &one, patch).await.causes(), [why]);
        }
        api.patch("merge", &one, json!({"metadata": {"labels": {"still": "mine"}}})).await.good();
        api.delete(&one).await.good();
    }
}
