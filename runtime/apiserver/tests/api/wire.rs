//! Over real sockets: TLS, client certificates, limits, and the end of it all.
#![allow(clippy::unwrap_used, reason = "tests may unwrap, in their helpers too")]

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kiln_apiserver::{ApiServer, Config};
use kiln_pki::tls;
use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
struct One(Arc<CertifiedKey>);

impl ResolvesServerCert for One {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

struct Cluster {
    ca: Certificate,
    issuer: Issuer<'static, KeyPair>,
    port: u16,
    shutdown: CancellationToken,
    served: tokio::task::JoinHandle<()>,
}

fn key_of(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))
}

impl Cluster {
    async fn start() -> Self {
        Self::start_with(Config::default()).await
    }

    async fn start_with(config: Config) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec!["localhost".into()]).unwrap().signed_by(&key, &issuer).unwrap();
        let signing = rustls::crypto::ring::sign::any_supported_type(&key_of(&key)).unwrap();
        let certified = CertifiedKey::new(vec![cert.der().clone()], signing);
        let tls = tls::server(roots(&ca), Arc::new(One(Arc::new(certified)))).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let api = ApiServer::build(config, kiln_storage::memory::open()).await.unwrap();
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let served = tokio::spawn(async move { api.serve(listener, tls, stop).await });
        Self { ca, issuer, port, shutdown, served }
    }

    fn identity(
        &self,
        issuer: &Issuer<'static, KeyPair>,
        user: &str,
        group: &str,
    ) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, user);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, issuer).unwrap().der().clone(), key_of(&key))
    }

    /// A connection, as the named user or as nobody.
    async fn connect(
        &self,
        identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
    ) -> SendRequest<Full<Bytes>> {
        let tls = self.encrypted(identity).await;
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    async fn encrypted(
        &self,
        identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
    ) -> TlsStream<TcpStream> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots(&self.ca));
        let mut config = match identity {
            Some((cert, key)) => builder.with_client_auth_cert(vec![cert], key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let tcp = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
    }
}

fn roots(ca: &Certificate) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    roots
}

async fn send(
    client: &mut SendRequest<Full<Bytes>>,
    method: &str,
    path: &str,
    body: impl Into<Bytes>,
) -> Response<Incoming> {
    let request = Request::builder().method(method).uri(format!("https://localhost{path}"));
    client.send_request(request.body(Full::new(body.into())).unwrap()).await.unwrap()
}

async fn json(response: Response<Incoming>) -> Value {
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

#[tokio::test]
async fn a_client_certificate_of_the_ca_names_the_user_and_no_other_gets_in() {
    let cluster = Cluster::start().await;
    let mut admin = cluster.connect(Some(cluster.identity(&cluster.issuer, "admin", "system:masters"))).await;
    assert_eq!(json(send(&mut admin, "GET", "/api/v1/namespaces", "").await).await["kind"], "NamespaceList");
    let mut bob = cluster.connect(Some(cluster.identity(&cluster.issuer, "bob", "dev"))).await;
    let refused = json(send(&mut bob, "GET", "/api/v1/namespaces", "").await).await;
    assert!(refused["message"].as_str().unwrap().contains("User \"bob\" cannot list"));
    let mut nobody = cluster.connect(None).await;
    assert_eq!(send(&mut nobody, "GET", "/livez", "").await.status(), 200);

    let other = CertificateParams::new(Vec::new()).unwrap();
    let stranger = Issuer::new(other, KeyPair::generate().unwrap());
    let mut forged = cluster.connect(Some(cluster.identity(&stranger, "admin", "system:masters"))).await;
    let request = Request::builder().uri("https://localhost/livez").body(Full::new(Bytes::new())).unwrap();
    assert!(forged.send_request(request).await.is_err());
}

#[tokio::test]
async fn a_body_over_three_mebibytes_is_refused() {
    let cluster = Cluster::start().await;
    let mut admin = cluster.connect(Some(cluster.identity(&cluster.issuer, "admin", "system:masters"))).await;
    let response = send(&mut admin, "POST", "/api/v1/nodes", vec![b' '; 3 * 1024 * 1024 + 1]).await;
    assert_eq!(response.status(), 413);
}

#[tokio::test]
async fn a_shutdown_ends_watches_and_then_the_server() {
    let cluster = Cluster::start().await;
    let mut admin = cluster.connect(Some(cluster.identity(&cluster.issuer, "admin", "system:masters"))).await;
    let watch = send(&mut admin, "GET", "/api/v1/nodes?watch=1", "").await;
    cluster.shutdown.cancel();
    assert_eq!(watch.into_body().collect().await.unwrap().to_bytes(), "");
    drop(admin);
    cluster.served.await.unwrap();
}

#[tokio::test]
async fn clients_that_sit_there_do_not_hold_a_shutdown_up() {
    let hour = std::time::Duration::from_secs(3600);
    let cluster = Cluster::start_with(Config { drain_timeout: hour, ..Config::default() }).await;
    // One has not begun TLS; one has asked for nothing and answers no ping; one has had its answer and stays.
    let _mute = TcpStream::connect(("127.0.0.1", cluster.port)).await.unwrap();
    let mut deaf = cluster.encrypted(None).await;
    deaf.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut frame = [0; 9];
    deaf.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[3], 4, "the server's settings");
    let mut nobody = cluster.connect(None).await;
    assert_eq!(send(&mut nobody, "GET", "/livez", "").await.status(), 200);
    cluster.shutdown.cancel();
    cluster.served.await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_to_stop_is_not_ready_and_serves_on_for_a_while() {
    let hour = std::time::Duration::from_secs(3600);
    let cluster = Cluster::start_with(Config { shutdown_delay: hour, ..Config::default() }).await;
    let mut nobody = cluster.connect(None).await;
    assert_eq!(send(&mut nobody, "GET", "/readyz", "").await.status(), 200);
    cluster.shutdown.cancel();
    let mut late = cluster.connect(None).await;
    let refused = send(&mut late, "GET", "/readyz", "").await;
    assert_eq!(refused.status(), 500);
    let text = refused.into_body().collect().await.unwrap().to_bytes();
    assert!(text.windows(20).any(|w| w == b"[-]shutdown failed: "));
    assert_eq!(send(&mut late, "GET", "/livez", "").await.status(), 200);
    cluster.served.abort();
}
