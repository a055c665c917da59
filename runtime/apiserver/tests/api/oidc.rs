//! Users of an issuer outside of the cluster: a small one on this machine, over TLS.
#![allow(clippy::unwrap_used, reason = "test helpers may unwrap")]

use crate::common;

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use common::Api;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use kiln_apiserver::OidcConfig;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// A key of the issuer's.
struct Key {
    pair: EcdsaKeyPair,
    id: String,
}

impl Key {
    fn new(id: &str) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        Self { pair, id: id.into() }
    }

    fn jwk(&self) -> Value {
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": self.id, "x": encode(x), "y": encode(y)})
    }

    fn sign(&self, claims: &Value) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&json!({"alg": "ES256", "kid": self.id})), encode(claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// The issuer: its address, its CA, and the keys that it shows.
struct Issuer {
    url: String,
    ca_pem: String,
    jwks: Arc<Mutex<Vec<Value>>>,
    fetched: Arc<AtomicUsize>,
}

impl Issuer {
    async fn start() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind(("localhost", 0)).await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let (jwks, fetched) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let issuer = Self { url: url.clone(), ca_pem: made.cert.pem(), jwks: jwks.clone(), fetched: fetched.clone() };
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // A client that does not trust the issuer ends here.
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                let (url, jwks, fetched) = (url.clone(), jwks.clone(), fetched.clone());
                let answer = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let body = match request.uri().path() {
                        "/.well-known/openid-configuration" => {
                            json!({"issuer": url, "jwks_uri": format!("{url}/keys")})
                        }
                        _ => {
                            fetched.fetch_add(1, Ordering::Relaxed);
                            json!({"keys": *jwks.lock().unwrap()})
                        }
                    };
                    async move { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(body.to_string())))) }
                });
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        issuer
    }

    fn show(&self, keys: &[&Key]) {
        *self.jwks.lock().unwrap() = keys.iter().map(|k| k.jwk()).collect();
    }

    fn config(&self) -> OidcConfig {
        OidcConfig {
            groups_claim: Some("groups".into()),
            groups_prefix: "oidc:".into(),
            required_claims: vec![("tenant".into(), "t1".into())],
            signing_algs: vec!["ES256".into()],
            ca_pem: Some(self.ca_pem.clone()),
            ..OidcConfig::new(&self.url, "kiln")
        }
    }

    /// Claims of a good token, valid for an hour of the server's time.
    fn claims(&self) -> Value {
        let now: jiff::Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        json!({
            "iss": self.url, "aud": "kiln", "sub": "42", "email": "a@example.com", "exp": now.as_second() + 3600,
            "groups": ["dev", "ops"], "tenant": "t1", "jti": "j",
        })
    }
}

async fn me(api: &Api, token: &str) -> common::Answer {
    api.with_token(token, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", &[], json!({})).await
}

async fn why(api: &Api, token: &str) -> String {
    let review = json!({"spec": {"token": token}});
    let answer = api.post("/apis/authentication.k8s.io/v1/tokenreviews", review).await.good();
    answer["status"]["error"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_user_of_the_issuer_has_its_name_and_groups() {
    let issuer = Issuer::start().await;
    let key = Key::new("k1");
    issuer.show(&[&key]);
    let api = Api::with(|c| c.oidc = Some(issuer.config())).await;
    let found = me(&api, &key.sign(&issuer.claims())).await.good();
    assert_eq!(
        found["status"]["userInfo"],
        json!({
            "username": format!("{}#42", issuer.url), "groups": ["oidc:dev", "oidc:ops", "system:authenticated"],
            "extra": {"authentication.kubernetes.io/credential-id": ["JTI=j"]},
        })
    );
    me(&api, &key.sign(&issuer.claims())).await.good();
    assert_eq!(issuer.fetched.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_token_that_breaks_a_rule_is_refused_and_a_review_tells_which() {
    let issuer = Issuer::start().await;
    let (key, stranger) = (Key::new("k1"), Key::new("k1"));
    issuer.show(&[&key]);
    let mut config = issuer.config();
    (config.username_claim, config.username_prefix) = ("email".into(), Some("-".into()));
    let api = Api::with(|c| c.oidc = Some(config)).await;
    for (claim, value, expected) in [
        ("aud", json!("other"), "oidc: expected audience in [\"kiln\"] got [\"other\"]"),
        ("exp", json!(1), "oidc: token is expired"),
        ("nbf", json!(9_999_999_999_i64), "before the nbf"),
        ("tenant", json!("t2"), "oidc: required claim tenant value does not match. Got = t2, want = t1"),
        ("groups", json!(7), "oidc: parse groups claim \"groups\""),
        ("email_verified", json!(false), "oidc: email not verified"),
        ("email", json!(7), "oidc: parse username claims \"email\""),
    ] {
        let mut claims = issuer.claims();
        claims[claim] = value;
        let token = key.sign(&claims);
        assert_eq!(me(&api, &token).await.code, 401, "{claim}");
        assert!(why(&api, &token).await.contains(expected), "{}", why(&api, &token).await);
    }
    assert!(why(&api, &stranger.sign(&issuer.claims())).await.contains("failed to verify signature"));
    assert_eq!(me(&api, &key.sign(&issuer.claims())).await.good()["status"]["userInfo"]["username"], "a@example.com");
    let mut foreign = issuer.claims();
    foreign["iss"] = json!("https://elsewhere");
    assert_eq!(why(&api, &key.sign(&foreign)).await, "invalid bearer token");
}

#[tokio::test]
async fn new_keys_are_looked_for_but_not_at_everybodys_whim() {
    let issuer = Issuer::start().await;
    let (old, new) = (Key::new("k1"), Key::new("k2"));
    issuer.show(&[&old]);
    let api = Api::with(|c| c.oidc = Some(issuer.config())).await;
    me(&api, &old.sign(&issuer.claims())).await.good();
    issuer.show(&[&new]);
    // The last look was a moment ago.
    assert_eq!(me(&api, &new.sign(&issuer.claims())).await.code, 401);
    api.advance(10);
    me(&api, &new.sign(&issuer.claims())).await.good();
    assert_eq!(issuer.fetched.load(Ordering::Relaxed), 2);
    assert_eq!(me(&api, &old.sign(&issuer.claims())).await.code, 401);
}

#[tokio::test]
async fn an_issuer_that_is_not_trusted_has_no_users() {
    let issuer = Issuer::start().await;
    let key = Key::new("k1");
    issuer.show(&[&key]);
    let stranger = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let config = OidcConfig { ca_pem: Some(stranger.cert.pem()), ..issuer.config() };
    let api = Api::with(|c| c.oidc = Some(config)).await;
    let token = key.sign(&issuer.claims());
    assert_eq!(me(&api, &token).await.code, 401);
    let expected =
        format!("[invalid bearer token, oidc: authenticator for issuer \"{}\" is not initialized]", issuer.url);
    assert_eq!(why(&api, &token).await, expected);
}
