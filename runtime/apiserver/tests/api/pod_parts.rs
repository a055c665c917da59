//! The parts of pods that have an address of their own, and how pods go.

use crate::common;

use common::{Answer, Api, admin};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";

fn one(name: &str) -> String {
    format!("{PODS}/{name}")
}

/// The pod of the documentation's first example, with its specification changed by a merge patch.
fn pod(name: &str, spec: Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "nginx", "image": "nginx:1.14.2", "ports": [{"containerPort": 80}]}]},
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][key] = value.clone();
    }
    pod
}

fn binding(pod: &str, node: &str) -> Value {
    let metadata = json!({"name": pod, "annotations": {"example.com/why": "room"}});
    json!({"metadata": metadata, "target": {"kind": "Node", "name": node}})
}

#[tokio::test]
async fn a_pod_is_bound_to_a_node_once() {
    let api = Api::new().await;
    api.post(PODS, pod("a", json!({}))).await.good();
    let labels = json!({"topology.kubernetes.io/zone": "z1", "kubernetes.io/os": "linux"});
    api.post("/api/v1/nodes", json!({"metadata": {"name": "n1", "labels": labels}})).await.good();
    let path = format!("{}/binding", one("a"));
    let done = api.post(&path, binding("a", "n1")).await;
    assert_eq!((done.code, done.json()["status"].clone()), (201, json!("Success")));
    let bound = api.get(&one("a")).await.good();
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert_eq!(bound["metadata"]["labels"], json!({"app": "web", "topology.kubernetes.io/zone": "z1"}));
    assert_eq!(bound["metadata"]["annotations"]["example.com/why"], "room");
    assert_eq!(bound["metadata"]["generation"], 1);
    let condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-01-02T03:04:05Z"});
    assert_eq!(bound["status"]["conditions"], json!([condition]));
    let again = api.post("/api/v1/namespaces/default/bindings", binding("a", "n2")).await;
    assert_eq!(
        again.failed(409),
        "Operation cannot be fulfilled on pods/binding \"a\": pod a is already assigned to node \"n1\""
    );
    let other = api.post(&path, binding("b", "n2")).await;
    assert_eq!(other.failed(400), "name in URL does not match name in Binding object");
    assert_eq!(api.post(&format!("{}/binding", one("z")), binding("z", "n")).await.failed(404), "pods \"z\" not found");
}

#[tokio::test]
async fn a_pod_that_runs_has_its_time_to_end_and_one_that_is_nowhere_has_none() {
    let api = Api::new().await;
    api.post(PODS, pod("nowhere", json!({}))).await.good();
    api.delete(&one("nowhere")).await.good();
    assert_eq!(api.get(&one("nowhere")).await.code, 404);
    api.post(PODS, pod("a", json!({"nodeName": "n"}))).await.good();
    let going = api.delete(&one("a")).await.good();
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 30);
    let now = api.send(admin(), "DELETE", &format!("{}?gracePeriodSeconds=0", one("a")), &[], Value::Null).await;
    assert_eq!(now.code, 200);
    assert_eq!(api.get(&one("a")).await.code, 404);
}

const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

async fn running(api: &Api, name: &str) {
    api.post(PODS, pod(name, json!({"nodeName": "n"}))).await.good();
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    api.patch("merge", &format!("{}/status", one(name)), status).await.good();
}

async fn budget(api: &Api, name: &str, allowed: i64) {
    let spec = json!({"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}});
    api.post(BUDGETS, json!({"metadata": {"name": name}, "spec": spec})).await.good();
    let counts = json!({"observedGeneration": 1, "disruptionsAllowed": allowed, "currentHealthy": 1 + allowed,
        "desiredHealthy": 1, "expectedPods": 1 + allowed});
    api.patch("merge", &format!("{BUDGETS}/{name}/status"), json!({"status": counts})).await.good();
}

async fn evict(api: &Api, name: &str, options: Value) -> Answer {
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}, "deleteOptions": options});
    api.post(&format!("{}/eviction", one(name)), eviction).await
}

#[tokio::test]
async fn an_eviction_spends_of_the_budget_until_nothing_is_left() {
    let api = Api::new().await;
    running(&api, "a").await;
    running(&api, "b").await;
    budget(&api, "web", 1).await;
    let tried = evict(&api, "a", json!({"dryRun": ["All"]})).await;
    assert_eq!(tried.code, 201, "{}", tried.text());
    assert!(api.get(&one("a")).await.good()["metadata"].get("deletionTimestamp").is_none());
    let done = evict(&api, "a", Value::Null).await;
    assert_eq!(done.code, 201, "{}", done.text());
    let gone = api.get(&one("a")).await.good();
    assert!(gone["metadata"].get("deletionTimestamp").is_some());
    let conditions = gone["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|c| c["type"] == "DisruptionTarget" && c["reason"] == "EvictionByEvictionAPI"));
    let web = api.get(&format!("{BUDGETS}/web")).await.good();
    assert_eq!(web["status"]["disruptionsAllowed"], 0);
    assert_eq!(web["status"]["disruptedPods"], json!({"a": "2026-01-02T03:04:05Z"}));
    let refused = evict(&api, "b", Value::Null).await;
    assert_eq!(refused.failed(429), "Cannot evict pod as it would violate the pod's disruption budget.");
    let cause = &refused.json()["details"]["causes"][0];
    assert_eq!(cause["reason"], "DisruptionBudget");
    assert_eq!(cause["message"], "The disruption budget web does not allow evicting pods currently");
}

#[tokio::test]
async fn a_budget_that_is_not_up_to_date_or_not_alone_evicts_nothing() {
    let api = Api::new().await;
    running(&api, "a").await;
    let spec = json!({"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}});
    api.post(BUDGETS, json!({"metadata": {"name": "new"}, "spec": spec})).await.good();
    let refused = evict(&api, "a", Value::Null).await;
    assert_eq!(refused.code, 429);
    let details = &refused.json()["details"];
    assert_eq!(details["retryAfterSeconds"], 10);
    assert_eq!(details["causes"][0]["message"], "The disruption budget new is still being processed by the server.");
    budget(&api, "other", 1).await;
    let two = evict(&api, "a", Value::Null).await;
    assert_eq!(
        two.failed(500),
        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    );
    // A pod that does not run yet is no one's loss.
    api.post(PODS, pod("pending", json!({}))).await.good();
    assert_eq!(evict(&api, "pending", Value::Null).await.code, 201);
    assert_eq!(api.get(&one("pending")).await.code, 404);
}

#[tokio::test]
async fn ephemeral_containers_come_and_stay() {
    let api = Api::new().await;
    api.post(PODS, pod("a", json!({}))).await.good();
    let path = format!("{}/ephemeralcontainers", one("a"));
    let debug = json!({"name": "debug", "image": "busybox", "targetContainerName": "nginx"});
    let p = json!({"spec": {"ephemeralContainers": [debug]}, "metadata": {"labels": {"app": "other"}}});
    let done = api.patch("strategic-merge", &path, p).await.good();
    assert_eq!(done["spec"]["ephemeralContainers"][0]["terminationMessagePolicy"], "File");
    assert_eq!(done["metadata"]["labels"]["app"], "web");
    let found = api.patch("merge", &path, json!({"spec": {"ephemeralContainers": []}})).await.causes();
    let why = "existing ephemeral containers \"debug\" may not be removed\n";
    assert_eq!(found, [format!("spec.ephemeralContainers: Forbidden: {why}")]);
    let unknown =
        json!({"name": "more", "image": "busybox", "targetContainerName": "nope", "ports": [{"containerPort": 1}]});
    let found = api.patch("strategic-merge", &path, json!({"spec": {"ephemeralContainers": [unknown]}})).await.causes();
    assert!(
        found.contains(&"spec.ephemeralContainers[0].targetContainerName: Not found: \"nope\"".to_owned())
            || found.contains(&"spec.ephemeralContainers[1].targetContainerName: Not found: \"nope\"".to_owned()),
        "{found:?}"
    );
    assert!(
        found.iter().any(|c| c.ends_with("ports: Forbidden: cannot be set for an Ephemeral Container")),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_resize_changes_cpu_and_memory_and_keeps_the_class() {
    let api = Api::new().await;
    let requests = json!({"requests": {"cpu": "100m"}});
    let containers = json!([{"name": "a", "image": "a", "resources": requests}]);
    api.post(PODS, pod("a", json!({"containers": containers}))).await.good();
    let path = format!("{}/resize", one("a"));
    let resources = |r: Value| json!({"spec": {"containers": [{"name": "a", "resources": r}]}});
    let done = api.patch("strategic-merge", &path, resources(json!({"requests": {"cpu": "200m"}}))).await.good();
    assert_eq!(done["spec"]["containers"][0]["resources"]["requests"]["cpu"], "200m");
    assert_eq!(done["metadata"]["generation"], 2);
    let all = json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}});
    let found = api.patch("strategic-merge", &path, resources(all)).await.causes();
    assert_eq!(found, ["spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing"]);
    let none = json!([{"op": "remove", "path": "/spec/containers/0/resources/requests"}]);
    let found = api.patch("json", &path, none).await.causes();
    assert!(
        found.contains(&"spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed".into())
    );
}

#[tokio::test]
async fn what_a_node_would_answer_is_checked_as_far_as_the_server_can() {
    let api = Api::new().await;
    let two = json!([{"name": "a", "image": "a"}, {"name": "b", "image": "b"}]);
    api.post(PODS, pod("two", json!({"containers": two}))).await.good();
    api.post(PODS, pod("one", json!({}))).await.good();
    let log = |name: &str, query: &str| format!("{}/log{query}", one(name));
    assert_eq!(
        api.get(&log("two", "")).await.failed(400),
        "a container name must be specified for pod two, choose one of: [a b]"
    );
    assert_eq!(api.get(&log("two", "?container=c")).await.failed(400), "container c is not valid for pod two");
    let bad = api.get(&log("one", "?tailLines=-1&sinceSeconds=0")).await;
    assert_eq!(
        bad.causes(),
        [
            "tailLines: Invalid value: -1: must be greater than or equal to 0",
            "sinceSeconds: Invalid value: 0: must be greater than 0"
        ]
    );
    let empty = api.get(&log("one", "")).await;
    assert_eq!((empty.code, empty.text()), (200, String::new()));
    let exec = api.post(&format!("{}/exec?command=ls", one("one")), Value::Null).await;
    assert_eq!(exec.failed(400), "pod one does not have a host assigned");
    assert_eq!(api.get(&format!("{}/proxy/some/path", one("one"))).await.failed(400), "address not allowed");
    api.post(&format!("{}/binding", one("one")), binding("one", "n1")).await;
    assert_eq!(api.get(&log("one", "")).await.failed(404), "nodes \"n1\" not found");
    api.post("/api/v1/nodes", json!({"metadata": {"name": "n1"}})).await.good();
    assert_eq!(api.get(&log("one", "")).await.code, 503);
    let attach = api.post(&format!("{}/attach", one("one")), Value::Null).await;
    assert_eq!(attach.failed(400), "Upgrade request required");
}

#[tokio::test]
async fn a_pod_may_name_a_driver_of_its_volume_but_no_odd_sysctl() {
    let api = Api::new().await;
    let pod = |spec: Value| {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "busybox"}]}});
        pod["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        pod
    };
    let volume =
        json!({"name": "v", "csi": {"driver": "example.com", "readOnly": true, "volumeAttributes": {"a": "b"}}});
    let made = api.post(PODS, pod(json!({"volumes": [volume]}))).await.good();
    assert_eq!(made["spec"]["volumes"][0], volume);
    let sysctls = json!([{"name": "foo-", "value": "bar"}, {"name": "kernel.shmmax", "value": "100000000"}, {"name": "bar..", "value": "42"}]);
    let found = api.post(PODS, pod(json!({"securityContext": {"sysctls": sysctls}}))).await.causes();
    assert_eq!(found.len(), 2, "{found:?}");
    for (cause, (at, name)) in found.iter().zip([(0, "foo-"), (2, "bar..")]) {
        let start = format!(
            "spec.securityContext.sysctls[{at}].name: Invalid value: \"{name}\": must have at most 253 characters"
        );
        assert!(cause.starts_with(&start), "{cause}");
    }
}
