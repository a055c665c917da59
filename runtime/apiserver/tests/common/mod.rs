//! An API server in this process, in memory, with a clock that stands still.
#![allow(dead_code, clippy::unwrap_used, reason = "each test program uses its own part of these, and may unwrap")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use kiln_apiserver::{ApiServer, Body, Config, UserInfo};
use kiln_storage::Storage;
use serde_json::{Value, json};

pub(crate) struct Api {
    pub(crate) server: ApiServer,
    seconds: Arc<AtomicI64>,
    pub(crate) storage: Arc<dyn Storage>,
}

pub(crate) fn admin() -> UserInfo {
    UserInfo::system("admin")
}

pub(crate) fn user(name: &str) -> UserInfo {
    UserInfo::new(name, &[])
}

pub(crate) fn node(name: &str) -> UserInfo {
    UserInfo::new(format!("system:node:{name}"), &["system:nodes"])
}

/// An answer, read whole.
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) bytes: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The object, of a request that must have succeeded.
    pub(crate) fn good(&self) -> Value {
        assert!((200..300).contains(&self.code), "{}: {}", self.code, self.text());
        self.json()
    }

    /// The causes of a refusal that must be a 422, as `field: message`.
    pub(crate) fn causes(&self) -> Vec<String> {
        assert_eq!(self.code, 422, "{}", self.text());
        let status = self.json();
        let causes = status["details"]["causes"].as_array().unwrap();
        let text = |c: &Value, key: &str| c[key].as_str().unwrap_or_default().to_owned();
        causes.iter().map(|c| format!("{}: {}", text(c, "field"), text(c, "message"))).collect()
    }

    /// What is warned of.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let all = self.headers.get_all("warning").iter().map(|warning| warning.to_str().unwrap());
        all.map(|w| w.strip_prefix("299 - \"").unwrap().strip_suffix('"').unwrap().replace("\\\"", "\"")).collect()
    }

    /// The message, of a request that must have failed with this code.
    pub(crate) fn failed(&self, code: u16) -> String {
        assert_eq!(self.code, code, "{}", self.text());
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }
}

impl Api {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// One whose settings differ.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::on(kiln_storage::memory::open(), change).await
    }

    /// One on a store that may have been used before.
    pub(crate) async fn on(storage: Arc<dyn Storage>, change: impl FnOnce(&mut Config)) -> Self {
        let seconds = Arc::new(AtomicI64::new(0));
        let start: jiff::Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let passed = seconds.clone();
        let clock = move || start + jiff::SignedDuration::from_secs(passed.load(Ordering::Relaxed));
        let mut config = Config { clock: Arc::new(clock), ca_pem: "PEM".into(), ..Config::default() };
        change(&mut config);
        let server = ApiServer::build(config, storage.clone()).await.unwrap();
        Self { server, seconds, storage }
    }

    /// Lets time pass on the server's clock.
    pub(crate) fn advance(&self, seconds: i64) {
        self.seconds.fetch_add(seconds, Ordering::Relaxed);
    }

    pub(crate) async fn raw(
        &self,
        user: UserInfo,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.server.call(user, request.body(body.into()).unwrap()).await
    }

    pub(crate) async fn send(
        &self,
        user: UserInfo,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        read(self.raw(user, method, path, headers, body).await).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(admin(), "GET", path, &[], Value::Null).await
    }

    /// The cells of the first row of a table, by column.
    pub(crate) async fn row(&self, path: &str) -> Value {
        let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
        let table = self.send(admin(), "GET", path, &accept, Value::Null).await.good();
        let columns = table["columnDefinitions"].as_array().unwrap().iter();
        let cells = table["rows"][0]["cells"].as_array().unwrap();
        assert_eq!(columns.len(), cells.len());
        let row: serde_json::Map<String, Value> =
            columns.zip(cells).map(|(c, cell)| (c["name"].as_str().unwrap().to_owned(), cell.clone())).collect();
        row.into()
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(admin(), "POST", path, &[], body).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(admin(), "PUT", path, &[], body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(admin(), "DELETE", path, &[], Value::Null).await
    }

    pub(crate) async fn patch(&self, kind: &str, path: &str, body: Value) -> Answer {
        self.send(admin(), "PATCH", path, &[("content-type", &format!("application/{kind}-patch+json"))], body).await
    }

    pub(crate) async fn watch(&self, path: &str) -> Watch {
        let response = self.raw(admin(), "GET", path, &[], "").await;
        assert_eq!(response.status(), 200);
        Watch { body: response.into_body(), rest: Vec::new() }
    }

    /// A request with a bearer token, as from a connection.
    pub(crate) async fn with_token(
        &self,
        token: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> Answer {
        let mut request =
            Request::builder().method(method).uri(path).header("authorization", format!("Bearer {token}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(self.server.handle(None, request.body(body.to_string().into()).unwrap()).await).await
    }
}

pub(crate) async fn read(response: Response<Body>) -> Answer {
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer { code: parts.status.as_u16(), headers: parts.headers, bytes }
}

/// The lines of a watch.
pub(crate) struct Watch {
    body: Body,
    rest: Vec<u8>,
}

impl Watch {
    /// The next event; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(at) = self.rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=at).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = self.body.frame().await?.unwrap();
            self.rest.extend_from_slice(&frame.into_data().unwrap());
        }
    }

    /// Type and name of the next event.
    pub(crate) async fn brief(&mut self) -> String {
        let event = self.next().await.expect("another event");
        format!("{} {}", event["type"].as_str().unwrap(), event["object"]["metadata"]["name"].as_str().unwrap_or("-"))
    }
}

pub(crate) const MAPS: &str = "/api/v1/namespaces/default/configmaps";

pub(crate) fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"k": "v"}})
}

pub(crate) fn labelled(name: &str, label: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"l": label}}})
}

pub(crate) fn revision(object: &Value) -> i64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

pub(crate) fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|o| o["metadata"]["name"].as_str().unwrap()).collect()
}

pub(crate) fn b64(text: &str) -> String {
    STANDARD.encode(text)
}
