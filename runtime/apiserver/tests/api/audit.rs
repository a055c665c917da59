//! The audit log: what the policy wants, in the form that Kubernetes writes it.
#![allow(clippy::unwrap_used, reason = "test helpers may unwrap")]

use crate::common;

use std::path::Path;
use std::time::Duration;

use common::{Api, MAPS, admin, map, read, user};
use kiln_apiserver::{AuditConfig, AuditLog};
use serde_json::{Value, json};

const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- level: None
  nonResourceURLs: ["/healthz*"]
- level: Metadata
  resources: [{group: "", resources: [secrets]}]
- level: RequestResponse
  omitManagedFields: true
  omitStages: [RequestReceived]
  verbs: [create]
- level: Metadata
"#;

async fn api(dir: &Path, policy: &str) -> Api {
    let log = AuditLog { path: dir.join("audit.log"), max_age: Duration::ZERO, max_backups: 0, max_size: 0 };
    let policy = policy.to_owned();
    Api::with(|config| config.audit = Some(AuditConfig { policy, log })).await
}

/// The events so far. The log is whole once the server is gone.
fn events(api: Api, dir: &Path) -> Vec<Value> {
    drop(api);
    let text = std::fs::read_to_string(dir.join("audit.log")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn brief(events: &[Value]) -> Vec<String> {
    let one = |e: &Value| format!("{} {} {}", e["stage"], e["verb"], e["requestURI"]).replace('"', "");
    events.iter().map(one).collect()
}

#[tokio::test]
async fn a_request_leaves_the_events_that_the_policy_wants() {
    let dir = tempfile::tempdir().unwrap();
    let api = api(dir.path(), POLICY).await;
    api.get("/healthz").await;
    api.post(MAPS, map("a")).await.good();
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"k": "hidden"}});
    api.post("/api/v1/namespaces/default/secrets", secret).await.good();
    let headers = [("user-agent", "kubectl/v1.36"), ("audit-id", "mine"), ("x-forwarded-for", "10.0.0.9")];
    let answer = api.send(user("bob"), "GET", &format!("{MAPS}/a"), &headers, Value::Null).await;
    assert_eq!(answer.headers["audit-id"], "mine");
    let events = events(api, dir.path());
    assert_eq!(
        brief(&events),
        [
            "ResponseComplete create /api/v1/namespaces/default/configmaps",
            "RequestReceived create /api/v1/namespaces/default/secrets",
            "ResponseComplete create /api/v1/namespaces/default/secrets",
            "RequestReceived get /api/v1/namespaces/default/configmaps/a",
            "ResponseComplete get /api/v1/namespaces/default/configmaps/a",
        ]
    );
    let created = &events[0];
    assert_eq!(created["kind"], "Event");
    assert_eq!(created["apiVersion"], "audit.k8s.io/v1");
    assert_eq!(created["level"], "RequestResponse");
    assert_eq!(created["user"], json!({"username": "admin", "groups": ["system:masters", "system:authenticated"]}));
    assert_eq!(
        created["objectRef"],
        json!({"resource": "configmaps", "namespace": "default", "name": "a", "apiVersion": "v1"})
    );
    assert_eq!(created["requestObject"]["data"], json!({"k": "v"}));
    assert_eq!(created["responseObject"]["metadata"]["name"], "a");
    assert_eq!(created["responseObject"]["metadata"].get("managedFields"), None);
    assert_eq!(created["responseStatus"], json!({"metadata": {}, "code": 201}));
    assert_eq!(created["requestReceivedTimestamp"], "2026-01-02T03:04:05.000000Z");
    assert_eq!(created["annotations"]["authorization.k8s.io/decision"], "allow");
    assert!(!events[2].to_string().contains("hidden") && events[2].get("requestObject").is_none());
    let refused = &events[4];
    assert_eq!(refused["auditID"], "mine");
    assert_eq!(refused["userAgent"], "kubectl/v1.36");
    assert_eq!(refused["sourceIPs"], json!(["10.0.0.9"]));
    assert_eq!(refused["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(
        (&refused["responseStatus"]["code"], &refused["responseStatus"]["reason"]),
        (&json!(403), &json!("Forbidden"))
    );
}

#[tokio::test]
async fn a_watch_is_told_as_it_begins_and_as_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let api = api(dir.path(), POLICY).await;
    drop(api.watch(&format!("{MAPS}?watch=1")).await);
    let stages: Vec<String> = events(api, dir.path()).iter().map(|e| e["stage"].as_str().unwrap().into()).collect();
    assert_eq!(stages, ["RequestReceived", "ResponseStarted", "ResponseComplete"]);
}

#[tokio::test]
async fn whoever_acts_as_another_and_whoever_is_nobody_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let api = api(
        dir.path(),
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]",
    )
    .await;
    api.send(admin(), "GET", "/version", &[("impersonate-user", "bob")], Value::Null).await;
    api.with_token("wrong", "GET", "/version", &[], Value::Null).await.failed(401);
    api.post("/api/v1/namespaces/default/serviceaccounts/default/token", json!({})).await.good();
    let events = events(api, dir.path());
    let issued = &events[2]["annotations"]["authentication.kubernetes.io/issued-credential-id"];
    assert!(issued.as_str().unwrap().starts_with("JTI="));
    assert_eq!(events[0]["user"]["username"], "admin");
    assert_eq!(events[0]["impersonatedUser"], json!({"username": "bob", "groups": ["system:authenticated"]}));
    assert_eq!(
        events[0]["annotations"]["authorization.k8s.io/reason"],
        "RBAC: allowed by ClusterRoleBinding \"system:discovery\" of ClusterRole \"system:discovery\" to Group \"system:authenticated\""
    );
    assert_eq!(events[1]["user"], json!({}));
    assert_eq!(events[1]["responseStatus"]["message"], "Authentication failed, attempted: bearer");
    assert_eq!(events[1]["responseStatus"]["code"], 401);
}

#[tokio::test]
async fn without_a_policy_there_is_an_id_and_nothing_else() {
    let api = Api::new().await;
    let answer = read(api.raw(admin(), "GET", "/version", &[], "").await).await;
    assert_eq!(answer.headers["audit-id"].len(), 36);
}
