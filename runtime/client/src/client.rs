//! The verbs of the API.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use kiln_apimachinery::{Reason, Status};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::decode::from_json;
use crate::error::{ClientError, chain};
use crate::transport::{Body, BoxFuture, Transport};
use crate::watch::{RawEvents, WatchStream};

/// How long a request that is no watch may take, unless the client was told otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The most bytes of an answer that are read.
const MAX_ANSWER: usize = 256 << 20;
const JSON: &str = "application/json";
/// Objects asked for at once when everything is listed.
const PAGE: u32 = 500;

/// A client of the API. Cloning it is cheap and shares the connection.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
    timeout: Duration,
}

/// How a patch's body is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchKind<'a> {
    /// RFC 6902: a list of operations.
    Json,
    /// RFC 7386: the fields to set, with null for those to remove.
    Merge,
    /// Kubernetes' own: as a merge, with lists merged by their keys.
    Strategic,
    /// Server-side apply by this field manager, which takes the fields over from others.
    Apply(&'a str),
}

/// What of a collection to list or watch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListParams {
    /// Label selector; empty for all.
    pub labels: String,
    /// Field selector; empty for all.
    pub fields: String,
}

/// A listed collection.
#[derive(Debug, Clone)]
pub struct List<T> {
    /// Its objects.
    pub items: Vec<T>,
    /// The revision to watch from.
    pub resource_version: String,
}

impl Client {
    /// A client over a transport.
    pub fn new(transport: impl Transport + 'static) -> Self {
        Self { transport: Arc::new(transport), timeout: TIMEOUT }
    }

    /// The same client with another limit on the time of a request that is no watch.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The object at a path.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        decode(self.exchange(build(Method::GET, path, None)?).await?)
    }

    /// The object at a path, or `None` if there is none.
    pub async fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, ClientError> {
        match self.exchange(build(Method::GET, path, None)?).await {
            Ok(answer) => decode(answer).map(Some),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The whole collection at a path, fetched in pages of one state.
    pub async fn list<T: DeserializeOwned + Send>(
        &self,
        path: &str,
        params: &ListParams,
    ) -> Result<List<T>, ClientError> {
        let mut items = Vec::new();
        let mut take = |json: &[u8]| from_json(json).map(|item| items.push(item));
        let resource_version = self.list_each(path, params, &mut take).await?;
        Ok(List { items, resource_version })
    }

    /// Hands out the JSON of each object of a collection; answers the revision to watch from. For objects of every type this is
    /// the same code.
    pub(crate) fn list_each<'a>(
        &'a self,
        path: &'a str,
        params: &'a ListParams,
        take: &'a mut (dyn FnMut(&[u8]) -> serde_json::Result<()> + Send),
    ) -> BoxFuture<'a, Result<String, ClientError>> {
        Box::pin(async move {
            let mut next = String::new();
            loop {
                let (request, bytes) = self.exchange(build(Method::GET, &page_path(path, params, next), None)?).await?;
                let unreadable = |error: serde_json::Error| ClientError::Decode { request, why: error.to_string() };
                let page = read_page(&bytes, take).map_err(unreadable)?;
                next = page.next.unwrap_or_default();
                if next.is_empty() {
                    return Ok(page.resource_version);
                }
            }
        })
    }

    /// Adds an object to the collection at a path.
    pub async fn create<T: DeserializeOwned>(&self, path: &str, object: &impl Serialize) -> Result<T, ClientError> {
        decode(self.exchange(build(Method::POST, path, Some((JSON, encode(path, object)?)))?).await?)
    }

    /// Replaces the object at a path. If it carries a `resourceVersion`, that must be the current one.
    pub async fn update<T: DeserializeOwned>(&self, path: &str, object: &impl Serialize) -> Result<T, ClientError> {
        decode(self.exchange(build(Method::PUT, path, Some((JSON, encode(path, object)?)))?).await?)
    }

    /// Changes a part of the object at a path.
    pub async fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        kind: PatchKind<'_>,
        patch: &impl Serialize,
    ) -> Result<T, ClientError> {
        decode(self.exchange(build_patch(path, kind, encode(path, patch)?)?).await?)
    }

    /// Deletes the object at a path. `options` is a `DeleteOptions` object, or null. Answers the object as it is being
    /// deleted, or a `Status`.
    pub async fn delete(&self, path: &str, options: &Value) -> Result<Value, ClientError> {
        let body = if options.is_null() { None } else { Some((JSON, encode(path, options)?)) };
        decode(self.exchange(build(Method::DELETE, path, body)?).await?)
    }

    /// The changes of the collection at a path after a revision, with bookmarks. The server ends the stream after
    /// about `limit`.
    pub async fn watch<T: DeserializeOwned>(
        &self,
        path: &str,
        params: &ListParams,
        resource_version: &str,
        limit: Duration,
    ) -> Result<WatchStream<T>, ClientError> {
        self.watch_raw(path, params, resource_version, limit).await.map(WatchStream::new)
    }

    /// As [`Self::watch`], of objects as JSON.
    pub(crate) fn watch_raw<'a>(
        &'a self,
        path: &str,
        params: &ListParams,
        resource_version: &str,
        limit: Duration,
    ) -> BoxFuture<'a, Result<RawEvents, ClientError>> {
        let path = watch_path(path, params, resource_version, limit);
        Box::pin(async move {
            let name = format!("GET {path}");
            let request = build(Method::GET, &path, None)?;
            let answer = tokio::time::timeout(self.timeout, self.accepted(request, &name));
            let answer = answer.await.map_err(|_| ClientError::Timeout { request: name.clone() })??;
            Ok(RawEvents::new(name, answer.into_body()))
        })
    }

    /// Sends a request of the caller's making, for what the other methods do not do, and reads the whole answer.
    pub async fn send<T: DeserializeOwned>(&self, request: Request<Bytes>) -> Result<T, ClientError> {
        decode(self.exchange(request).await?)
    }

    /// What the request is called, and the whole answer to it. Boxed, so that callers of every type share it.
    fn exchange(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<(String, Bytes), ClientError>> {
        Box::pin(async move {
            let name = format!("{} {}", request.method(), request.uri());
            let exchange = async { collect(&name, self.accepted(request, &name).await?.into_body()).await };
            match tokio::time::timeout(self.timeout, exchange).await {
                Ok(answer) => answer.map(|bytes| (name, bytes)),
                Err(_) => Err(ClientError::Timeout { request: name }),
            }
        })
    }

    /// The answer, if it is a success.
    async fn accepted(&self, request: Request<Bytes>, name: &str) -> Result<Response<Body>, ClientError> {
        let answer = self.transport.send(request).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let code = answer.status();
        let bytes = collect(name, answer.into_body()).await?;
        Err(refusal(code, &bytes).into())
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl ListParams {
    fn query(&self) -> Vec<(&'static str, String)> {
        let selectors = [("labelSelector", &self.labels), ("fieldSelector", &self.fields)];
        selectors.into_iter().filter(|(_, text)| !text.is_empty()).map(|(name, text)| (name, text.clone())).collect()
    }
}

/// A list as the server sends it, its objects unread.
#[derive(serde::Deserialize)]
struct Page<'a> {
    #[serde(default)]
    metadata: PageMetadata,
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PageMetadata {
    resource_version: String,
    #[serde(rename = "continue")]
    next: Option<String>,
}

/// Hands out the objects of a page; answers what is said of the list.
fn read_page(
    bytes: &[u8],
    take: &mut (dyn FnMut(&[u8]) -> serde_json::Result<()> + Send),
) -> serde_json::Result<PageMetadata> {
    let page: Page<'_> = serde_json::from_slice(bytes)?;
    for item in page.items.unwrap_or_default() {
        take(item.get().as_bytes())?;
    }
    Ok(page.metadata)
}

/// The object in the answer to a request of this name.
fn decode<T: DeserializeOwned>((request, bytes): (String, Bytes)) -> Result<T, ClientError> {
    from_json(&bytes).map_err(|error| ClientError::Decode { request, why: error.to_string() })
}

fn encode(path: &str, object: &impl Serialize) -> Result<Bytes, ClientError> {
    let encoded = serde_json::to_vec(object);
    encoded.map(Bytes::from).map_err(|e| ClientError::Request { request: path.to_owned(), why: e.to_string() })
}

fn build_patch(path: &str, kind: PatchKind<'_>, body: Bytes) -> Result<Request<Bytes>, ClientError> {
    let (content_type, path) = match kind {
        PatchKind::Json => ("application/json-patch+json", path.to_owned()),
        PatchKind::Merge => ("application/merge-patch+json", path.to_owned()),
        PatchKind::Strategic => ("application/strategic-merge-patch+json", path.to_owned()),
        PatchKind::Apply(manager) => {
            let query = [("fieldManager", manager.to_owned()), ("force", "true".to_owned())];
            ("application/apply-patch+yaml", with_query(path, &query))
        }
    };
    build(Method::PATCH, &path, Some((content_type, body)))
}

fn build(method: Method, path: &str, body: Option<(&'static str, Bytes)>) -> Result<Request<Bytes>, ClientError> {
    let mut request = Request::builder().method(method).uri(path).header(header::ACCEPT, "application/json");
    let mut bytes = Bytes::new();
    if let Some((content_type, body)) = body {
        request = request.header(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        bytes = body;
    }
    request.body(bytes).map_err(|error| ClientError::Request { request: path.to_owned(), why: error.to_string() })
}

async fn collect(request: &str, mut body: Body) -> Result<Bytes, ClientError> {
    // What is announced is made room for at once, for growing step by step would copy a long list several times.
    let announced = body.size_hint().exact().and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
    let mut whole = BytesMut::with_capacity(announced.min(MAX_ANSWER));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ClientError::Connect { server: request.to_owned(), why: chain(&*error) })?;
        if let Ok(data) = frame.into_data() {
            if whole.len() + data.len() > MAX_ANSWER {
                let why = format!("it has more than {MAX_ANSWER} bytes");
                return Err(ClientError::Decode { request: request.to_owned(), why });
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(whole.freeze())
}

/// The refusal in an answer: its `Status`, or one made of what came instead (a proxy's page, say).
fn refusal(code: http::StatusCode, bytes: &[u8]) -> Status {
    let sent = serde_json::from_slice::<Value>(bytes).ok().filter(|value| value["kind"] == "Status");
    if let Some(mut status) = sent.and_then(|value| serde_json::from_value::<Status>(value).ok()) {
        if status.code == 0 {
            status.code = code.as_u16();
        }
        return status;
    }
    let text: String = String::from_utf8_lossy(bytes).chars().take(200).collect();
    let reasons = [
        Reason::Unauthorized,
        Reason::Forbidden,
        Reason::NotFound,
        Reason::Conflict,
        Reason::Expired,
        Reason::TooManyRequests,
        Reason::ServiceUnavailable,
    ];
    let reason = reasons.into_iter().find(|reason| reason.code() == code.as_u16());
    Status {
        status: "Failure".to_owned(),
        message: format!("the server answered {code}: {}", text.trim()),
        reason: reason.map_or("", Reason::as_str).to_owned(),
        code: code.as_u16(),
        ..Status::default()
    }
}

fn page_path(path: &str, params: &ListParams, next: String) -> String {
    let mut query = params.query();
    query.push(("limit", PAGE.to_string()));
    if !next.is_empty() {
        query.push(("continue", next));
    }
    with_query(path, &query)
}

fn watch_path(path: &str, params: &ListParams, resource_version: &str, limit: Duration) -> String {
    let mut query = params.query();
    query.extend([
        ("watch", "1".to_owned()),
        ("allowWatchBookmarks", "true".to_owned()),
        ("resourceVersion", resource_version.to_owned()),
        ("timeoutSeconds", limit.as_secs().max(1).to_string()),
    ]);
    with_query(path, &query)
}

/// Adds a query to a path that may already have one.
/// A path or URL with a query behind it, or with more of it behind the one that it has.
pub fn with_query(path: &str, query: &[(&str, String)]) -> String {
    let mut whole = BytesMut::from(path.as_bytes());
    let mut separator = if path.contains('?') { b'&' } else { b'?' };
    for (name, value) in query {
        whole.extend_from_slice(&[separator]);
        whole.extend_from_slice(name.as_bytes());
        whole.extend_from_slice(b"=");
        for byte in value.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => whole.extend_from_slice(&[byte]),
                _ => whole.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            }
        }
        separator = b'&';
    }
    String::from_utf8_lossy(&whole).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_escaped_in_the_query() {
        let params = ListParams { labels: "a in (b,c),d!=e".to_owned(), fields: String::new() };
        assert_eq!(
            with_query("/api/v1/pods", &params.query()),
            "/api/v1/pods?labelSelector=a%20in%20%28b%2Cc%29%2Cd%21%3De"
        );
        assert_eq!(with_query("/x?a=1", &[("b", "2".to_owned())]), "/x?a=1&b=2");
    }

    #[test]
    fn an_answer_that_no_api_server_sent_is_still_an_error_one_can_act_on() {
        let status = refusal(http::StatusCode::SERVICE_UNAVAILABLE, b"<html>try later</html>");
        assert_eq!(status.message, "the server answered 503 Service Unavailable: <html>try later</html>");
        assert!(ClientError::from(status).is_transient());
    }
}
