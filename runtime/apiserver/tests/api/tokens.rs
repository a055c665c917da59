//! Tokens of service accounts, and the questions about tokens and access.
#![allow(clippy::unwrap_used, reason = "test helpers may unwrap")]

use crate::common;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use common::{Api, MAPS, admin, b64, node, user};
use kiln_apiserver::UserInfo;
use serde_json::{Value, json};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const TOKENS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

async fn account(api: &Api, name: &str) -> Value {
    api.post(ACCOUNTS, json!({"metadata": {"name": name}})).await.good()
}

async fn token(api: &Api, name: &str, spec: Value) -> Value {
    api.post(&format!("{ACCOUNTS}/{name}/token"), json!({"spec": spec})).await.good()
}

fn text(request: &Value) -> &str {
    request["status"]["token"].as_str().unwrap()
}

fn claims(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

async fn review(api: &Api, token: &str, audiences: Value) -> Value {
    api.post(TOKENS, json!({"spec": {"token": token, "audiences": audiences}})).await.good()["status"].clone()
}

#[tokio::test]
async fn a_token_says_whose_it_is_and_its_bearer_is_that_account() {
    let api = Api::new().await;
    let uid = account(&api, "a").await["metadata"]["uid"].clone();
    let request = token(&api, "a", json!({})).await;
    assert_eq!(request["kind"], "TokenRequest");
    assert_eq!(request["spec"], json!({"audiences": [ISSUER], "expirationSeconds": 3600}));
    assert_eq!(request["status"]["expirationTimestamp"], "2026-01-02T04:04:05Z");
    let claims = claims(text(&request));
    assert_eq!((&claims["iss"], &claims["sub"]), (&json!(ISSUER), &json!("system:serviceaccount:default:a")));
    assert_eq!(claims["aud"], json!([ISSUER]));
    assert_eq!(claims["kubernetes.io"], json!({"namespace": "default", "serviceaccount": {"name": "a", "uid": uid}}));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3600);
    let me = api
        .with_token(text(&request), "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", &[], json!({}))
        .await
        .good();
    let extra =
        json!({"authentication.kubernetes.io/credential-id": [format!("JTI={}", claims["jti"].as_str().unwrap())]});
    assert_eq!(
        me["status"]["userInfo"],
        json!({
            "username": "system:serviceaccount:default:a", "uid": uid, "extra": extra,
            "groups": ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"],
        })
    );
}

#[tokio::test]
async fn a_clock_that_jumps_ends_tokens_when_it_goes_forward_and_locks_nobody_out_when_it_goes_back() {
    let api = Api::new().await;
    account(&api, "a").await;
    let get = async |token: &Value| api.with_token(text(token), "GET", "/version", &[], Value::Null).await.code;
    let before = token(&api, "a", json!({})).await;
    api.advance(-3_600);
    assert_eq!(get(&before).await, 200, "made an hour ahead of the clock");
    let after = token(&api, "a", json!({})).await;
    api.advance(2 * 3_600 + 61);
    assert_eq!((get(&before).await, get(&after).await), (401, 401), "an hour after the first, two after the second");
    let renewed = token(&api, "a", json!({})).await;
    assert_eq!(get(&renewed).await, 200);
}

#[tokio::test]
async fn a_token_that_was_changed_or_is_for_others_is_refused() {
    let api = Api::new().await;
    account(&api, "a").await;
    let good = token(&api, "a", json!({})).await;
    let other = token(&api, "a", json!({"audiences": ["vault"]})).await;
    let get = async |token: &str| api.with_token(token, "GET", "/version", &[], Value::Null).await.code;
    assert_eq!(get(text(&good)).await, 200);
    assert_eq!(get(text(&other)).await, 401);
    let mut forged = text(&good).to_owned();
    forged.replace_range(forged.len() - 20..forged.len() - 10, "AAAAAAAAAA");
    assert_eq!(get(&forged).await, 401);
    assert_eq!(review(&api, text(&other), json!(["vault", "x"])).await["audiences"], json!(["vault"]));
    let refused = review(&api, text(&good), json!(["vault"])).await;
    assert_eq!(refused["authenticated"], Value::Null);
    assert_eq!(
        refused["error"],
        format!(
            "[invalid bearer token, token audiences [\"{ISSUER}\"] is invalid for the target audiences [\"vault\"]]"
        )
    );
    assert_eq!(review(&api, "nonsense", json!([])).await, json!({"user": {}, "error": "invalid bearer token"}));
    let text = api.post(TOKENS, json!({"spec": {}})).await.failed(400);
    assert_eq!(text, "token is required for TokenReview in authentication");
}

#[tokio::test]
async fn a_token_goes_with_its_account_and_with_what_it_is_bound_to() {
    let api = Api::new().await;
    account(&api, "a").await;
    let secrets = "/api/v1/namespaces/default/secrets";
    api.post(secrets, json!({"metadata": {"name": "s"}})).await.good();
    let free = token(&api, "a", json!({})).await;
    let reference = json!({"boundObjectRef": {"kind": "Secret", "apiVersion": "v1", "name": "s"}});
    let bound = token(&api, "a", reference).await;
    assert_eq!(claims(text(&bound))["kubernetes.io"]["secret"]["name"], "s");
    let get = async |request: &Value| api.with_token(text(request), "GET", "/version", &[], Value::Null).await.code;
    assert_eq!((get(&free).await, get(&bound).await), (200, 200));
    api.delete(&format!("{secrets}/s")).await.good();
    assert_eq!((get(&free).await, get(&bound).await), (200, 401));
    let said = review(&api, text(&bound), json!([])).await["error"].clone();
    assert_eq!(said, "[invalid bearer token, service account token has been invalidated]");
    api.delete(&format!("{ACCOUNTS}/a")).await.good();
    account(&api, "a").await;
    assert_eq!(get(&free).await, 401);
    assert!(review(&api, text(&free), json!([])).await["error"].as_str().unwrap().contains("does not match claim"));
}

#[tokio::test]
async fn requests_for_tokens_that_break_the_rules_are_told_which() {
    let api = Api::new().await;
    account(&api, "a").await;
    let ask = async |body: Value| api.post(&format!("{ACCOUNTS}/a/token"), body).await;
    assert_eq!(
        ask(json!({"spec": {"expirationSeconds": 599}})).await.failed(422),
        "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes"
    );
    assert!(
        ask(json!({"spec": {"expirationSeconds": 1_i64 << 33}})).await.failed(422).contains("larger than 2^32 seconds")
    );
    assert!(ask(json!({"metadata": {"name": "b"}})).await.failed(422).contains("must match the service account name"));
    assert!(ask(json!({"metadata": {"uid": "b"}})).await.failed(409).contains("the UID in the token request (b)"));
    let bind = |kind: &str| json!({"spec": {"boundObjectRef": {"kind": kind, "apiVersion": "v1", "name": "x"}}});
    assert_eq!(ask(bind("Pod")).await.failed(404), "pods \"x\" not found");
    assert_eq!(ask(bind("Service")).await.failed(400), "cannot bind token to object of type /v1, Kind=Service");
    let missing = api.post(&format!("{ACCOUNTS}/b/token"), json!({})).await.failed(404);
    assert_eq!(missing, "serviceaccounts \"b\" not found");
}

#[tokio::test]
async fn others_can_check_the_clusters_tokens() {
    let api = Api::new().await;
    account(&api, "a").await;
    let bearer = token(&api, "a", json!({})).await;
    let get = async |path: &str| api.with_token(text(&bearer), "GET", path, &[], Value::Null).await;
    let configuration = get("/.well-known/openid-configuration").await.good();
    assert_eq!(configuration["issuer"], ISSUER);
    assert_eq!(configuration["jwks_uri"], format!("{ISSUER}/openid/v1/jwks"));
    assert_eq!(configuration["id_token_signing_alg_values_supported"], json!(["ES256"]));
    let keys = get("/openid/v1/jwks").await;
    assert_eq!(keys.headers["content-type"], "application/jwk-set+json");
    assert_eq!(keys.headers["cache-control"], "public, max-age=3600");
    let header = text(&bearer).split('.').next().unwrap();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    assert_eq!(keys.good()["keys"][0]["kid"], header["kid"]);
    api.send(UserInfo::anonymous(), "GET", "/openid/v1/jwks", &[], Value::Null).await.failed(403);
}

#[tokio::test]
async fn a_secret_of_the_type_holds_a_token_without_end() {
    let api = Api::new().await;
    account(&api, "a").await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let annotations = json!({"kubernetes.io/service-account.name": "a"});
    let secret =
        json!({"metadata": {"name": "t", "annotations": annotations}, "type": "kubernetes.io/service-account-token"});
    let secret = api.post(secrets, secret).await.good();
    assert_eq!((&secret["data"]["namespace"], &secret["data"]["ca.crt"]), (&json!(b64("default")), &json!(b64("PEM"))));
    let token = String::from_utf8(STANDARD.decode(secret["data"]["token"].as_str().unwrap()).unwrap()).unwrap();
    let get = async || api.with_token(&token, "GET", "/version", &[], Value::Null).await.code;
    assert_eq!(get().await, 200);
    let used = api.get(&format!("{secrets}/t")).await.good();
    assert_eq!(used["metadata"]["labels"]["kubernetes.io/legacy-token-last-used"], "2026-01-02");
    api.delete(&format!("{secrets}/t")).await.good();
    assert_eq!(get().await, 401);
}

const ACCESS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
const LOCAL: &str = "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews";

#[tokio::test]
async fn access_reviews_answer_with_the_reason() {
    let api = Api::new().await;
    let ask = async |spec: Value| api.post(ACCESS, json!({"spec": spec})).await.good()["status"].clone();
    let what = json!({"verb": "get", "path": "/healthz"});
    assert_eq!(
        ask(json!({"user": "bob", "groups": ["system:authenticated"], "nonResourceAttributes": what})).await,
        json!({"allowed": true, "reason": "RBAC: allowed by ClusterRoleBinding \"system:discovery\" of ClusterRole \"system:discovery\" to Group \"system:authenticated\""})
    );
    let what = json!({"verb": "list", "resource": "pods", "fieldSelector": {"requirements": [{"key": "a", "operator": "New", "values": ["b"]}]}});
    assert_eq!(
        ask(json!({"user": "bob", "resourceAttributes": what})).await,
        json!({"allowed": false, "evaluationError": "spec.resourceAttributes.fieldSelector ignored due to parse error"})
    );
}

#[tokio::test]
async fn access_reviews_that_ask_nothing_are_told_so() {
    let api = Api::new().await;
    assert_eq!(
        api.post(ACCESS, json!({"spec": {}})).await.failed(422),
        "SubjectAccessReview.authorization.k8s.io \"\" is invalid: [spec.resourceAttributes: Invalid value: \"null\": exactly one of nonResourceAttributes or resourceAttributes must be specified, spec.user: Invalid value: \"\": at least one of user or group must be specified]"
    );
    let named = json!({"metadata": {"name": "x"}, "spec": {"user": "u", "resourceAttributes": {"verb": "get"}}});
    assert!(api.post(ACCESS, named).await.failed(422).contains("metadata: Invalid value:"));
    let elsewhere = json!({"spec": {"user": "u", "resourceAttributes": {"verb": "get", "namespace": "other"}}});
    assert!(
        api.post(LOCAL, elsewhere)
            .await
            .failed(422)
            .contains("spec.resourceAttributes.namespace: Invalid value: \"other\": must match metadata.namespace")
    );
}

#[tokio::test]
async fn the_rules_of_a_user_are_listed_and_those_of_a_node_are_incomplete() {
    let api = Api::new().await;
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let ask = async |who: UserInfo| {
        api.send(who, "POST", path, &[], json!({"spec": {"namespace": "default"}})).await.good()["status"].clone()
    };
    let bob = ask(user("bob")).await;
    assert_eq!(bob["incomplete"], false);
    let reviews =
        json!({"verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"]});
    assert!(bob["resourceRules"].as_array().unwrap().contains(&reviews));
    assert!(bob["nonResourceRules"].to_string().contains("/openapi/*"));
    let node = ask(node("n")).await;
    assert_eq!(node["incomplete"], true);
    assert_eq!(node["evaluationError"], "node authorizer does not support user rule resolution");
    assert_eq!(api.post(path, json!({"spec": {}})).await.failed(400), "no namespace on request");
    // What is not bound to anybody is nobody's.
    assert_eq!(api.send(user("bob"), "GET", MAPS, &[], Value::Null).await.code, 403);
    assert_eq!(api.send(admin(), "GET", MAPS, &[], Value::Null).await.code, 200);
}
