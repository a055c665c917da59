//! The HTTPS transport against a real TLS server on the loopback.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use kiln_client::https::{Auth, Https, HttpsConfig};
use kiln_client::{Client, ClientError};
use kiln_pki::Authority;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

/// A server that tells what it was asked.
struct Server {
    address: String,
    ca: Authority,
    connections: Arc<AtomicUsize>,
    restart: Arc<Notify>,
}

async fn serve(alpn: &'static [u8]) -> Server {
    let ca = Authority::create(SystemTime::now()).unwrap();
    let issued = ca.issue_server("test", &["127.0.0.1".to_owned()], SystemTime::now()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.certificate_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.allow_unauthenticated().build().unwrap())
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap(),
        )
        .unwrap();
    tls.alpn_protocols = vec![alpn.to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    let (connections, restart) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (count, closed) = (connections.clone(), restart.clone());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            count.fetch_add(1, Ordering::SeqCst);
            let with_certificate = stream.get_ref().1.peer_certificates().is_some();
            let closed = closed.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| answer(request, with_certificate));
                let builder = auto::Builder::new(TokioExecutor::new());
                tokio::select! {
                    _ = builder.serve_connection(TokioIo::new(stream), service) => {}
                    () = closed.notified() => {}
                }
            });
        }
    });
    Server { address, ca, connections, restart }
}

async fn answer(
    request: Request<Incoming>,
    certificate: bool,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let header = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let seen = serde_json::json!({
        "path": request.uri().path(),
        "version": format!("{:?}", request.version()),
        "authorization": header("authorization"),
        "identity": header("kiln-node-identity"),
        "certificate": certificate,
    });
    Ok(Response::new(Full::new(Bytes::from(seen.to_string()))))
}

fn client(server: &Server, auth: Auth) -> Client {
    let mut headers = http::HeaderMap::new();
    headers.insert("kiln-node-identity", http::HeaderValue::from_static("abc"));
    let ca_pem = server.ca.certificate_pem().to_owned();
    let config = HttpsConfig { server: server.address.clone(), ca_pem, auth, headers, ..HttpsConfig::default() };
    Client::new(Https::new(config).unwrap())
}

#[tokio::test]
async fn requests_share_one_http2_connection_and_a_lost_one_is_made_anew() {
    let server = serve(b"h2").await;
    let client = client(&server, Auth::Bearer("id.secret".to_owned()));
    let seen: Value = client.get("/api/v1/nodes").await.unwrap();
    assert_eq!((&seen["path"], &seen["version"]), (&"/api/v1/nodes".into(), &"HTTP/2.0".into()));
    assert_eq!((&seen["authorization"], &seen["identity"]), (&"Bearer id.secret".into(), &"abc".into()));
    let many = futures_util::future::join_all((0..20).map(|_| client.get::<Value>("/x"))).await;
    assert!(many.iter().all(Result::is_ok));
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    server.restart.notify_waiters();
    let mut answered = client.get::<Value>("/x").await;
    if answered.as_ref().is_err_and(ClientError::is_transient) {
        // The first request may meet the connection as it breaks.
        answered = client.get::<Value>("/x").await;
    }
    assert!(answered.is_ok(), "{answered:?}");
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_server_that_speaks_only_http1_is_served_too_and_sees_the_client_certificate() {
    let server = serve(b"http/1.1").await;
    let issued = server.ca.issue_client("system:node:a", Some("system:nodes"), SystemTime::now()).unwrap();
    let auth = Auth::Certificate { certificate_pem: issued.certificate_pem, key_pem: issued.key_pem };
    let client = client(&server, auth);
    for _ in 0..3 {
        let seen: Value = client.get("/version").await.unwrap();
        assert_eq!((&seen["version"], &seen["certificate"]), (&"HTTP/1.1".into(), &true.into()));
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_server_of_another_ca_is_refused_before_anything_is_sent() {
    let server = serve(b"h2").await;
    let other = Authority::create(SystemTime::now()).unwrap();
    let ca_pem = other.certificate_pem().to_owned();
    let config = HttpsConfig { server: server.address.clone(), ca_pem, ..HttpsConfig::default() };
    let error = Client::new(Https::new(config).unwrap()).get::<Value>("/x").await.unwrap_err();
    assert!(error.is_transient());
    assert!(error.to_string().contains("certificate"), "{error}");
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_cannot_be_used_is_named_before_anything_is_sent() {
    let try_with = |server: &str, ca: &str| {
        let config = HttpsConfig { server: server.to_owned(), ca_pem: ca.to_owned(), ..HttpsConfig::default() };
        Https::new(config).unwrap_err().to_string()
    };
    assert!(try_with("http://a:1", "").contains("https://host:port"));
    assert!(try_with("https://a:1", "nothing").contains("no PEM certificate"));
}
