//! Copies of requests, by filters of HTTPRoutes: the scenarios of the conformance tests for them.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::gateways::{ask, route, to, until, world};
use crate::support::{LONG, Reply, World, nowhere, pod, seen, service};

/// A pod that shows here what it saw, and answers that with nothing but a status.
async fn witness() -> (SocketAddr, mpsc::UnboundedReceiver<Value>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let address = pod(move |stream| {
        let sender = sender.clone();
        async move {
            let service = service_fn(move |request| {
                let sender = sender.clone();
                async move {
                    let text = seen("copies".to_owned(), request).await?.into_body().collect().await?.to_bytes();
                    _ = sender.send(serde_json::from_slice(&text).unwrap());
                    Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(Bytes::from_static(b"a copy"))))
                }
            });
            _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        }
    });
    (address.await, receiver)
}

fn mirror(service: &str, part: Value) -> Value {
    let mut mirror = json!({"backendRef": {"name": service, "port": 8080}});
    mirror.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
    json!({"type": "RequestMirror", "requestMirror": mirror})
}

fn rule(path: &str, filters: &[Value]) -> Value {
    json!({"matches": [{"path": {"type": "PathPrefix", "value": path}}], "filters": filters, "backendRefs": to("web")})
}

async fn post(world: &World, path: &str, body: &Bytes) -> Reply {
    world.send(Request::post(path).header("host", "a.com").body(Full::new(body.clone())).unwrap()).await
}

#[tokio::test]
async fn copies_of_requests_go_where_a_rule_has_them_go() {
    let world = world(&["web"]).await;
    let (address, mut first) = witness().await;
    service(&world.api, "first", &[address], None);
    let (address, mut second) = witness().await;
    service(&world.api, "second", &[address], None);
    let set =
        json!({"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-set", "value": "1"}]}});
    let rewrite = json!({"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/b"}}});
    let rules = json!([
        rule("/none", &[mirror("first", json!({"percent": 0}))]),
        rule("/few", &[mirror("first", json!({"fraction": {"numerator": 0, "denominator": 1000}}))]),
        rule("/missing", &[mirror("missing", json!({}))]),
        rule("/a", &[set, rewrite, mirror("first", json!({"percent": 100})), mirror("second", json!({}))]),
    ]);
    route(&world.api, "mirrors", json!({"rules": rules}));
    for path in ["/none", "/few", "/missing"] {
        until(&world, "a.com", path, "web").await;
    }
    let body = Bytes::from("x".repeat(100_000));
    for (target, expected) in [("GET /a/x?q=1", ""), ("POST /a/x?q=1", str::from_utf8(&body).unwrap())] {
        let (method, target) = target.split_once(' ').unwrap();
        let reply = if expected.is_empty() {
            ask(&world, "a.com", target, &[]).await
        } else {
            post(&world, target, &body).await
        };
        let shown = reply.echo();
        assert_eq!(shown["service"], "web", "the answer is not that of a mirror");
        for copies in [&mut first, &mut second] {
            let copy = tokio::time::timeout(LONG, copies.recv()).await.unwrap().unwrap();
            let told = (copy["method"].as_str(), copy["target"].as_str(), copy["headers"]["x-set"].as_str());
            assert_eq!(told, (Some(method), Some("/b/x?q=1"), Some("1")));
            assert_eq!(copy["headers"], shown["headers"], "what the endpoint gets");
            assert!(copy["body"] == expected, "{target}: another body");
        }
    }
    assert!(first.try_recv().is_err() && second.try_recv().is_err(), "no request has two");
}

#[tokio::test]
async fn nobody_waits_for_who_takes_no_copy() {
    let world = world(&["web"]).await;
    service(&world.api, "down", &[nowhere().await], None);
    // Takes connections, and reads nothing from them.
    let silent = pod(|stream| async move {
        let _stream = stream;
        std::future::pending().await
    });
    service(&world.api, "silent", &[silent.await], None);
    let rules = [rule("/", &[mirror("down", json!({})), mirror("silent", json!({}))])];
    route(&world.api, "mirrors", json!({"rules": rules}));
    until(&world, "a.com", "/", "web").await;
    // More than lies in sockets on the way.
    let body = Bytes::from(vec![b'x'; 32 << 20]);
    let reply = tokio::time::timeout(LONG, post(&world, "/", &body)).await.unwrap();
    assert_eq!(reply.echo()["body"].as_str().map(str::len), Some(body.len()));
}
