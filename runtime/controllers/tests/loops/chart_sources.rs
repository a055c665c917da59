//! Where charts come from: a repository over HTTPS with a CA and a login of its own, and a registry that gives tokens.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::convert::Infallible;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kiln_pki::Authority;
use kiln_pki::secret::hex;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::charts::{CHARTS, FILES, archive, chart, has, start};
use crate::real::{MAPS, World};

/// What a server answers: a code, a header and a body.
type Answer = (u16, Option<(&'static str, String)>, Vec<u8>);

const NOTHING: Answer = (404, None, Vec::new());

/// Serves on the loopback, over TLS if there is an authority for it; gives `host:port`.
async fn serve(
    authority: Option<&Authority>,
    answer: impl Fn(&str, &HeaderMap) -> Answer + Send + Sync + 'static,
) -> String {
    let acceptor = authority.map(|authority| {
        let issued = authority.issue_server("charts", &["127.0.0.1".to_owned()], SystemTime::now()).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        TlsAcceptor::from(Arc::new(tls.with_no_client_auth().with_single_cert(chain, key).unwrap()))
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, answer) = (acceptor.clone(), answer.clone());
            tokio::spawn(async move {
                match acceptor {
                    None => talk(stream, answer).await,
                    // Who does not trust the server goes away.
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            talk(stream, answer).await;
                        }
                    }
                }
            });
        }
    });
    address
}

async fn talk<A>(stream: impl AsyncRead + AsyncWrite + Unpin, answer: Arc<A>)
where
    A: Fn(&str, &HeaderMap) -> Answer,
{
    let service = service_fn(|request: Request<Incoming>| {
        let path = request.uri().path_and_query().unwrap().as_str();
        let (code, header, body) = answer(path, request.headers());
        let mut response = Response::builder().status(code);
        if let Some((name, value)) = header {
            response = response.header(name, value);
        }
        std::future::ready(Ok::<_, Infallible>(response.body(Full::new(Bytes::from(body))).unwrap()))
    });
    // The end of a connection is the client's affair.
    drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

fn authorization(headers: &HeaderMap) -> String {
    headers.get("authorization").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

fn basic(pair: &str) -> String {
    format!("Basic {}", STANDARD.encode(pair))
}

/// Makes an object in `kube-system`.
async fn make(world: &World, plural: &str, name: &str, mut object: Value) {
    object["metadata"] = json!({"name": name});
    let path = format!("/api/v1/namespaces/kube-system/{plural}");
    world.client.create::<Value>(&path, &object).await.unwrap();
}

/// Waits until the chart has failed, and tells why.
async fn why(world: &World) -> String {
    let failed =
        |chart: Option<&Value>| chart.is_some_and(|chart| chart["status"]["conditions"][0]["status"] == "True");
    let told = world.until(CHARTS, "app", failed).await.unwrap();
    told["status"]["conditions"][0]["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_repository_has_its_own_ca_and_login_which_nobody_else_learns() {
    let world = start().await;
    let elsewhere = serve(None, |_, headers| match authorization(headers).as_str() {
        "" => (200, None, archive(&FILES)),
        _ => NOTHING,
    })
    .await;
    let authority = Authority::create(SystemTime::now()).unwrap();
    let url = format!("http://{elsewhere}/small-1.0.0.tgz");
    let repo = serve(Some(&authority), move |path, headers| {
        if authorization(headers) != basic("me:secret") {
            return (401, None, Vec::new());
        }
        match path {
            "/charts/index.yaml" => {
                (200, None, format!("entries:\n  small:\n  - {{version: 1.0.0, urls: ['{url}']}}\n").into())
            }
            _ => NOTHING,
        }
    })
    .await;
    let mut spec = json!({"repo": format!("https://{repo}/charts"), "chart": "small", "failurePolicy": "abort"});
    spec["repoCA"] = json!(Authority::create(SystemTime::now()).unwrap().certificate_pem());
    spec["repoCAConfigMap"] = json!({"name": "cas"});
    spec["authSecret"] = json!({"name": "login"});
    make(&world, "configmaps", "cas", json!({"data": {"a.pem": authority.certificate_pem()}})).await;
    let login = json!({"type": "kubernetes.io/basic-auth", "stringData": {"username": "me", "password": "secret"}});
    make(&world, "secrets", "login", login).await;
    world.client.create::<Value>(CHARTS, &chart(spec)).await.unwrap();
    world.until(MAPS, "app-small", has("a", "red")).await;
}

#[tokio::test]
async fn a_repository_of_another_ca_is_not_believed() {
    let world = start().await;
    let repo = serve(Some(&Authority::create(SystemTime::now()).unwrap()), |_, _| (200, None, archive(&FILES))).await;
    let mut spec = json!({"chart": format!("https://{repo}/small.tgz"), "failurePolicy": "abort"});
    spec["repoCA"] = json!(Authority::create(SystemTime::now()).unwrap().certificate_pem());
    world.client.create::<Value>(CHARTS, &chart(spec)).await.unwrap();
    let why = why(&world).await;
    assert!(why.contains("certificate"), "{why}");
}

#[tokio::test]
async fn any_certificate_is_believed_if_that_is_said() {
    let world = start().await;
    let repo = serve(Some(&Authority::create(SystemTime::now()).unwrap()), |_, _| (200, None, archive(&FILES))).await;
    let mut spec = json!({"chart": format!("https://{repo}/small.tgz"), "failurePolicy": "abort"});
    spec["repoCA"] = json!(Authority::create(SystemTime::now()).unwrap().certificate_pem());
    spec["insecureSkipTLSVerify"] = json!(true);
    world.client.create::<Value>(CHARTS, &chart(spec)).await.unwrap();
    world.until(MAPS, "app-small", has("a", "red")).await;
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// A registry of the small chart, for who has a token that it gives for a login. `lying` has another archive than its digest says.
async fn registry(lying: bool) -> String {
    let blob = archive(&FILES);
    let layer = json!({"mediaType": "application/vnd.cncf.helm.chart.content.v1.tar+gzip", "digest": digest(&blob)});
    let manifest =
        json!({"schemaVersion": 2, "layers": [{"mediaType": "other", "digest": "sha256:0"}, layer]}).to_string();
    let blob_path = format!("/v2/charts/small/blobs/{}", digest(&blob));
    serve(None, move |path, headers| {
        let host = headers["host"].to_str().unwrap();
        if path.starts_with("/token?") {
            let asked = path == "/token?scope=repository%3Acharts%2Fsmall%3Apull&service=charts"
                && authorization(headers) == basic("me:se:cret");
            return if asked { (200, None, json!({"token": "T"}).to_string().into()) } else { (403, None, Vec::new()) };
        }
        if authorization(headers) != "Bearer T" {
            let challenge = format!(
                "Bearer realm=\"http://{host}/token\",service=\"charts\",scope=\"repository:charts/small:pull\""
            );
            return (401, Some(("www-authenticate", challenge)), Vec::new());
        }
        match path {
            "/v2/charts/small/tags/list" => {
                let next = "</v2/charts/small/tags/list?last=0.9.0>; rel=\"next\"".to_owned();
                (200, Some(("link", next)), json!({"tags": ["0.9.0", "latest"]}).to_string().into())
            }
            "/v2/charts/small/tags/list?last=0.9.0" => {
                (200, None, json!({"tags": ["1.0.0_b", "2.0.0"]}).to_string().into())
            }
            "/v2/charts/small/manifests/1.0.0_b" => (200, None, manifest.clone().into()),
            path if path == blob_path && lying => (200, None, b"something else".to_vec()),
            // Where the bytes are in truth.
            path if path == blob_path => (307, Some(("location", "/store/1".to_owned())), Vec::new()),
            "/store/1" => (200, None, blob.clone()),
            _ => NOTHING,
        }
    })
    .await
}

async fn docker_login(world: &World, place: &str) {
    let config = json!({"auths": {place: {"auth": STANDARD.encode("me:se:cret")}}}).to_string();
    let secret = json!({"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": config}});
    make(world, "secrets", "docker", secret).await;
}

fn of_registry(registry: &str, version: &str) -> Value {
    chart(json!({
        "chart": format!("oci://{registry}/charts/small"), "version": version, "plainHTTP": true, "failurePolicy": "abort",
        "dockerRegistrySecret": {"name": "docker"},
    }))
}

#[tokio::test]
async fn a_registry_gives_the_newest_chart_within_the_constraint_for_a_token() {
    let world = start().await;
    let registry = registry(false).await;
    docker_login(&world, &registry).await;
    world.client.create::<Value>(CHARTS, &of_registry(&registry, "<2")).await.unwrap();
    world.until(MAPS, "app-small", has("a", "red")).await;
}

#[tokio::test]
async fn a_registry_that_refuses_or_lies_is_told_of() {
    for (lying, login, expected) in [(false, false, "answered 403"), (true, true, "what came is not sha256:")] {
        let world = start().await;
        let registry = registry(lying).await;
        docker_login(&world, if login { &registry } else { "registry.example" }).await;
        world.client.create::<Value>(CHARTS, &of_registry(&registry, "1.0.0+b")).await.unwrap();
        let why = why(&world).await;
        assert!(why.contains(expected), "{why}");
    }
}
