//! Quotas: what they count, what they refuse, what they give back.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

use crate::common;

use common::{Api, MAPS};
use serde_json::{Value, json};

const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";

async fn quota(api: &Api, spec: Value) -> Value {
    api.post(QUOTAS, json!({"metadata": {"name": "q"}, "spec": spec})).await.good();
    status(api).await
}

async fn status(api: &Api) -> Value {
    api.get(&format!("{QUOTAS}/q")).await.good()["status"].clone()
}

fn pod(name: &str, resources: &Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]}})
}

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

#[tokio::test]
async fn a_quota_counts_what_is_there_and_what_comes_and_goes() {
    let api = Api::new().await;
    api.post(MAPS, map("a")).await.good();
    let hard = json!({"configmaps": "2", "count/configmaps": "2", "services": "5"});
    let counted = quota(&api, json!({"hard": hard})).await;
    // The API's own Service is one of them.
    assert_eq!(counted, json!({"hard": hard, "used": {"configmaps": "1", "count/configmaps": "1", "services": "1"}}));
    api.post(MAPS, map("b")).await.good();
    assert_eq!(
        api.post(MAPS, map("c")).await.failed(403),
        "configmaps \"c\" is forbidden: exceeded quota: q, requested: configmaps=1,count/configmaps=1, used: \
         configmaps=2,count/configmaps=2, limited: configmaps=2,count/configmaps=2"
    );
    api.delete(&format!("{MAPS}/a")).await.good();
    assert_eq!(status(&api).await["used"]["configmaps"], "1");
    // What is refused for another reason takes nothing.
    api.post(MAPS, map("b")).await.failed(409);
    assert_eq!(status(&api).await["used"]["configmaps"], "1");
    api.post(MAPS, map("c")).await.good();
}

#[tokio::test]
async fn many_at_once_get_no_more_than_there_is() {
    let api = Api::new().await;
    quota(&api, json!({"hard": {"count/configmaps": "50"}})).await;
    let names: Vec<String> = (0..200).map(|i| format!("m{i}")).collect();
    let made = futures_util::future::join_all(names.iter().map(|n| api.post(MAPS, map(n)))).await;
    let good = made.iter().filter(|a| a.code == 201).count();
    assert!(good <= 50 && made.iter().all(|a| [201, 403, 409].contains(&a.code)), "{good}");
    assert_eq!(status(&api).await["used"]["count/configmaps"], good.to_string());
}

#[tokio::test]
async fn pods_say_what_they_need_and_ended_ones_need_nothing() {
    let api = Api::new().await;
    quota(&api, json!({"hard": {"pods": "5", "requests.cpu": "1", "limits.memory": "1Gi"}})).await;
    assert_eq!(
        api.post(PODS, pod("a", &json!({}))).await.failed(403),
        "pods \"a\" is forbidden: failed quota: q: must specify limits.memory for: c; requests.cpu for: c"
    );
    let resources = json!({"requests": {"cpu": "600m"}, "limits": {"memory": "100Mi"}});
    api.post(PODS, pod("a", &resources)).await.good();
    assert_eq!(
        api.post(PODS, pod("b", &resources)).await.failed(403),
        "pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=600m, limited: \
         requests.cpu=1"
    );
    let used = json!({"pods": "1", "requests.cpu": "600m", "limits.memory": "100Mi"});
    assert_eq!(status(&api).await["used"], used);
    api.patch("merge", &format!("{PODS}/a/status"), json!({"status": {"phase": "Succeeded"}})).await.good();
    assert_eq!(status(&api).await["used"], json!({"pods": "0", "requests.cpu": "0", "limits.memory": "0"}));
    api.post(PODS, pod("b", &resources)).await.good();
}

#[tokio::test]
async fn scopes_say_which_pods_are_meant() {
    let api = Api::new().await;
    quota(&api, json!({"hard": {"pods": "1"}, "scopes": ["BestEffort"]})).await;
    let resources = json!({"requests": {"cpu": "1m"}});
    api.post(PODS, pod("a", &resources)).await.good();
    api.post(PODS, pod("b", &json!({}))).await.good();
    assert_eq!(status(&api).await["used"]["pods"], "1");
    api.post(PODS, pod("c", &json!({}))).await.failed(403);
    api.post(PODS, pod("d", &resources)).await.good();
}

#[tokio::test]
async fn a_pod_with_an_eye_on_other_namespaces_falls_under_their_scope() {
    let term = |more: Value| {
        let mut term = json!({"topologyKey": "zone"});
        term.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        term
    };
    let required = |more| json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term(more)]}});
    let weighted = |more| json!([{"weight": 1, "podAffinityTerm": term(more)}]);
    let preferred = |more| json!({"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": weighted(more)}});
    for (affinity, used) in [
        (required(json!({})), "0"),
        (required(json!({"namespaces": ["a"]})), "1"),
        (required(json!({"namespaceSelector": {}})), "1"),
        (preferred(json!({})), "0"),
        (preferred(json!({"namespaces": ["a"]})), "1"),
    ] {
        let api = Api::new().await;
        let selects = json!([{"scopeName": "CrossNamespacePodAffinity", "operator": "Exists"}]);
        quota(&api, json!({"hard": {"pods": "5"}, "scopeSelector": {"matchExpressions": selects}})).await;
        let mut looking = pod("a", &json!({}));
        looking["spec"]["affinity"] = affinity.clone();
        api.post(PODS, looking).await.good();
        assert_eq!(status(&api).await["used"]["pods"], used, "{affinity}");
    }
}

#[tokio::test]
async fn a_claim_falls_under_the_class_of_attributes_that_its_volume_still_has() {
    const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
    let api = Api::new().await;
    let selects = json!([{"scopeName": "VolumeAttributesClass", "operator": "In", "values": ["gold"]}]);
    let hard = json!({"persistentvolumeclaims": "1"});
    quota(&api, json!({"hard": hard, "scopeSelector": {"matchExpressions": selects}})).await;
    let resources = json!({"requests": {"storage": "1Gi"}});
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": resources, "volumeAttributesClassName": "silver"});
    api.post(CLAIMS, json!({"metadata": {"name": "a"}, "spec": spec})).await.good();
    assert_eq!(status(&api).await["used"]["persistentvolumeclaims"], "0");
    for (class, used) in [("gold", "1"), ("silver", "0")] {
        let now = json!({"status": {"currentVolumeAttributesClassName": class}});
        api.patch("merge", &format!("{CLAIMS}/a/status"), now).await.good();
        assert_eq!(status(&api).await["used"]["persistentvolumeclaims"], used, "{class}");
    }
}

#[tokio::test]
async fn a_pod_that_gets_a_deadline_leaves_the_quota_of_those_without() {
    let api = Api::new().await;
    quota(&api, json!({"hard": {"pods": "1"}, "scopes": ["NotTerminating"]})).await;
    api.post(PODS, pod("a", &json!({}))).await.good();
    assert_eq!(status(&api).await["used"]["pods"], "1");
    api.patch("merge", &format!("{PODS}/a"), json!({"spec": {"activeDeadlineSeconds": 60}})).await.good();
    assert_eq!(status(&api).await["used"]["pods"], "0");
}

#[tokio::test]
async fn a_service_that_changes_its_type_changes_what_is_used() {
    let api = Api::new().await;
    quota(&api, json!({"hard": {"services.nodeports": "1", "services.loadbalancers": "1"}})).await;
    let service =
        |name: &str, kind: &str| json!({"metadata": {"name": name}, "spec": {"type": kind, "ports": [{"port": 80}]}});
    api.post(SERVICES, service("a", "NodePort")).await.good();
    assert_eq!(status(&api).await["used"], json!({"services.nodeports": "1", "services.loadbalancers": "0"}));
    let text = api.post(SERVICES, service("b", "NodePort")).await.failed(403);
    assert!(text.contains("exceeded quota: q, requested: services.nodeports=1"), "{text}");
    // What the refused one was given is free again.
    let taken = api.get("/apis/networking.k8s.io/v1/ipaddresses").await.good();
    assert_eq!(taken["items"].as_array().unwrap().len(), 2);
    api.patch("merge", &format!("{SERVICES}/a"), json!({"spec": {"type": "ClusterIP"}})).await.good();
    assert_eq!(status(&api).await["used"]["services.nodeports"], "0");
    api.post(SERVICES, service("b", "NodePort")).await.good();
}

#[tokio::test]
async fn a_quota_that_changes_is_counted_at_once() {
    let api = Api::new().await;
    quota(&api, json!({"hard": {"configmaps": "2"}})).await;
    api.post(MAPS, map("a")).await.good();
    let change = json!({"spec": {"hard": {"configmaps": "3", "secrets": "1"}}});
    api.patch("merge", &format!("{QUOTAS}/q"), change).await.good();
    let wanted = json!({"hard": {"configmaps": "3", "secrets": "1"}, "used": {"configmaps": "1", "secrets": "0"}});
    assert_eq!(status(&api).await, wanted);
    // What somebody else says of it is answered, and put right.
    let wrong = json!({"status": {"hard": {"configmaps": "9"}}});
    let told = api.patch("merge", &format!("{QUOTAS}/q/status"), wrong).await.good();
    assert_eq!(told["status"]["hard"]["configmaps"], "9");
    assert_eq!(status(&api).await, wanted);
}
