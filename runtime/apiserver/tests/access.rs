//! Who may do what.

mod common;

use common::{Api, MAPS, admin, map, node, user};
use kiln_apiserver::UserInfo;
use serde_json::{Value, json};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

async fn bind(api: &Api, name: &str, role: &str, user: &str) {
    let subject = json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user});
    let body =
        json!({"metadata": {"name": name}, "roleRef": {"kind": "ClusterRole", "name": role}, "subjects": [subject]});
    api.post(&format!("{RBAC}/namespaces/default/rolebindings"), body).await.good();
}

#[tokio::test]
async fn a_refusal_says_who_may_not_do_what_where() {
    let api = Api::new().await;
    let get = async |path: &str| api.send(user("bob"), "GET", path, &[], Value::Null).await.failed(403);
    assert_eq!(
        get(MAPS).await,
        "configmaps is forbidden: User \"bob\" cannot list resource \"configmaps\" in API group \"\" in the namespace \"default\""
    );
    assert_eq!(
        get("/api/v1/nodes/n").await,
        "nodes \"n\" is forbidden: User \"bob\" cannot get resource \"nodes\" in API group \"\" at the cluster scope"
    );
    assert_eq!(
        get("/apis/apps/v1/namespaces/x/deployments/d/status").await,
        "deployments.apps \"d\" is forbidden: User \"bob\" cannot get resource \"deployments/status\" in API group \"apps\" in the namespace \"x\""
    );
    assert_eq!(get("/metrics").await, "forbidden: User \"bob\" cannot get path \"/metrics\"");
}

#[tokio::test]
async fn a_grant_holds_from_the_moment_its_write_was_answered_and_no_longer_than_it_is_there() {
    let api = Api::new().await;
    let list = async || api.send(user("bob"), "GET", MAPS, &[], Value::Null).await.code;
    assert_eq!(list().await, 403);
    bind(&api, "b", "view", "bob").await;
    assert_eq!(list().await, 200);
    assert_eq!(api.send(user("bob"), "POST", MAPS, &[], map("a")).await.code, 403);
    assert_eq!(api.send(user("bob"), "GET", "/api/v1/configmaps", &[], Value::Null).await.code, 403);
    api.delete(&format!("{RBAC}/namespaces/default/rolebindings/b")).await.good();
    assert_eq!(list().await, 403);
}

#[tokio::test]
async fn nobody_grants_what_they_have_not() {
    let api = Api::new().await;
    bind(&api, "b", "admin", "bob").await;
    let roles = format!("{RBAC}/namespaces/default/roles");
    let post = async |verbs: Value, groups: Value, resources: Value| {
        let role = json!({"metadata": {"name": "r"}, "rules": [{"verbs": verbs, "apiGroups": groups, "resources": resources}]});
        api.send(user("bob"), "POST", &format!("{roles}?dryRun=All"), &[], role).await
    };
    assert_eq!(post(json!(["get", "list"]), json!([""]), json!(["configmaps"])).await.code, 201);
    let text = post(json!(["get"]), json!([""]), json!(["nodes"])).await.failed(403);
    assert!(text.contains("is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\"]}"), "{text}");
    let binding =
        json!({"metadata": {"name": "x"}, "roleRef": {"kind": "ClusterRole", "name": "cluster-admin"}, "subjects": []});
    api.send(user("bob"), "POST", &format!("{RBAC}/namespaces/default/rolebindings"), &[], binding).await.failed(403);
}

#[tokio::test]
async fn strangers_see_health_version_and_the_ca_only() {
    let api = Api::new().await;
    let get = async |path: &str| api.send(UserInfo::anonymous(), "GET", path, &[], Value::Null).await;
    for path in ["/healthz", "/livez", "/readyz", "/readyz?verbose", "/version", "/cacerts"] {
        assert_eq!(get(path).await.code, 200, "{path}");
    }
    assert_eq!(get("/cacerts").await.text(), "PEM");
    assert_eq!(get("/").await.failed(403), "forbidden: User \"system:anonymous\" cannot get path \"/\"");
    get(MAPS).await.failed(403);
    assert_eq!(api.with_token("wrong", "GET", "/version", &[], Value::Null).await.failed(401), "Unauthorized");
}

#[tokio::test]
async fn a_node_writes_itself_and_its_own_lease_only() {
    let api = Api::new().await;
    let nodes = "/api/v1/nodes";
    for name in ["a", "b"] {
        api.send(node(name), "POST", nodes, &[], json!({"metadata": {"name": name}})).await.good();
    }
    let other = api.send(node("a"), "POST", nodes, &[], json!({"metadata": {"name": "c"}})).await.failed(403);
    assert_eq!(other, "nodes \"c\" is forbidden: node \"a\" is not allowed to modify node \"c\"");
    let patch = async |path: &str, body: Value| {
        api.send(node("a"), "PATCH", path, &[("content-type", "application/merge-patch+json")], body).await
    };
    patch("/api/v1/nodes/a/status", json!({"status": {"phase": "Running"}})).await.good();
    patch("/api/v1/nodes/b/status", json!({"status": {}})).await.failed(403);
    patch("/api/v1/nodes/a", json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}})).await.failed(403);
    let label = json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}});
    assert!(patch("/api/v1/nodes/a", label).await.failed(403).contains("is not allowed to modify labels"));
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    api.send(node("a"), "POST", leases, &[], json!({"metadata": {"name": "a"}})).await.good();
    api.send(node("a"), "POST", leases, &[], json!({"metadata": {"name": "b"}})).await.failed(403);
    api.send(node("a"), "GET", &format!("{leases}/b"), &[], Value::Null).await.failed(403);
    api.send(node("a"), "GET", "/api/v1/namespaces/kube-system/secrets", &[], Value::Null).await.failed(403);
}

#[tokio::test]
async fn reviews_answer_what_authorization_would() {
    let api = Api::new().await;
    bind(&api, "b", "view", "bob").await;
    let ask = async |verb: &str| {
        let attributes = json!({"verb": verb, "resource": "pods", "namespace": "default"});
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        api.send(user("bob"), "POST", path, &[], json!({"spec": {"resourceAttributes": attributes}})).await.good()["status"]["allowed"].clone()
    };
    assert_eq!((ask("list").await, ask("delete").await), (json!(true), json!(false)));
    let me =
        api.send(user("bob"), "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", &[], json!({})).await.good();
    assert_eq!(me["status"]["userInfo"], json!({"username": "bob", "groups": ["system:authenticated"]}));
}

#[tokio::test]
async fn acting_as_another_needs_the_right_to_and_gives_only_their_rights() {
    let api = Api::new().await;
    let headers = [("impersonate-user", "bob")];
    let as_bob = api.send(admin(), "GET", MAPS, &headers, Value::Null).await.failed(403);
    assert!(as_bob.contains("User \"bob\" cannot list"));
    let text = api
        .send(
            user("eve"),
            "GET",
            "/version",
            &[("impersonate-user", "admin"), ("impersonate-group", "system:masters")],
            Value::Null,
        )
        .await
        .failed(403);
    assert_eq!(
        text,
        "users \"admin\" is forbidden: User \"eve\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope"
    );
}
