//! Who may do what.

use crate::common;

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
    let eve = async |headers: &[(&str, &str)]| api.send(user("eve"), "GET", MAPS, headers, Value::Null).await;
    assert_eq!(
        eve(&[("impersonate-user", "admin"), ("impersonate-group", "g")]).await.failed(403),
        "configmaps is forbidden: User \"eve\" cannot impersonate-on:user-info:list resource \"configmaps\" in API group \"\" in the namespace \"default\""
    );
    assert_eq!(
        eve(&[("impersonate-group", "g")]).await.failed(400),
        "requested &user.DefaultInfo{Name:\"\", UID:\"\", Groups:[]string{\"g\"}, Extra:map[string][]string(nil)} without impersonating a user name"
    );
}

async fn grant(api: &Api, user: &str, rules: Value) {
    let name = format!("of-{user}-{}", rules.to_string().len());
    api.post(&format!("{RBAC}/clusterroles"), json!({"metadata": {"name": name}, "rules": rules})).await.good();
    let subject = json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user});
    let body =
        json!({"metadata": {"name": name}, "roleRef": {"kind": "ClusterRole", "name": name}, "subjects": [subject]});
    api.post(&format!("{RBAC}/clusterrolebindings"), body).await.good();
}

const ME: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

#[tokio::test]
async fn every_name_that_is_taken_needs_its_right() {
    let api = Api::new().await;
    let rule = |group: &str, resource: &str, names: Value| json!({"verbs": ["impersonate"], "apiGroups": [group], "resources": [resource], "resourceNames": names});
    let rules = json!([
        rule("", "users", json!(["bob"])),
        rule("", "groups", json!(["ops"])),
        rule("", "serviceaccounts", json!(["a"])),
        rule("authentication.k8s.io", "userextras/scopes", json!(["view"])),
        rule("authentication.k8s.io", "uids", json!(["u1"])),
    ]);
    grant(&api, "eve", rules).await;
    let me = async |headers: &[(&str, &str)]| api.send(user("eve"), "POST", ME, headers, json!({})).await;
    let all = [
        ("impersonate-user", "bob"),
        ("impersonate-group", "ops"),
        ("impersonate-uid", "u1"),
        ("impersonate-extra-scopes", "view"),
    ];
    assert_eq!(
        me(&all).await.good()["status"]["userInfo"],
        json!({"username": "bob", "uid": "u1", "groups": ["ops", "system:authenticated"], "extra": {"scopes": ["view"]}})
    );
    for (wrong, value) in [("impersonate-group", "x"), ("impersonate-uid", "x"), ("impersonate-extra-scopes", "x")] {
        let mut headers = all.to_vec();
        headers.retain(|(name, _)| *name != wrong);
        headers.push((wrong, value));
        assert_eq!(me(&headers).await.code, 403, "{wrong}");
    }
    let account = me(&[("impersonate-user", "system:serviceaccount:default:a")]).await.good();
    assert_eq!(
        account["status"]["userInfo"]["groups"],
        json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"])
    );
}

#[tokio::test]
async fn a_limited_right_to_act_as_another_covers_what_it_names_only() {
    let api = Api::new().await;
    let rules = json!([
        {"verbs": ["impersonate:user-info"], "apiGroups": ["authentication.k8s.io"], "resources": ["users"], "resourceNames": ["bob"]},
        {"verbs": ["impersonate-on:user-info:list"], "apiGroups": [""], "resources": ["configmaps"]},
    ]);
    grant(&api, "eve", rules).await;
    bind(&api, "b", "view", "bob").await;
    let headers = [("impersonate-user", "bob")];
    let get = async |path: &str| api.send(user("eve"), "GET", path, &headers, Value::Null).await;
    get(MAPS).await.good();
    assert_eq!(
        get("/api/v1/namespaces/default/pods").await.failed(403),
        "pods is forbidden: User \"eve\" cannot impersonate-on:user-info:list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
}

#[tokio::test]
async fn default_roles_get_back_what_they_lack_and_keep_what_was_added() {
    let api = Api::new().await;
    let path = format!("{RBAC}/clusterroles/system:basic-user");
    let mut role = api.get(&path).await.good();
    let added = json!({"verbs": ["get"], "apiGroups": ["x"], "resources": ["y"]});
    role["rules"] = json!([added]);
    api.put(&path, role).await.good();
    let again = Api::on(api.storage.clone(), |_| {}).await;
    let rules = again.get(&path).await.good()["rules"].clone();
    assert_eq!(rules[0], added);
    assert!(rules.to_string().contains("selfsubjectreviews"));
    let mut kept = again.get(&path).await.good();
    kept["rules"] = json!([]);
    kept["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"] = json!("false");
    again.put(&path, kept).await.good();
    assert_eq!(Api::on(api.storage.clone(), |_| {}).await.get(&path).await.good()["rules"], Value::Null);
}

#[tokio::test]
async fn a_role_that_gathers_rules_needs_all_rights_and_a_binding_needs_its_role() {
    let api = Api::new().await;
    grant(&api, "bob", json!([{"verbs": ["create"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["*"]}]))
        .await;
    let post =
        async |plural: &str, body: Value| api.send(user("bob"), "POST", &format!("{RBAC}/{plural}"), &[], body).await;
    let gathers =
        json!({"metadata": {"name": "g"}, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}});
    assert_eq!(
        post("clusterroles", gathers).await.failed(403),
        "clusterroles.rbac.authorization.k8s.io \"g\" is forbidden: must have cluster-admin privileges to use the aggregationRule"
    );
    let binding = |role: &str| json!({"metadata": {"name": "x"}, "roleRef": {"kind": "ClusterRole", "name": role, "apiGroup": ""}, "subjects": []});
    assert_eq!(
        post("clusterrolebindings", binding("none")).await.failed(404),
        "clusterroles.rbac.authorization.k8s.io \"none\" not found"
    );
    let text = post("clusterrolebindings", binding("cluster-admin")).await.failed(403);
    assert!(text.contains("user \"bob\" (groups=[\"system:authenticated\"]) is attempting to grant"), "{text}");
    grant(&api, "bob", json!([{"verbs": ["bind"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "resourceNames": ["view"]}])).await;
    post("clusterrolebindings", binding("view")).await.good();
    let mut changed = api.get(&format!("{RBAC}/clusterrolebindings/x")).await.good();
    changed["roleRef"]["name"] = json!("edit");
    assert!(
        api.put(&format!("{RBAC}/clusterrolebindings/x"), changed)
            .await
            .failed(422)
            .contains("roleRef: Invalid value:")
    );
}

#[tokio::test]
async fn bindings_that_bind_nobody_rightly_are_refused() {
    let api = Api::new().await;
    let subjects = json!([{"kind": "ServiceAccount", "name": "a"}, {"kind": "Robot", "name": "r"}, {"kind": "User", "name": "u", "apiGroup": "x"}]);
    let body = json!({"metadata": {"name": "x"}, "roleRef": {"kind": "Role", "name": ""}, "subjects": subjects});
    let text = api.post(&format!("{RBAC}/clusterrolebindings"), body).await.failed(422);
    for part in [
        "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
        "roleRef.name: Required value",
        "subjects[0].namespace: Required value",
        "subjects[1].kind: Unsupported value: \"Robot\": supported values: \"ServiceAccount\", \"User\", \"Group\"",
        "subjects[2].apiGroup: Unsupported value: \"x\": supported values: \"rbac.authorization.k8s.io\"",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}
