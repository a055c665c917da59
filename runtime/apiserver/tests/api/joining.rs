//! Bootstrap tokens and the identity of boards.
#![allow(clippy::unwrap_used, reason = "tests may unwrap, in their helpers too")]

use crate::common;

use common::{Answer, Api, b64, node};
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";
const CSRS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const TOKEN: &str = "abcdef.0123456789abcdef";

fn request(node: &str) -> Value {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
    let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    json!({"metadata": {"generateName": "node-"}, "spec": {
        "request": b64(&pem), "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
        "usages": ["digital signature", "client auth"], "username": "forged"}})
}

async fn token(api: &Api, extra: &[(&str, &str)]) {
    let hash: String = Sha256::digest(b"0123456789abcdef").iter().map(|b| format!("{b:02x}")).collect();
    let mut data = json!({"token-id": b64("abcdef"), "token-secret-sha256": b64(&hash), "usage-bootstrap-authentication": b64("true")});
    for (key, value) in extra {
        data[*key] = json!(b64(value));
    }
    let secret =
        json!({"metadata": {"name": "bootstrap-token-abcdef"}, "type": "bootstrap.kubernetes.io/token", "data": data});
    api.post(SECRETS, secret).await.good();
}

async fn join(api: &Api, node: &str, board: &str) -> Answer {
    let identity: String = Sha256::digest(board.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
    api.with_token(TOKEN, "POST", CSRS, &[("kiln-node-identity", &identity)], request(node)).await
}

#[tokio::test]
async fn a_token_authenticates_by_its_hash_and_the_server_names_the_requester() {
    let api = Api::new().await;
    token(&api, &[]).await;
    let csr = join(&api, "pi-1", "board-1").await.good();
    assert_eq!(csr["spec"]["username"], "system:bootstrap:abcdef");
    let groups =
        json!(["system:bootstrappers", "system:bootstrappers:kiln:default-node-token", "system:authenticated"]);
    assert_eq!(csr["spec"]["groups"], groups);
    assert!(csr["metadata"].get("annotations").is_none());
    let wrong = api.with_token("abcdef.0123456789abcdee", "POST", CSRS, &[], request("pi-1")).await;
    assert_eq!(wrong.failed(401), "Unauthorized");
    let secrets = api.with_token(TOKEN, "GET", SECRETS, &[], Value::Null).await;
    assert!(secrets.failed(403).contains("User \"system:bootstrap:abcdef\" cannot list resource \"secrets\""));
}

#[tokio::test]
async fn an_expired_token_is_unauthorized() {
    let api = Api::new().await;
    token(&api, &[("expiration", "2026-01-02T03:04:04Z")]).await;
    join(&api, "pi-1", "board-1").await.failed(401);
}

#[tokio::test]
async fn a_reflashed_board_gets_its_name_back_and_a_stranger_does_not() {
    let api = Api::new().await;
    token(&api, &[]).await;
    join(&api, "pi-1", "board-1").await.good();
    join(&api, "pi-1", "board-1").await.good();
    let refusal =
        "node name \"pi-1\" belongs to another board; delete Secret kube-system/pi-1.node-identity.kiln to release it";
    assert_eq!(join(&api, "pi-1", "board-2").await.failed(403), refusal);
    let bare = api.with_token(TOKEN, "POST", CSRS, &[], request("pi-1")).await;
    assert_eq!(bare.failed(403), refusal);
    api.delete(&format!("{SECRETS}/pi-1.node-identity.kiln")).await.good();
    join(&api, "pi-1", "board-2").await.good();
}

#[tokio::test]
async fn a_node_renews_by_its_certificate_without_the_header() {
    let api = Api::new().await;
    token(&api, &[]).await;
    join(&api, "pi-1", "board-1").await.good();
    api.send(node("pi-1"), "POST", CSRS, &[], request("pi-1")).await.good();
}

#[tokio::test]
async fn a_token_for_single_use_serves_one_board_under_one_name_for_ever() {
    let api = Api::new().await;
    token(&api, &[("kiln-single-use", "true")]).await;
    let csr = join(&api, "pi-1", "board-1").await.good();
    assert_eq!(csr["metadata"]["annotations"]["kiln.dev/single-use-token"], "true");
    let secret = api.get(&format!("{SECRETS}/bootstrap-token-abcdef")).await.good();
    assert_eq!(secret["data"]["kiln-used-by"], b64("pi-1"));
    join(&api, "pi-1", "board-1").await.good();
    let other = join(&api, "pi-2", "board-2").await.failed(403);
    assert_eq!(
        other,
        "bootstrap token \"abcdef\" was used by node \"pi-1\" and may not be used for \"pi-2\"; create a new token"
    );
    api.get(&format!("{SECRETS}/pi-2.node-identity.kiln")).await.failed(404);
    join(&api, "pi-1", "board-2").await.failed(403);
    api.delete(&format!("{SECRETS}/pi-1.node-identity.kiln")).await.good();
    assert!(join(&api, "pi-1", "board-2").await.failed(403).contains("serves only the same board"));
}

#[tokio::test]
async fn a_token_bound_to_a_name_serves_no_other_and_a_refusal_spends_nothing() {
    let api = Api::new().await;
    token(&api, &[("kiln-single-use", "true"), ("kiln-node", "pi-1")]).await;
    assert!(join(&api, "pi-2", "b").await.failed(403).contains("is for node \"pi-1\""));
    let identity = "0".repeat(64);
    let path = format!("{CSRS}?dryRun=All");
    api.with_token(TOKEN, "POST", &path, &[("kiln-node-identity", &identity)], request("pi-1")).await.good();
    let secret = api.get(&format!("{SECRETS}/bootstrap-token-abcdef")).await.good();
    assert!(secret["data"].get("kiln-used-by").is_none());
    join(&api, "pi-1", "b").await.good();
}

#[tokio::test]
async fn only_approval_approves_only_status_certifies_and_both_need_the_right() {
    let api = Api::new().await;
    token(&api, &[]).await;
    let csr = join(&api, "pi-1", "b").await.good();
    let path = format!("{CSRS}/{}", csr["metadata"]["name"].as_str().unwrap());
    let mut approved = csr.clone();
    approved["status"] = json!({"conditions": [{"type": "Approved", "status": "True", "reason": "Test"}]});
    let refused = api.put(&format!("{path}/status"), approved.clone()).await.failed(422);
    assert!(refused.contains("status.conditions: Forbidden: updates may not add a condition of type \"Approved\""));
    approved["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    let done = api.put(&format!("{path}/approval"), approved).await.good();
    assert_eq!(done["status"]["conditions"][0]["lastTransitionTime"], "2026-01-02T03:04:05Z");
    let mut signed = done;
    signed["status"]["certificate"] = json!(b64("PEM"));
    let refused = api.put(&format!("{path}/status"), signed.clone()).await.failed(422);
    assert!(refused.contains("must contain at least one CERTIFICATE PEM block"), "{refused}");
    let certificate = rcgen::generate_simple_self_signed(vec!["pi-1".to_owned()]).unwrap().cert.pem();
    signed["status"]["certificate"] = json!(b64(&certificate));
    let signed = api.put(&format!("{path}/status"), signed).await.good();
    assert_eq!(
        (&signed["status"]["certificate"], &signed["status"]["conditions"][0]["type"]),
        (&json!(b64(&certificate)), &json!("Approved"))
    );
}
