//! What objects are given by classes and limits, and what those refuse.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

use crate::common;

use common::Api;
use kiln_apiserver::Plugin;
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
const PRIORITIES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";

fn pod(name: &str, more: &Value, resources: &Value) -> Value {
    let mut spec = json!({"containers": [{"name": "c", "image": "i", "resources": resources}]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"metadata": {"name": name}, "spec": spec})
}

fn plain(name: &str, more: &Value) -> Value {
    pod(name, more, &json!({}))
}

#[tokio::test]
async fn a_pod_has_the_priority_of_its_class() {
    let api = Api::new().await;
    let made = api.post(PODS, plain("a", &json!({}))).await.good();
    assert_eq!(
        (&made["spec"]["priority"], &made["spec"]["preemptionPolicy"]),
        (&json!(0), &json!("PreemptLowerPriority"))
    );
    let own = plain("b", &json!({"priorityClassName": "system-cluster-critical"}));
    assert_eq!(api.post(PODS, own).await.good()["spec"]["priority"], 2_000_000_000);
    let text = api.post(PODS, plain("c", &json!({"priorityClassName": "none"}))).await.failed(403);
    assert_eq!(text, "pods \"c\" is forbidden: no PriorityClass with name none was found");
    let text = api.post(PODS, plain("c", &json!({"priority": 5}))).await.failed(403);
    assert_eq!(
        text,
        "pods \"c\" is forbidden: the integer value of priority (5) must not be provided in pod spec; priority admission \
         controller computed 0 from the given PriorityClass name"
    );
    let class = |name: &str| json!({"metadata": {"name": name}, "value": 7, "globalDefault": true, "preemptionPolicy": "Never"});
    api.post(PRIORITIES, class("usual")).await.good();
    let made = api.post(PODS, plain("d", &json!({}))).await.good();
    assert_eq!(
        (&made["spec"]["priorityClassName"], &made["spec"]["priority"], &made["spec"]["preemptionPolicy"]),
        (&json!("usual"), &json!(7), &json!("Never"))
    );
    let text = api.post(PRIORITIES, class("other")).await.failed(403);
    let why = "PriorityClass usual is already marked as default. Only one default can exist";
    assert_eq!(text, format!("priorityclasses.scheduling.k8s.io \"other\" is forbidden: {why}"));
}

#[tokio::test]
async fn a_pod_bears_a_silent_node_for_five_minutes_unless_it_says_otherwise() {
    let api = Api::new().await;
    let made = api.post(PODS, plain("a", &json!({}))).await.good();
    let keys = |p: &Value| -> Vec<String> {
        p["spec"]["tolerations"]
            .as_array()
            .unwrap()
            .iter()
            .map(|t| t["key"].as_str().unwrap_or("*").to_owned())
            .collect()
    };
    assert_eq!(keys(&made), ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]);
    assert_eq!(made["spec"]["tolerations"][0]["tolerationSeconds"], 300);
    let all = json!({"tolerations": [{"operator": "Exists"}]});
    assert_eq!(keys(&api.post(PODS, plain("b", &all)).await.good()), ["*"]);
    let mut other = made;
    other["spec"]["tolerations"] = json!([{"key": "dedicated", "operator": "Exists"}]);
    let changed = api.put(&format!("{PODS}/a"), other).await.good();
    let expected = ["dedicated", "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
    assert_eq!(keys(&changed), expected, "an update does not take its patience away");
}

#[tokio::test]
async fn a_pod_bears_the_taints_of_the_devices_it_asks_for_where_that_is_switched_on() {
    let asks = json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1", "example.com/b": "1", "example.com/a": "2"}});
    let native = json!({"limits": {"cpu": "1", "hugepages-2Mi": "2Mi"}});
    let known = json!({"key": "example.com/a", "operator": "Exists", "effect": "NoSchedule"});
    let other = json!({"key": "example.com/a", "operator": "Exists", "effect": "NoExecute"});
    let hurried = json!({"key": "example.com/a", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 5});
    for (on, resources, brought, wanted) in [
        (false, &asks, json!([]), vec![]),
        (true, &native, json!([]), vec![]),
        (true, &asks, json!([]), vec!["example.com/a", "example.com/b"]),
        (true, &asks, json!([known]), vec!["example.com/a", "example.com/b"]),
        (true, &asks, json!([hurried]), vec!["example.com/a", "example.com/b"]),
        (true, &asks, json!([other]), vec!["example.com/a", "example.com/b"]),
    ] {
        let api = Api::with(|c| c.plugins.set(Plugin::ExtendedResourceToleration, on)).await;
        let keys = |pod: &Value| -> Vec<String> {
            let list = pod["spec"]["tolerations"].as_array().unwrap().iter();
            let ours = list.filter(|t| t["effect"] == "NoSchedule" && t["operator"] == "Exists");
            ours.map(|t| t["key"].as_str().unwrap().to_owned()).collect()
        };
        let more = json!({"tolerations": brought});
        let mut made = api.post(PODS, pod("p", &more, resources)).await.good();
        assert_eq!(keys(&made), wanted, "{on} {more}");
        let early = json!([{"name": "i", "image": "i", "resources": resources}]);
        let body = json!({"metadata": {"name": "q"}, "spec": {"initContainers": early, "containers": [{"name": "c", "image": "i"}], "tolerations": brought}});
        assert_eq!(keys(&api.post(PODS, body).await.good()), wanted, "{on} {more}");
        // A change says as much as a create, and never twice.
        made["metadata"]["labels"] = json!({"l": "x"});
        assert_eq!(keys(&api.put(&format!("{PODS}/p"), made).await.good()), wanted, "{on} {more}");
    }
}

#[tokio::test]
async fn a_pod_of_a_runtime_class_has_its_overhead_and_goes_where_it_runs() {
    let api = Api::new().await;
    let class = json!({"metadata": {"name": "vm"}, "handler": "kata", "overhead": {"podFixed": {"cpu": "250m"}},
        "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}]}});
    api.post("/apis/node.k8s.io/v1/runtimeclasses", class).await.good();
    let made = api.post(PODS, plain("a", &json!({"runtimeClassName": "vm"}))).await.good();
    assert_eq!(
        (&made["spec"]["overhead"], &made["spec"]["nodeSelector"]),
        (&json!({"cpu": "250m"}), &json!({"vm": "yes"}))
    );
    assert!(made["spec"]["tolerations"].as_array().unwrap().iter().any(|t| t["key"] == "vm"));
    let text = api.post(PODS, plain("b", &json!({"runtimeClassName": "no"}))).await.failed(403);
    assert_eq!(text, "pods \"b\" is forbidden: pod rejected: RuntimeClass \"no\" not found");
    let other = json!({"runtimeClassName": "vm", "nodeSelector": {"vm": "no"}});
    let text = api.post(PODS, plain("b", &other)).await.failed(403);
    assert!(
        text.ends_with("conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no"),
        "{text}"
    );
    let text = api.post(PODS, plain("b", &json!({"overhead": {"cpu": "1"}}))).await.failed(403);
    assert!(
        text.ends_with("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"),
        "{text}"
    );
}

#[tokio::test]
async fn a_namespaces_limits_fill_in_and_refuse() {
    let api = Api::new().await;
    let limit = json!({"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"},
        "min": {"cpu": "50m"}, "max": {"cpu": "1"}});
    let claims = json!({"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}});
    let range = json!({"metadata": {"name": "l"}, "spec": {"limits": [limit, claims]}});
    api.post("/api/v1/namespaces/default/limitranges", range).await.good();
    let made = api.post(PODS, plain("a", &json!({}))).await.good();
    assert_eq!(
        made["spec"]["containers"][0]["resources"],
        json!({"limits": {"cpu": "500m"}, "requests": {"cpu": "100m"}})
    );
    assert_eq!(
        made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    );
    assert_eq!(made["status"]["qosClass"], "Burstable");
    let big = pod("b", &json!({}), &json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "2"}}));
    let text = api.post(PODS, big).await.failed(403);
    assert_eq!(text, "pods \"b\" is forbidden: maximum cpu usage per Container is 1, but limit is 2");
    let small = pod("b", &json!({}), &json!({"requests": {"cpu": "10m"}}));
    let text = api.post(PODS, small).await.failed(403);
    assert_eq!(text, "pods \"b\" is forbidden: minimum cpu usage per Container is 50m, but request is 10m");
    let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}}});
    let text = api.post(CLAIMS, claim).await.failed(403);
    let why = "maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi";
    assert_eq!(text, format!("persistentvolumeclaims \"c\" is forbidden: {why}"));
}

#[tokio::test]
async fn claims_and_ingresses_get_the_newest_default_class() {
    let api = Api::new().await;
    let class = |name: &str, annotation: &str, more: Value| {
        let mut body = json!({"metadata": {"name": name, "annotations": {annotation: "true"}}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let classes = "/apis/storage.k8s.io/v1/storageclasses";
    let mark = "storageclass.kubernetes.io/is-default-class";
    api.post(classes, class("old", mark, json!({"provisioner": "p"}))).await.good();
    api.advance(1);
    api.post(classes, class("new", mark, json!({"provisioner": "p"}))).await.good();
    let claim = |name: &str, class: Value| {
        let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": class});
        json!({"metadata": {"name": name}, "spec": spec})
    };
    assert_eq!(api.post(CLAIMS, claim("a", Value::Null)).await.good()["spec"]["storageClassName"], "new");
    assert_eq!(api.post(CLAIMS, claim("b", json!(""))).await.good()["spec"]["storageClassName"], "");
    let mark = "ingressclass.kubernetes.io/is-default-class";
    let networking = "/apis/networking.k8s.io/v1";
    let body = class("web", mark, json!({"spec": {"controller": "example.org/c"}}));
    api.post(&format!("{networking}/ingressclasses"), body).await.good();
    let backend = json!({"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}});
    let ingress = json!({"metadata": {"name": "i"}, "spec": backend});
    let made = api.post(&format!("{networking}/namespaces/default/ingresses"), ingress).await.good();
    assert_eq!(made["spec"]["ingressClassName"], "web");
}

#[tokio::test]
async fn a_new_node_takes_no_pods_until_it_is_ready() {
    let api = Api::new().await;
    let made = api.post("/api/v1/nodes", json!({"metadata": {"name": "n"}})).await.good();
    assert_eq!(made["spec"]["taints"], json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]));
}
