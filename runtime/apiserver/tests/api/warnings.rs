//! What is allowed and seldom meant is told in headers.
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap")]

use crate::common;

use common::{Answer, Api};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";

/// What is warned of though it is done.
fn warnings(answer: &Answer) -> Vec<String> {
    answer.good();
    answer.warnings()
}

fn spec() -> Value {
    json!({
        "nodeSelector": {"beta.kubernetes.io/os": "linux"},
        "imagePullSecrets": [{"name": "a"}, {"name": "a"}],
        "containers": [{
            "name": "a",
            "image": "b",
            "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}, {"name": "A", "value": "$(A)3"}],
            "resources": {"requests": {"memory": "100m"}},
        }],
    })
}

fn of_spec(path: &str) -> Vec<String> {
    vec![
        format!(
            "{path}spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead"
        ),
        format!("{path}spec.imagePullSecrets[1].name: duplicate name \"a\""),
        format!(
            "{path}spec.containers[0].resources.requests[memory]: fractional byte value \"100m\" is invalid, must be an integer"
        ),
        format!(
            "{path}spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply"
        ),
    ]
}

#[tokio::test]
async fn odd_pods_and_templates_are_told_of_when_they_are_made_and_templates_when_they_change() {
    let api = Api::new().await;
    let made = api.post(PODS, json!({"metadata": {"name": "a.b"}, "spec": spec()})).await;
    let told = warnings(&made);
    assert!(told[0].starts_with("metadata.name: this is used in the Pod's hostname, which can result"), "{told:?}");
    assert_eq!(told[1..], of_spec(""));
    let label = json!({"metadata": {"labels": {"more": "b"}}});
    assert!(warnings(&api.patch("merge", &format!("{PODS}/a.b"), label.clone()).await).is_empty());

    let path = "/apis/apps/v1/namespaces/default/deployments";
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": spec()});
    let body =
        json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    assert_eq!(warnings(&api.post(path, body).await), of_spec("spec.template."));
    let one = format!("{path}/d");
    assert!(warnings(&api.patch("merge", &one, label).await).is_empty());
    let more = api.patch("merge", &one, json!({"spec": {"replicas": 2}})).await;
    assert_eq!(warnings(&more), of_spec("spec.template."));
}

#[tokio::test]
async fn what_is_deprecated_is_told_whatever_is_done_with_it() {
    let api = Api::new().await;
    let endpoints = api.get("/api/v1/namespaces/default/endpoints").await;
    assert_eq!(warnings(&endpoints), ["v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"]);
    let spec = json!({"externalIPs": ["1.2.3.4"], "ports": [{"port": 80}]});
    let service =
        api.post("/api/v1/namespaces/default/services", json!({"metadata": {"name": "s"}, "spec": spec})).await;
    assert_eq!(
        warnings(&service),
        ["spec.externalIPs is deprecated and may no longer be implemented in some clusters"]
    );
    let secret =
        json!({"metadata": {"name": "t"}, "type": "kubernetes.io/tls", "stringData": {"tls.crt": "a", "tls.key": "b"}});
    let secret = api.post("/api/v1/namespaces/default/secrets", secret).await;
    assert_eq!(warnings(&secret), ["tls: failed to find any PEM data in certificate input"]);
}

#[tokio::test]
async fn the_class_of_a_pod_follows_from_what_a_limit_range_gives_it() {
    let api = Api::new().await;
    let limits = json!([{"type": "Container", "default": {"cpu": "1", "memory": "1Gi"}}]);
    let range = json!({"metadata": {"name": "l"}, "spec": {"limits": limits}});
    api.post("/api/v1/namespaces/default/limitranges", range).await.good();
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "b"}]}});
    assert_eq!(api.post(PODS, pod).await.good()["status"]["qosClass"], "Guaranteed");
}
