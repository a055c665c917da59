//! What goes wrong, and what clients see of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use kiln_ingress::{Config, IngressError, Listening};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{World, api, config, echo, ingress, nowhere, pod, rule, service};

/// A pod that answers each connection with this and closes it.
async fn saying(answer: &'static [u8]) -> std::net::SocketAddr {
    pod(move |mut stream| async move {
        _ = stream.read(&mut [0; 4096]).await;
        _ = stream.write_all(answer).await;
    })
    .await
}

#[tokio::test]
async fn each_fault_has_its_status() {
    let api = api();
    service(&api, "empty", &[], None);
    service(&api, "nowhere", &[nowhere().await], None);
    service(&api, "ssh", &[saying(b"SSH-2.0-OpenSSH_9.2\r\n\r\n").await], None);
    service(&api, "closing", &[saying(b"").await], None);
    service(&api, "half", &[saying(b"HTTP/1.1 200 OK\r\ncontent-le").await], None);
    service(
        &api,
        "silent",
        &[pod(|stream| async move {
            std::future::pending::<()>().await;
            drop(stream)
        })
        .await],
        None,
    );
    for (name, path) in ["empty", "nowhere", "ssh", "closing", "half", "gone"].map(|name| (name, "/")) {
        ingress(&api, name, json!(null), json!({"rules": [rule(&format!("{name}.com"), &[("Prefix", path, name)])]}));
    }
    let quick = json!({"kiln.dev/proxy-read-timeout": "1"});
    ingress(&api, "silent", quick, json!({"rules": [rule("silent.com", &[("Prefix", "/", "silent")])]}));
    let resource = json!({"resource": {"kind": "Bucket", "name": "x"}});
    ingress(
        &api,
        "resource",
        json!(null),
        json!({"rules": [
            {"host": "resource.com", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": resource}]}},
        ]}),
    );
    let world = World::start(api).await;
    for (host, status) in [
        ("other.com", 404),
        ("empty.com", 503),
        ("gone.com", 503),
        ("resource.com", 503),
        ("nowhere.com", 502),
        ("ssh.com", 502),
        ("closing.com", 502),
        ("half.com", 502),
        ("silent.com", 504),
    ] {
        let reply = world.get(host, "/").await;
        assert_eq!(reply.status.as_u16(), status, "{host}: {}", reply.text);
        assert!(reply.text.starts_with(&status.to_string()), "{}", reply.text);
    }
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_connected_to_is_passed_over_whatever_the_request() {
    let api = api();
    service(&api, "a", &[nowhere().await, nowhere().await, echo("alive").await], None);
    ingress(&api, "x", json!(null), json!({"rules": [rule("x.com", &[("Prefix", "/", "a")])]}));
    let world = World::start(api).await;
    for number in 0..6 {
        let request = Request::post("/").header("host", "x.com").body(Full::from(format!("body {number}"))).unwrap();
        let reply = world.send(request).await;
        assert_eq!(reply.served_by(), "alive");
        assert_eq!(reply.echo()["body"], json!(format!("body {number}")));
    }
}

#[tokio::test]
async fn a_connection_that_the_pod_closes_at_the_moment_of_its_use_costs_no_request() {
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    // It answers one request on each connection, and closes it without a word when the next one comes.
    let address = pod(move |mut stream| {
        count.fetch_add(1, Ordering::Relaxed);
        async move {
            _ = stream.read(&mut [0; 4096]).await;
            _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            _ = stream.read(&mut [0; 4096]).await;
        }
    });
    let api = api();
    service(&api, "a", &[address.await], None);
    ingress(&api, "x", json!(null), json!({"rules": [rule("x.com", &[("Prefix", "/", "a")])]}));
    let world = World::start(api).await;
    for _ in 0..5 {
        let reply = world.get("x.com", "/").await;
        assert_eq!((reply.status.as_u16(), reply.text.as_str()), (200, "ok"));
    }
    assert_eq!(connections.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_taken_for_whole() {
    let api = api();
    service(&api, "length", &[saying(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await], None);
    service(
        &api,
        "chunks",
        &[saying(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n").await],
        None,
    );
    ingress(
        &api,
        "x",
        json!(null),
        json!({"rules": [
            rule("x.com", &[("Prefix", "/length", "length"), ("Prefix", "/chunks", "chunks")]),
        ]}),
    );
    let world = World::start(api).await;
    for path in ["/length", "/chunks"] {
        let stream = TcpStream::connect(world.http).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get(path).header("host", "x.com").body(Full::<Bytes>::default()).unwrap();
        let whole = async { sender.send_request(request).await?.collect().await };
        assert!(whole.await.is_err(), "{path}");
    }
}

#[tokio::test]
async fn what_is_no_proper_request_is_refused_and_others_go_on() {
    let api = api();
    service(&api, "a", &[echo("a").await], None);
    ingress(&api, "x", json!(null), json!({"rules": [rule("x.com", &[("Prefix", "/", "a")])]}));
    let world = World::start(api).await;
    let large = format!("GET / HTTP/1.1\r\nhost: x.com\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\nhost: x.com\r\n{}\r\n", "x: y\r\n".repeat(200));
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: a.com\r\nhost: x.com\r\n\r\n", "400"),
        ("CONNECT x.com:80 HTTP/1.1\r\nhost: x.com\r\n\r\n", "405"),
        ("nonsense\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: x.com\r\nbad header\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nhost: x.com\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello", "400"),
        (&large, "431"),
        (&many, "431"),
    ] {
        let mut stream = TcpStream::connect(world.http).await.unwrap();
        // It may be refused before all of it was sent.
        _ = stream.write_all(request.as_bytes()).await;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), format!("HTTP/1.1 {status}"), "{:.60}", request);
    }
    assert_eq!(world.get("x.com", "/").await.served_by(), "a");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_and_the_other_one_served() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    let api = api();
    let mut informers = kiln_client::Informers::new(api.client());
    let shutdown = tokio_util::sync::CancellationToken::new();
    let config = Config { http_port: port, tell: Arc::new(move |port| _ = sender.send(port)), ..config() };
    let running = kiln_ingress::build(&mut informers, config, shutdown.clone()).unwrap();
    tokio::spawn(informers.run(shutdown.clone()));
    tokio::spawn(running);
    let told = [told.recv().await.unwrap(), told.recv().await.unwrap()];
    assert!(told.iter().any(|told| matches!(told, Listening::Https(_))), "{told:?}");
    let failed = told.iter().find_map(|told| match told {
        Listening::Failed(error @ IngressError::Listen { port: which, .. }) => Some((*which, error.to_string())),
        _ => None,
    });
    let (which, text) = failed.unwrap();
    assert!(which == port && text.contains(&format!("port {port}")), "{text}");
    shutdown.cancel();
}

#[tokio::test]
async fn a_request_under_way_is_answered_when_the_ingress_ends() {
    let (ask, mut asked) = tokio::sync::mpsc::unbounded_channel();
    let go = Arc::new(tokio::sync::Notify::new());
    let wait = go.clone();
    let address = pod(move |mut stream| {
        let (ask, wait) = (ask.clone(), wait.clone());
        async move {
            _ = stream.read(&mut [0; 4096]).await;
            ask.send(()).unwrap();
            wait.notified().await;
            _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    });
    let api = api();
    service(&api, "a", &[address.await], None);
    ingress(&api, "x", json!(null), json!({"rules": [rule("x.com", &[("Prefix", "/", "a")])]}));
    let world = World::start(api).await;
    let request = Request::get("/").header("host", "x.com").body(Full::<Bytes>::default()).unwrap();
    let asking = world.send(request);
    let ending = async {
        asked.recv().await.unwrap();
        world.shutdown.cancel();
        go.notify_one();
    };
    let (reply, ()) = tokio::join!(asking, ending);
    assert_eq!((reply.status.as_u16(), reply.text.as_str()), (200, "ok"));
}
