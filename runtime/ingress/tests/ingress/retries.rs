//! Requests that are sent again, as a rule of an HTTPRoute has it.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use crate::gateways::{route, until, world};
use crate::support::{pod, service};

/// How often each path was asked for.
type Asked = Arc<Mutex<HashMap<String, u32>>>;

/// A pod that fails so often as `x-failures` says, with the status `x-status`; without one it breaks the connection. Then it is well.
async fn failing() -> (SocketAddr, Asked) {
    let asked = Asked::default();
    let counting = asked.clone();
    let address = pod(move |stream| {
        let asked = counting.clone();
        async move {
            let answer = service_fn(move |request: Request<Incoming>| {
                let number =
                    |name| request.headers().get(name).map(|value| value.to_str().unwrap().parse::<u16>().unwrap());
                let count = {
                    let mut asked = asked.lock().unwrap();
                    let count = asked.entry(request.uri().path().to_owned()).or_default();
                    *count += 1;
                    *count
                };
                let fails = count <= u32::from(number("x-failures").unwrap_or(0));
                let status = if fails { number("x-status") } else { Some(200) };
                std::future::ready(match status {
                    Some(status) => {
                        let text = json!({"service": "failing"}).to_string();
                        Ok(Response::builder().status(status).body(Full::new(Bytes::from(text))).unwrap())
                    }
                    None => Err(io::Error::other("broken off")),
                })
            });
            _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        }
    });
    (address.await, asked)
}

#[tokio::test]
async fn what_has_no_answer_or_a_named_one_is_sent_again() {
    let world = world(&[]).await;
    let (address, asked) = failing().await;
    service(&world.api, "failing", &[address], None);
    let rule = |path: &str, retry: Value| {
        let to = json!([{"name": "failing", "port": 8080}]);
        json!({"matches": [{"path": {"type": "PathPrefix", "value": path}}], "retry": retry, "backendRefs": to})
    };
    let rules = json!([
        rule("/twice", json!({"codes": [500, 503], "attempts": 2, "backoff": "1ms"})),
        rule("/once", json!({"codes": [503]})),
        rule("/never", json!({"codes": [503], "attempts": 0})),
    ]);
    route(&world.api, "retries", json!({"rules": rules}));
    until(&world, "a.com", "/once", "failing").await;
    // Rows: path, method and body; failures and their status, if any; the answer's status, and how many requests the pod had.
    for (path, body, failures, status, expected) in [
        ("/twice/1", "", "0", "503", (200, 1)),
        ("/twice/2", "", "2", "503", (200, 3)),
        ("/twice/3", "", "2", "500", (200, 3)),
        ("/twice/4", "", "3", "503", (503, 3)),
        ("/twice/5", "", "2", "502", (502, 1)),
        ("/twice/6", "", "2", "", (200, 3)),
        ("/once/1", "", "2", "503", (503, 2)),
        ("/once/2", "", "1", "503", (200, 2)),
        ("/never/1", "", "1", "503", (503, 1)),
        ("/twice/7", "a body", "1", "503", (503, 1)),
    ] {
        let method = if body.is_empty() { "GET" } else { "POST" };
        let mut request =
            Request::builder().method(method).uri(path).header("host", "a.com").header("x-failures", failures);
        if !status.is_empty() {
            request = request.header("x-status", status);
        }
        let reply = world.send(request.body(Full::from(body)).unwrap()).await;
        assert_eq!((reply.status.as_u16(), asked.lock().unwrap()[path]), expected, "{path}");
    }
}
