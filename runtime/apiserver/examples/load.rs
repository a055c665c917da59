//! How many requests a second the server answers over TLS, from one client and from 32:
//! `cargo run --release -p kiln-apiserver --example load -- [DATABASE]`. Without a database the store is in memory. The
//! clients run in the same process and take their part of the processor.

#[allow(dead_code, reason = "each example uses its own part")]
mod support;

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use kiln_apiserver::{ApiServer, Config};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use serde_json::json;
use support::Identities;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

type Failure = Box<dyn Error + Send + Sync>;

const CONNECTIONS: usize = 32;
const OBJECTS: usize = 2000;
const WATCHES: usize = 1000;
/// How long each figure is measured.
const TIME: Duration = Duration::from_secs(3);
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[derive(Clone)]
struct Target {
    port: u16,
    connector: TlsConnector,
}

impl Target {
    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let tcp = TcpStream::connect(("127.0.0.1", self.port)).await?;
        tcp.set_nodelay(true)?;
        let tls = self.connector.connect(ServerName::try_from("localhost")?, tcp).await?;
        let (sender, connection) = handshake(TokioIo::new(tls)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

async fn send(
    client: &mut SendRequest<Full<Bytes>>,
    method: &str,
    path: &str,
    body: String,
) -> Result<http::Response<Incoming>, Failure> {
    client.ready().await?;
    let request = Request::builder().method(method).uri(path).header(header::HOST, "localhost");
    let response = client.send_request(request.body(Full::new(body.into()))?).await?;
    if !response.status().is_success() {
        let code = response.status();
        let text = response.into_body().collect().await?.to_bytes();
        return Err(format!("{method} {path}: {code} {}", String::from_utf8_lossy(&text)).into());
    }
    Ok(response)
}

fn map(name: &str, value: &str) -> String {
    json!({"metadata": {"name": name, "labels": {"app": "load"}}, "data": {"key": value.repeat(30)}}).to_string()
}

/// A kind of request, by number.
fn request(kind: &str, i: usize) -> (&'static str, String, String) {
    match kind {
        "GET" => ("GET", format!("{MAPS}/m{}", i % OBJECTS), String::new()),
        "LIST" => ("GET", MAPS.to_owned(), String::new()),
        "PUT" => {
            let name = format!("m{}", i % OBJECTS);
            ("PUT", format!("{MAPS}/{name}"), map(&name, &format!("value-{i:08}")))
        }
        "POST" => {
            ("POST", "/api/v1/namespaces/kube-public/configmaps".to_owned(), map(&format!("p{i}"), "value-posted"))
        }
        _ => ("DELETE", format!("/api/v1/namespaces/kube-public/configmaps/p{i}"), String::new()),
    }
}

async fn measure(
    target: &Target,
    kind: &'static str,
    connections: usize,
    next: &Arc<AtomicUsize>,
) -> Result<(), Failure> {
    let end = Instant::now() + TIME;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let (target, next) = (target.clone(), next.clone());
        clients.spawn(async move {
            let mut client = target.connect().await?;
            let mut times = Vec::new();
            while Instant::now() < end {
                let (method, path, body) = request(kind, next.fetch_add(1, Ordering::Relaxed));
                let began = Instant::now();
                let mut body = send(&mut client, method, &path, body).await?.into_body();
                while let Some(frame) = body.frame().await {
                    frame?;
                }
                times.push(began.elapsed());
            }
            Ok::<_, Failure>(times)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = clients.join_next().await {
        times.extend(done??);
    }
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_micros();
    println!(
        "{kind:5} {connections:2} connections {:8.0}/s  p50 {:6} us  p99 {:6} us",
        times.len() as f64 / TIME.as_secs_f64(),
        at(0.5),
        at(0.99)
    );
    Ok(())
}

/// How long it takes until every watch has an event.
async fn fan_out(target: &Target) -> Result<(), Failure> {
    let (told, mut events) = tokio::sync::mpsc::unbounded_channel();
    let mut clients = Vec::new();
    for _ in 0..WATCHES {
        let mut client = target.connect().await?;
        let path = "/api/v1/namespaces/kube-node-lease/configmaps?watch=1&allowWatchBookmarks=true";
        let mut body = send(&mut client, "GET", path, String::new()).await?.into_body();
        let told = told.clone();
        clients.push(client);
        tokio::spawn(async move {
            while let Some(Ok(frame)) = body.frame().await {
                let is_event = frame.data_ref().is_some_and(|d| !d.starts_with(b"{\"type\":\"BOOKMARK"));
                if is_event && told.send(Instant::now()).is_err() {
                    break;
                }
            }
        });
    }
    let mut writer = target.connect().await?;
    let (mut firsts, mut lasts) = (Vec::new(), Vec::new());
    for i in 0..20 {
        let began = Instant::now();
        let path = "/api/v1/namespaces/kube-node-lease/configmaps";
        send(&mut writer, "POST", path, map(&format!("w{i}"), "value")).await?.into_body().collect().await?;
        let mut times = Vec::with_capacity(WATCHES);
        while times.len() < WATCHES {
            times.push(events.recv().await.ok_or("the watches ended")?.duration_since(began));
        }
        times.sort_unstable();
        firsts.push(times[WATCHES / 2]);
        lasts.push(times[WATCHES - 1]);
    }
    firsts.sort_unstable();
    lasts.sort_unstable();
    println!("one event to {WATCHES} watches: half have it after {:?}, all after {:?}", firsts[10], lasts[10]);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let identities = Identities::new()?;
    let storage = match std::env::args().nth(1) {
        Some(path) => kiln_storage::sqlite::open(path.as_ref(), kiln_storage::sqlite::Options::default())?,
        None => kiln_storage::memory::open(),
    };
    let api = ApiServer::build(Config::default(), storage).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let shutdown = CancellationToken::new();
    let served = tokio::spawn({
        let (tls, stop) = (identities.tls.clone(), shutdown.clone());
        async move { api.serve(listener, tls, stop).await }
    });

    let mut roots = RootCertStore::empty();
    roots.add(identities.ca.clone())?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identities.admin_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![identities.admin.clone()], key)?;
    let target = Target { port, connector: TlsConnector::from(Arc::new(config)) };

    run(&target).await.map_err(|e| e.to_string())?;
    shutdown.cancel();
    served.await?;
    Ok(())
}

async fn run(target: &Target) -> Result<(), Failure> {
    let mut client = target.connect().await?;
    for i in 0..OBJECTS {
        let body = map(&format!("m{i}"), "value-first");
        send(&mut client, "POST", MAPS, body).await?.into_body().collect().await?;
    }
    let posted = Arc::new(AtomicUsize::new(0));
    let deleted = Arc::new(AtomicUsize::new(0));
    let others = Arc::new(AtomicUsize::new(0));
    for connections in [1, CONNECTIONS] {
        for kind in ["GET", "LIST", "POST", "PUT"] {
            let next = if kind == "POST" { &posted } else { &others };
            measure(target, kind, connections, next).await?;
        }
    }
    // Fewer than were posted.
    measure(target, "DELETE", 1, &deleted).await?;
    fan_out(target).await
}
