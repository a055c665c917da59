//! What nodes may: their own pods and what these name, themselves, and nothing else; and what pods get from their account.
#![allow(clippy::unwrap_used, reason = "test helpers may unwrap")]

use crate::common;

use common::{Answer, Api, node, user};
use kiln_apiserver::Plugin;
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";
const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";

async fn get(api: &Api, name: &str, path: &str) -> Answer {
    api.send(node(name), "GET", path, &[], Value::Null).await
}

fn pod(name: &str, node: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "nodeName": node,
            "containers": [{"name": "c", "image": "i", "envFrom": [{"secretRef": {"name": "env"}}]}],
            "volumes": [
                {"name": "s", "secret": {"secretName": "mounted"}},
                {"name": "m", "configMap": {"name": "settings"}},
                {"name": "p", "persistentVolumeClaim": {"claimName": "claim"}},
            ],
        },
    })
}

async fn cluster() -> Api {
    let api = Api::new().await;
    for name in ["a", "b"] {
        api.send(node(name), "POST", "/api/v1/nodes", &[], json!({"metadata": {"name": name}})).await.good();
    }
    for name in ["env", "mounted", "other"] {
        api.post("/api/v1/namespaces/default/secrets", json!({"metadata": {"name": name}})).await.good();
    }
    api.post("/api/v1/namespaces/default/configmaps", json!({"metadata": {"name": "settings"}})).await.good();
    api.post(PODS, pod("p", "a")).await.good();
    api
}

#[tokio::test]
async fn a_node_reads_what_its_pods_name_as_long_as_they_are_there() {
    let api = cluster().await;
    let secret = |name: &str| format!("/api/v1/namespaces/default/secrets/{name}");
    for name in ["env", "mounted"] {
        get(&api, "a", &secret(name)).await.good();
        assert_eq!(
            get(&api, "b", &secret(name)).await.failed(403),
            format!(
                "secrets \"{name}\" is forbidden: User \"system:node:b\" cannot get resource \"secrets\" in API group \"\" in the namespace \"default\": no relationship found between node 'b' and this object"
            )
        );
    }
    get(&api, "a", &secret("other")).await.failed(403);
    get(&api, "a", "/api/v1/namespaces/default/configmaps/settings").await.good();
    get(&api, "a", "/api/v1/namespaces/default/configmaps/kube-root-ca.crt").await.failed(404);
    get(&api, "a", "/api/v1/namespaces/default/secrets?fieldSelector=metadata.name%3Denv").await.good();
    let all = get(&api, "a", "/api/v1/namespaces/default/secrets").await.failed(403);
    assert!(all.ends_with("No Object name found"), "{all}");
    get(&api, "a", &format!("{ACCOUNTS}/default")).await.good();
    api.delete(&format!("{PODS}/p?gracePeriodSeconds=0")).await.good();
    get(&api, "a", &secret("env")).await.failed(403);
}

#[tokio::test]
async fn a_node_reads_its_own_pods_one_by_one_and_lists_what_its_network_is_made_of() {
    let api = cluster().await;
    get(&api, "a", &format!("{PODS}/p")).await.good();
    let other = get(&api, "b", &format!("{PODS}/p")).await.failed(403);
    assert!(other.ends_with("no relationship found between node 'b' and this object"), "{other}");
    get(&api, "a", "/api/v1/pods?fieldSelector=spec.nodeName%3Da").await.good();
    // Its network policies are about all pods, and its ways lead to all nodes.
    for path in ["/api/v1/pods", "/api/v1/nodes", "/api/v1/nodes/b", "/api/v1/namespaces", "/api/v1/services"] {
        get(&api, "a", path).await.good();
    }
}

#[tokio::test]
async fn a_volume_leads_from_a_pods_claim_to_its_secrets() {
    let api = cluster().await;
    let volume = json!({
        "metadata": {"name": "v"},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "claimRef": {"namespace": "default", "name": "claim"},
            "csi": {"driver": "d.example.com", "volumeHandle": "h", "nodeStageSecretRef": {"namespace": "default", "name": "other"}},
        },
    });
    api.post("/api/v1/persistentvolumes", volume).await.good();
    for name in ["a", "b"] {
        let codes = [
            get(&api, name, "/api/v1/persistentvolumes/v").await.code,
            get(&api, name, "/api/v1/namespaces/default/secrets/other").await.code,
        ];
        assert_eq!(codes, if name == "a" { [200, 200] } else { [403, 403] }, "{name}");
    }
}

#[tokio::test]
async fn a_volume_on_a_nodes_disk_is_let_go_by_that_node() {
    const VOLUMES: &str = "/api/v1/persistentvolumes";
    let api = cluster().await;
    let volume = json!({
        "metadata": {"name": "v", "labels": {"kiln.dev/local-path-node": "a"}, "finalizers": ["kiln.dev/local-path"]},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/v"}},
    });
    api.post(VOLUMES, volume).await.good();
    let headers = [("content-type", "application/merge-patch+json")];
    let patch = json!({"metadata": {"finalizers": []}});
    for (name, codes) in [("b", [403, 403, 403, 403]), ("a", [200, 403, 200, 200])] {
        let found = [
            get(&api, name, &format!("{VOLUMES}?labelSelector=kiln.dev/local-path-node%3Da")).await.code,
            get(&api, name, VOLUMES).await.code,
            get(&api, name, &format!("{VOLUMES}/v")).await.code,
            api.send(node(name), "PATCH", &format!("{VOLUMES}/v"), &headers, patch.clone()).await.code,
        ];
        assert_eq!(found, codes, "{name}");
    }
}

#[tokio::test]
async fn a_node_gets_tokens_for_its_pods_only() {
    let api = cluster().await;
    let uid = api.get(&format!("{PODS}/p")).await.good()["metadata"]["uid"].clone();
    let ask = async |name: &str, spec: Value| {
        api.send(node(name), "POST", &format!("{ACCOUNTS}/default/token"), &[], json!({"spec": spec})).await
    };
    let bound = |uid: &Value| json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": uid}});
    let token = ask("a", bound(&uid)).await.good();
    let me = api
        .with_token(
            token["status"]["token"].as_str().unwrap(),
            "POST",
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            &[],
            json!({}),
        )
        .await
        .good();
    let extra = &me["status"]["userInfo"]["extra"];
    assert_eq!(extra["authentication.kubernetes.io/pod-name"], json!(["p"]));
    assert_eq!(extra["authentication.kubernetes.io/pod-uid"], json!([uid]));
    assert_eq!(extra["authentication.kubernetes.io/node-name"], json!(["a"]));
    let refused = ask("a", json!({})).await.failed(403);
    assert!(refused.ends_with("node requested token not bound to a pod"), "{refused}");
    assert!(ask("a", bound(&json!("x"))).await.failed(403).contains("does not match the UID in record"));
    assert!(ask("b", bound(&uid)).await.failed(403).contains("no relationship found between node 'b'"));
    let mut elsewhere = bound(&uid);
    elsewhere["audiences"] = json!(["vault"]);
    let refused = ask("a", elsewhere).await.failed(403);
    assert!(refused.ends_with("audience \"vault\" not found in pod spec volume, system:node:a is not authorized to request tokens for this audience"), "{refused}");
}

#[tokio::test]
async fn a_node_mirrors_pods_that_open_nothing() {
    let api = cluster().await;
    let owner = api.get("/api/v1/nodes/a").await.good()["metadata"]["uid"].clone();
    let mirror = json!({
        "metadata": {
            "name": "m", "annotations": {"kubernetes.io/config.mirror": "x"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "a", "uid": owner, "controller": true}],
        },
        "spec": {"nodeName": "a", "containers": [{"name": "c", "image": "i"}]},
    });
    let post = async |change: &dyn Fn(&mut Value)| {
        let mut pod = mirror.clone();
        change(&mut pod);
        api.send(node("a"), "POST", PODS, &[], pod).await
    };
    for (change, why) in [
        (
            (&|p: &mut Value| p["metadata"]["annotations"] = json!({})) as &dyn Fn(&mut Value),
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"a\" can only create mirror pods",
        ),
        (&|p| p["spec"]["nodeName"] = json!("b"), "node \"a\" can only create pods with spec.nodeName set to itself"),
        (
            &|p| p["metadata"]["ownerReferences"] = json!([]),
            "node \"a\" can only create pods with an owner reference set to itself",
        ),
        (
            &|p| p["spec"]["volumes"] = json!([{"name": "v", "secret": {"secretName": "other"}}]),
            "node \"a\" can not create pods that reference secrets",
        ),
    ] {
        let refused = post(change).await.failed(403);
        assert!(refused.ends_with(why), "{refused}");
    }
    let made = post(&|_| {}).await.good();
    assert_eq!(made["spec"].get("serviceAccountName"), None);
    let status = json!({"metadata": {"name": "m"}, "status": {"phase": "Running"}});
    let headers = [("content-type", "application/merge-patch+json")];
    api.send(node("a"), "PATCH", &format!("{PODS}/m/status"), &headers, status.clone()).await.good();
    let refused = api.send(node("b"), "PATCH", &format!("{PODS}/m/status"), &headers, status).await.failed(403);
    assert!(refused.contains("node \"b\" can only update pod status for pods with spec.nodeName set to itself"));
    api.send(node("b"), "DELETE", &format!("{PODS}/m"), &[], Value::Null).await.failed(403);
    api.send(node("a"), "DELETE", &format!("{PODS}/m?gracePeriodSeconds=0"), &[], Value::Null).await.good();
}

#[tokio::test]
async fn a_node_evicts_its_own_pods_only() {
    let api = cluster().await;
    let eviction = json!({"metadata": {"name": "p"}});
    let path = format!("{PODS}/p/eviction");
    assert_eq!(
        api.send(node("b"), "POST", &path, &[], eviction.clone()).await.failed(403),
        "pods \"p\" is forbidden: node b can only evict pods with spec.nodeName set to itself"
    );
    assert_eq!(api.send(node("a"), "POST", &path, &[], eviction).await.code, 201);
}

#[tokio::test]
async fn a_token_of_a_pod_outlives_its_hour_and_not_its_pod() {
    let api = cluster().await;
    let uid = api.get(&format!("{PODS}/p")).await.good()["metadata"]["uid"].clone();
    let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": uid});
    let ask = async |seconds: i64| {
        let spec = json!({"boundObjectRef": bound, "expirationSeconds": seconds});
        let request = api.post(&format!("{ACCOUNTS}/default/token"), json!({"spec": spec})).await.good();
        request["status"]["token"].as_str().unwrap().to_owned()
    };
    let get = async |token: &str| api.with_token(token, "GET", "/version", &[], Value::Null).await.code;
    // What pods' volumes ask for lives a year, for clients that read it once; anything else as long as it says.
    let (extended, plain) = (ask(3607).await, ask(3600).await);
    api.advance(3600 + 60);
    assert_eq!((get(&extended).await, get(&plain).await), (200, 200));
    api.advance(1);
    assert_eq!((get(&extended).await, get(&plain).await), (200, 401));
    api.delete(&format!("{PODS}/p")).await.good();
    assert_eq!(get(&extended).await, 200);
    api.advance(120);
    assert_eq!(get(&extended).await, 401);
}

#[tokio::test]
async fn a_node_leaves_its_labels_and_others_certificates_alone() {
    let api = cluster().await;
    let headers = [("content-type", "application/merge-patch+json")];
    let label = json!({"metadata": {"labels": {"node-restriction.kubernetes.io/x": "", "kubernetes.io/role": ""}}});
    let refused = api.send(node("a"), "PATCH", "/api/v1/nodes/a", &headers, label).await.failed(403);
    assert!(refused.ends_with("is not allowed to modify labels: kubernetes.io/role, node-restriction.kubernetes.io/x"));
    let labelled = json!({"metadata": {"name": "c", "labels": {"kubernetes.io/role": ""}}});
    let refused = api.send(node("c"), "POST", "/api/v1/nodes", &[], labelled).await.failed(403);
    assert!(refused.ends_with("node \"c\" is not allowed to set the following labels: kubernetes.io/role"));
    let request = csr("system:node:b", Some("system:nodes"), "kubernetes.io/kubelet-serving", &["server auth"]);
    let refused = api.send(node("a"), "POST", CSRS, &[], request).await.failed(403);
    assert!(refused.ends_with("can only create a node CSR with CN=system:node:a"), "{refused}");
}

const CSRS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

fn csr(name: &str, group: Option<&str>, signer: &str, usages: &[&str]) -> Value {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    if let Some(group) = group {
        params.distinguished_name.push(rcgen::DnType::OrganizationName, group);
    }
    let pem = params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    json!({"metadata": {"name": "r"}, "spec": {"request": common::b64(&pem), "signerName": signer, "usages": usages}})
}

#[tokio::test]
async fn certificate_requests_are_held_to_the_rules() {
    let api = Api::new().await;
    let good = || csr("bob", None, "example.com/signer", &["client auth"]);
    let post = async |change: &dyn Fn(&mut Value)| {
        let mut request = good();
        change(&mut request["spec"]);
        api.post(&format!("{CSRS}?dryRun=All"), request).await
    };
    post(&|_| {}).await.good();
    for (change, why) in [
        (
            (&|s: &mut Value| s["request"] = json!("")) as &dyn Fn(&mut Value),
            "PEM block type must be CERTIFICATE REQUEST",
        ),
        (&|s| s["usages"] = json!([]), "spec.usages: Required value"),
        (&|s| s["usages"] = json!(["fly"]), "spec.usages[0]: Unsupported value: \"fly\""),
        (&|s| s["usages"] = json!(["any", "any"]), "spec.usages[1]: Duplicate value: \"any\""),
        (&|s| s["signerName"] = json!("signer"), "must be a fully qualified domain and path of the form"),
        (&|s| s["signerName"] = json!("a/b"), "should be a domain with at least two segments separated by dots"),
        (&|s| s["expirationSeconds"] = json!(1), "may not specify a duration less than 600 seconds (10 minutes)"),
    ] {
        let refused = post(change).await.failed(422);
        assert!(refused.contains(why), "{refused}");
    }
    let masters = csr("bob", Some("system:masters"), "kubernetes.io/kube-apiserver-client", &["client auth"]);
    assert!(
        api.post(CSRS, masters)
            .await
            .failed(403)
            .contains("use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed")
    );
    api.post(CSRS, good()).await.good();
    let decision = |kinds: &[&str]| {
        let conditions: Vec<Value> = kinds.iter().map(|k| json!({"type": k, "status": "True"})).collect();
        json!({"status": {"conditions": conditions}})
    };
    let approval = format!("{CSRS}/r/approval");
    let both = api.patch("merge", &approval, decision(&["Approved", "Denied"])).await.failed(422);
    assert!(both.contains("Approved and Denied conditions are mutually exclusive"), "{both}");
    api.patch("merge", &approval, decision(&["Approved"])).await.good();
    let none = api.patch("merge", &approval, decision(&[])).await.failed(422);
    assert!(none.contains("updates may not remove a condition of type \"Approved\""), "{none}");
}

#[tokio::test]
async fn a_pod_gets_the_account_its_token_and_its_pull_secrets() {
    let api = Api::new().await;
    let plain = |name: &str| json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let made = api.post(PODS, plain("p")).await.good();
    assert_eq!(
        (&made["spec"]["serviceAccountName"], &made["spec"]["serviceAccount"]),
        (&json!("default"), &json!("default"))
    );
    let volume = &made["spec"]["volumes"][0];
    let name = volume["name"].as_str().unwrap();
    assert!(name.starts_with("kube-api-access-") && name.len() == "kube-api-access-".len() + 5, "{name}");
    assert_eq!(
        volume["projected"],
        json!({
            "defaultMode": 420,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                {"configMap": {"items": [{"key": "ca.crt", "path": "ca.crt"}], "name": "kube-root-ca.crt"}},
                {"downwardAPI": {"items": [{"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}, "path": "namespace"}]}},
            ],
        })
    );
    let mount = json!({"mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "name": name, "readOnly": true});
    assert_eq!(made["spec"]["containers"][0]["volumeMounts"], json!([mount]));

    let account = json!({"metadata": {"name": "a"}, "automountServiceAccountToken": false, "imagePullSecrets": [{"name": "pull"}]});
    api.post(ACCOUNTS, account).await.good();
    let mut other = plain("q");
    other["spec"]["serviceAccountName"] = json!("a");
    let made = api.post(PODS, other).await.good();
    assert_eq!(made["spec"].get("volumes"), None);
    assert_eq!(made["spec"]["imagePullSecrets"], json!([{"name": "pull"}]));

    let mut lost = plain("r");
    lost["spec"]["serviceAccountName"] = json!("x");
    assert_eq!(
        api.post(PODS, lost).await.failed(403),
        "pods \"r\" is forbidden: error looking up service account default/x: serviceaccount \"x\" not found"
    );
    assert_eq!(api.send(user("bob"), "POST", PODS, &[], plain("s")).await.code, 403);
}

#[tokio::test]
async fn an_account_may_limit_the_secrets_of_its_pods() {
    let api = Api::new().await;
    let annotations = json!({"kubernetes.io/enforce-mountable-secrets": "true"});
    let account = json!({"metadata": {"name": "a", "annotations": annotations}, "secrets": [{"name": "good"}]});
    api.post(ACCOUNTS, account).await.good();
    let post = async |secret: &str| {
        let env = json!([{"name": "E", "valueFrom": {"secretKeyRef": {"name": secret, "key": "k"}}}]);
        let spec = json!({"serviceAccountName": "a", "containers": [{"name": "c", "image": "i", "env": env}]});
        api.post(&format!("{PODS}?dryRun=All"), json!({"metadata": {"name": "p"}, "spec": spec})).await
    };
    post("good").await.good();
    assert!(post("bad").await.failed(403).ends_with(
        "container c with envVar E referencing secret.secretName=\"bad\" is not allowed because service account a does not reference that secret"
    ));
}

#[tokio::test]
async fn owner_references_are_enforced_where_that_is_switched_on() {
    let api = Api::with(|c| c.plugins.set(Plugin::OwnerReferencesPermissionEnforcement, true)).await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let owner = api.post(maps, json!({"metadata": {"name": "o"}})).await.good()["metadata"]["uid"].clone();
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let rules =
        json!([{"verbs": ["create", "update", "patch", "get"], "apiGroups": [""], "resources": ["configmaps"]}]);
    api.post(&format!("{rbac}/roles"), json!({"metadata": {"name": "r"}, "rules": rules})).await.good();
    let subject = json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "bob"});
    let binding = json!({"metadata": {"name": "b"}, "roleRef": {"kind": "Role", "name": "r"}, "subjects": [subject]});
    api.post(&format!("{rbac}/rolebindings"), binding).await.good();
    let owned = |blocks: bool| {
        let reference =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": owner, "blockOwnerDeletion": blocks});
        json!({"metadata": {"name": "c", "ownerReferences": [reference]}})
    };
    let post = async |body: Value| api.send(user("bob"), "POST", &format!("{maps}?dryRun=All"), &[], body).await;
    post(owned(false)).await.good();
    let refused = post(owned(true)).await.failed(403);
    assert!(refused.contains(
        "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on"
    ));
    api.post(maps, json!({"metadata": {"name": "c"}})).await.good();
    let headers = [("content-type", "application/merge-patch+json")];
    let refused = api.send(user("bob"), "PATCH", &format!("{maps}/c"), &headers, owned(false)).await.failed(403);
    assert!(refused.contains("cannot set an ownerRef on a resource you can't delete"), "{refused}");
}
