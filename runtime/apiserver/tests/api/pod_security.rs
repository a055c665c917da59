//! The Pod Security Standards by a namespace's labels.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

use std::time::Duration;

use crate::common;

use common::Api;
use kiln_apiserver::{AuditConfig, AuditLog, PodSecurityConfig, UserInfo};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/safe/pods";
const SHARES: &str = "host namespaces (hostNetwork=true)";

fn namespace(labels: &Value) -> Value {
    let labels = labels.as_object().unwrap().iter();
    let labels: serde_json::Map<String, Value> =
        labels.map(|(name, value)| (format!("pod-security.kubernetes.io/{name}"), value.clone())).collect();
    json!({"metadata": {"name": "safe", "labels": labels}})
}

/// Makes the namespace, with the account that its pods run as.
async fn make(api: &Api, labels: &Value) {
    api.post("/api/v1/namespaces", namespace(labels)).await.good();
    api.post("/api/v1/namespaces/safe/serviceaccounts", json!({"metadata": {"name": "default"}})).await.good();
}

fn pod(name: &str, is_shared: bool) -> Value {
    json!({"metadata": {"name": name}, "spec": {"hostNetwork": is_shared, "containers": [{"name": "c", "image": "i"}]}})
}

#[tokio::test]
async fn a_pod_that_the_level_does_not_allow_is_refused_and_one_that_makes_such_pods_is_warned() {
    let api = Api::new().await;
    make(&api, &json!({"enforce": "baseline", "enforce-version": "v1.36"})).await;
    let refused = api.post(PODS, pod("a", true)).await;
    assert_eq!(
        refused.failed(403),
        format!("pods \"a\" is forbidden: violates PodSecurity \"baseline:v1.36\": {SHARES}")
    );
    assert!(refused.warnings().is_empty(), "what is refused is not warned of as well");
    api.post(PODS, pod("b", false)).await.good();
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": pod("", true)["spec"]});
    let spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": template});
    let path = "/apis/apps/v1/namespaces/safe/deployments";
    let made = api.post(path, json!({"metadata": {"name": "d"}, "spec": spec})).await;
    made.good();
    assert_eq!(made.warnings(), [format!("would violate PodSecurity \"baseline:v1.36\": {SHARES}")]);
}

#[tokio::test]
async fn a_pod_that_was_there_before_may_change_in_all_but_its_images_and_debuggers() {
    let api = Api::new().await;
    make(&api, &json!({})).await;
    api.post(PODS, pod("a", true)).await.good();
    let told = api.patch("merge", "/api/v1/namespaces/safe", namespace(&json!({"enforce": "restricted"}))).await;
    told.good();
    assert_eq!(
        told.warnings(),
        [
            "existing pods in namespace \"safe\" violate the new PodSecurity enforce level \"restricted:latest\"",
            "a: host namespaces, allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile",
        ]
    );
    let path = format!("{PODS}/a");
    api.patch("merge", &path, json!({"metadata": {"labels": {"x": "y"}}})).await.good();
    let image = json!({"spec": {"containers": [{"name": "c", "image": "other"}]}});
    api.patch("strategic-merge", &path, image).await.failed(403);
    let debugger = json!({"spec": {"ephemeralContainers": [{"name": "e", "image": "i"}]}});
    let refused = api.patch("strategic-merge", &format!("{path}/ephemeralcontainers"), debugger).await.failed(403);
    assert!(
        refused.contains("containers \"c\", \"e\" must set securityContext.allowPrivilegeEscalation=false"),
        "{refused}"
    );
    let status = json!({"status": {"phase": "Running"}});
    api.patch("merge", &format!("{path}/status"), status).await.good();
}

#[tokio::test]
async fn labels_that_cannot_be_read_are_refused_unless_they_were_there_before() {
    let api = Api::new().await;
    let refused =
        api.post("/api/v1/namespaces", namespace(&json!({"enforce": "strict", "warn-version": "1.30"}))).await;
    assert_eq!(
        refused.failed(422),
        "Namespace \"safe\" is invalid: [metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": \
         must be one of privileged, baseline, restricted, metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid \
         value: \"1.30\": must be \"latest\" or \"v1.x\"]"
    );
    api.post("/api/v1/namespaces", namespace(&json!({"enforce": "baseline"}))).await.good();
    let path = "/api/v1/namespaces/safe";
    api.patch("merge", path, namespace(&json!({"audit": "none"}))).await.failed(422);
    api.patch("merge", path, json!({"metadata": {"labels": {"other": "label"}}})).await.good();
}

#[tokio::test]
async fn the_audit_log_has_what_would_not_be_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let log = AuditLog { path: path.clone(), max_age: Duration::ZERO, max_backups: 0, max_size: 0 };
    let policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]";
    let api = Api::with(|config| config.audit = Some(AuditConfig { policy: policy.to_owned(), log })).await;
    make(&api, &json!({"audit": "baseline"})).await;
    let made = api.post(PODS, pod("a", true)).await;
    made.good();
    assert!(made.warnings().is_empty());
    // The log is whole once the server is gone.
    drop(api);
    let text = std::fs::read_to_string(path).unwrap();
    let event: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let noted = |name: &str| event["annotations"][format!("pod-security.kubernetes.io/{name}")].as_str().unwrap();
    assert_eq!(noted("enforce-policy"), "privileged:latest");
    assert_eq!(noted("audit-violations"), format!("would violate PodSecurity \"baseline:latest\": {SHARES}"));
}

#[tokio::test]
async fn an_administrators_file_says_what_holds_without_labels_and_who_is_exempt() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admission.yaml");
    std::fs::write(
        &path,
        "{apiVersion: apiserver.config.k8s.io/v1, kind: AdmissionConfiguration, plugins: [{name: PodSecurity, \
         configuration: {apiVersion: pod-security.admission.config.k8s.io/v1, kind: PodSecurityConfiguration, \
         defaults: {enforce: baseline, enforce-version: v1.30}, \
         exemptions: {usernames: [trusted], runtimeClasses: [vm], namespaces: [default]}}}]}",
    )
    .unwrap();
    let api = Api::with(|config| config.pod_security = PodSecurityConfig::read(&path).unwrap()).await;
    make(&api, &json!({})).await;
    let refused = api.post(PODS, pod("a", true)).await.failed(403);
    assert_eq!(refused, format!("pods \"a\" is forbidden: violates PodSecurity \"baseline:v1.30\": {SHARES}"));
    api.post(PODS, pod("b", false)).await.good();
    // The namespace, who asks, and what runs the pod.
    api.post("/api/v1/namespaces/default/pods", pod("c", true)).await.good();
    let trusted = UserInfo::new("trusted", &["system:masters"]);
    api.send(trusted, "POST", PODS, &[], pod("d", true)).await.good();
    let class = json!({"metadata": {"name": "vm"}, "handler": "vm"});
    api.post("/apis/node.k8s.io/v1/runtimeclasses", class).await.good();
    let mut isolated = pod("e", true);
    isolated["spec"]["runtimeClassName"] = json!("vm");
    api.post(PODS, isolated).await.good();
    let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let told = api.patch("merge", "/api/v1/namespaces/default", label).await;
    told.good();
    assert_eq!(
        told.warnings(),
        [
            "namespace \"default\" is exempt from Pod Security, and the policy (enforce=restricted:v1.30) will be ignored"
        ]
    );
    let metrics = api.get("/metrics").await.text();
    for line in [
        "pod_security_evaluations_total{decision=\"deny\",mode=\"enforce\",policy_level=\"baseline\",\
         policy_version=\"v1.30\",request_operation=\"create\",resource=\"pod\",subresource=\"\"} 1",
        "pod_security_evaluations_total{decision=\"allow\",mode=\"enforce\",policy_level=\"baseline\",\
         policy_version=\"v1.30\",request_operation=\"create\",resource=\"pod\",subresource=\"\"} 1",
        "pod_security_exemptions_total{request_operation=\"create\",resource=\"pod\",subresource=\"\"} 3",
    ] {
        assert!(metrics.contains(line), "{line}");
    }
}
