//! TLS: which certificate is shown, and what is spoken behind it.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{Request, Version};
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kiln_client::testing::FakeApi;
use kiln_pki::tls::any_certificate;
use rcgen::{CertifiedKey, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::support::{LONG, Reply, World, api, backend, echo, ingress, pod, rule, service};

pub(crate) fn made(name: &str) -> CertifiedKey<KeyPair> {
    rcgen::generate_simple_self_signed([name.to_owned()]).unwrap()
}

pub(crate) fn secret(api: &FakeApi, name: &str, certificate: &str, key: &str) {
    let data = json!({"tls.crt": BASE64_STANDARD.encode(certificate), "tls.key": BASE64_STANDARD.encode(key)});
    let secret = json!({"metadata": {"name": name, "namespace": "ns"}, "type": "kubernetes.io/tls", "data": data});
    api.put(&format!("/api/v1/namespaces/ns/secrets/{name}"), secret);
}

async fn connect(world: &World, name: &str, alpn: &[&str]) -> TlsStream<TcpStream> {
    // Which certificate it was is asked afterwards.
    let mut config = any_certificate(Arc::new(default_provider())).unwrap().with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(world.https).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

/// The certificate that is shown for a name.
pub(crate) async fn shown(world: &World, name: &str) -> Vec<u8> {
    let stream = connect(world, name, &["http/1.1"]).await;
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

pub(crate) async fn until_shown(world: &World, name: &str, expected: &CertifiedKey<KeyPair>) {
    let waiting = async {
        while shown(world, name).await != expected.cert.der().to_vec() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, waiting).await.expect("the certificate");
}

fn spec(rows: &[(&str, &str, Value)]) -> Value {
    let rules: Vec<_> = rows.iter().map(|(host, ..)| rule(host, &[("Prefix", "/", "web")])).collect();
    let tls: Vec<_> = rows.iter().map(|(_, secret, hosts)| json!({"secretName": secret, "hosts": hosts})).collect();
    json!({"rules": rules, "tls": tls})
}

#[tokio::test]
async fn each_host_has_the_certificate_of_its_secret_and_a_new_one_at_once() {
    let api = api();
    service(&api, "web", &[echo("web").await], None);
    let (foo, wild, named) = (made("foo.bar.com"), made("*.foo.com"), made("named.com"));
    for (name, made) in [("foo", &foo), ("wild", &wild), ("named", &named)] {
        secret(&api, name, &made.cert.pem(), &made.signing_key.serialize_pem());
    }
    let rows = [
        ("foo.bar.com", "foo", json!(["foo.bar.com"])),
        ("*.foo.com", "wild", json!(["*.foo.com"])),
        ("named.com", "named", json!([])),
    ];
    ingress(&api, "x", json!(null), spec(&rows));
    let world = World::start(api.clone()).await;
    until_shown(&world, "foo.bar.com", &foo).await;
    until_shown(&world, "FOO.bar.com", &foo).await;
    until_shown(&world, "bar.foo.com", &wild).await;
    until_shown(&world, "named.com", &named).await;
    for other in ["other.com", "foo.com", "a.b.foo.com"] {
        let default = shown(&world, other).await;
        let is_default = default.windows(18).any(|window| window == b"ingress.kiln.local");
        assert!(is_default, "{other}");
    }

    // A client that verifies is content.
    let mut roots = RootCertStore::empty();
    roots.add(foo.cert.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let config =
        builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(world.https).await.unwrap();
    let name = ServerName::try_from("foo.bar.com").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = || Request::get("/").header("host", "foo.bar.com").body(Full::<Bytes>::default()).unwrap();
    let reply = Reply::read(sender.send_request(request()).await.unwrap()).await;
    assert_eq!((reply.served_by(), reply.saw("x-forwarded-proto")), ("web".to_owned(), "https".to_owned()));

    let renewed = made("foo.bar.com");
    secret(&api, "foo", &renewed.cert.pem(), &renewed.signing_key.serialize_pem());
    until_shown(&world, "foo.bar.com", &renewed).await;
    sender.ready().await.unwrap();
    let reply = Reply::read(sender.send_request(request()).await.unwrap()).await;
    assert_eq!(reply.served_by(), "web", "a connection that stands goes on");
}

#[tokio::test]
async fn a_secret_that_is_none_is_told_and_leaves_the_others_served() {
    let api = api();
    service(&api, "web", &[echo("web").await], None);
    let (good, other) = (made("good.com"), made("bad.com"));
    secret(&api, "good", &good.cert.pem(), &good.signing_key.serialize_pem());
    secret(&api, "bad", &other.cert.pem(), &good.signing_key.serialize_pem());
    let rows = [
        ("bad.com", "bad", json!(["bad.com"])),
        ("gone.com", "gone", json!(["gone.com"])),
        ("good.com", "good", json!(["good.com"])),
    ];
    ingress(&api, "x", json!(null), spec(&rows));
    let world = World::start(api.clone()).await;
    until_shown(&world, "good.com", &good).await;
    let (client, all) = (api.client(), kiln_client::ListParams::default());
    let waiting = async {
        loop {
            let list = client.list::<Value>("/api/v1/namespaces/ns/events", &all).await.unwrap();
            let mut messages: Vec<_> =
                list.items.iter().map(|event| event["message"].as_str().unwrap().to_owned()).collect();
            messages.sort_unstable();
            if messages.len() == 2 {
                return messages;
            }
            tokio::task::yield_now().await;
        }
    };
    let served = "its hosts are served with the default certificate";
    let expected = [
        format!("secret ns/bad: tls.key is not the key of tls.crt; {served}"),
        format!("secret ns/gone: there is none of this name; {served}"),
    ];
    assert_eq!(tokio::time::timeout(LONG, waiting).await.unwrap(), expected);
    let reply = world.get("bad.com", "/").await;
    assert_eq!(reply.served_by(), "web");
    secret(&api, "gone", &other.cert.pem(), &other.signing_key.serialize_pem());
    until_shown(&world, "gone.com", &other).await;
    let asked = api.requests();
    assert!(asked.iter().all(|asked| !asked.contains("/secrets") || asked.contains("metadata.name")), "{asked:?}");
}

#[tokio::test]
async fn http2_is_spoken_with_who_can() {
    let api = api();
    service(&api, "web", &[echo("web").await], None);
    ingress(&api, "x", json!({"kiln.dev/ssl-redirect": "true"}), json!({"defaultBackend": backend("web")}));
    let world = World::start(api).await;
    let stream = connect(&world, "x.com", &["h2", "http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://x.com/a").body(Full::<Bytes>::default()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.version(), Version::HTTP_2);
    let reply = Reply::read(response).await;
    assert_eq!((reply.served_by(), reply.saw("x-forwarded-proto")), ("web".to_owned(), "https".to_owned()));

    let mut stream = connect(&world, "x.com", &[]).await;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 200 OK"), "{answer}");
}

#[tokio::test]
async fn pods_are_spoken_to_over_tls_if_their_port_says_so() {
    let made = made("whatever");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let address = pod(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            while let Ok(1..) = stream.read(&mut [0; 4096]).await {
                let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nsecret\r\n0\r\n\r\n";
                stream.write_all(answer).await.unwrap();
            }
        }
    });
    let api = api();
    service(&api, "web", &[address.await], Some("https"));
    ingress(&api, "x", json!(null), json!({"defaultBackend": backend("web")}));
    let world = World::start(api).await;
    for _ in 0..2 {
        assert_eq!(world.get("x.com", "/").await.text, "secret");
    }
}
