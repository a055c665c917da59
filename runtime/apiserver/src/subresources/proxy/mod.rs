//! Passes a request on to something on a node: over one stream for each request, with or without an upgrade. In go the
//! request as it came and where it is to go, out comes the answer of whatever is there.

mod html;
mod location;
mod tls;

use ::http::header::{
    AUTHORIZATION, CONNECTION, HOST, HeaderName, LOCATION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use ::http::request::Parts;
use ::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use kiln_apimachinery::{Reason, Status};
use tokio_util::sync::CancellationToken;

use crate::audit::Peer;
use crate::dialer::{DialError, Io, Stream, Target};
use crate::http::body::{Body, Upload, full};
use crate::verbs::Cx;

pub(super) use location::{Scheme, rest, split};

/// What says something about one connection, and not about the request.
pub(crate) const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Headers by which answers would let scripts of other origins read what they could not read here.
const CORS: [&str; 4] = [
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
];

/// Where a request goes.
pub(super) struct Backend<'a> {
    /// The node that leads there.
    pub(super) node: &'a str,
    /// What on it.
    pub(super) target: Target<'a>,
    /// How it is spoken to.
    pub(super) scheme: Scheme,
    /// Path and query there.
    pub(super) uri: String,
}

/// Opens a stream to the backend.
async fn dial(cx: &Cx<'_>, backend: &Backend<'_>) -> Result<Stream, Status> {
    let dialled = cx.server.dialer().dial(backend.node, backend.target).await;
    let unavailable = |why: String| Status::failure(Reason::ServiceUnavailable, why);
    let stream = dialled.map_err(|error| match (error, backend.target) {
        (DialError::Unreachable(why), _) => unavailable(why),
        (DialError::Refused(why), Target::Address(_)) => unavailable(format!("error trying to reach service: {why}")),
        (DialError::Refused(why), Target::Kubelet) => Status::internal(format!("error dialing backend: {why}")),
    })?;
    match (backend.scheme, backend.target) {
        (Scheme::Https, Target::Address(address)) => tls::unverified(stream, address)
            .await
            .map_err(|why| unavailable(format!("error trying to reach service: {why}"))),
        _ => Ok(stream),
    }
}

/// Sends a request over a stream of its own. Both bodies flow as fast as whoever gets them reads, as long as they like.
pub(crate) async fn send(stream: Stream, request: Request<Body>) -> Result<Response<Incoming>, hyper::Error> {
    let (mut sender, connection) =
        hyper::client::conn::http1::Builder::new().preserve_header_case(true).handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a proxied connection broke");
        }
    });
    sender.send_request(request).await
}

/// Asks the kubelet of a node for something, in the server's own name.
pub(crate) async fn ask_kubelet(cx: &Cx<'_>, node: &str, uri: String) -> Result<Response<Incoming>, Status> {
    let backend = Backend { node, target: Target::Kubelet, scheme: Scheme::Http, uri };
    let stream = dial(cx, &backend).await?;
    let request = Request::get(backend.uri.as_str()).header(HOST, node).body(full(""));
    let request = request.map_err(Status::internal)?;
    send(stream, request).await.map_err(Status::internal)
}

/// What the client asked an upgrade by, if it did.
pub(crate) fn upgrade(parts: &Parts) -> Option<&OnUpgrade> {
    let wants = |v: &HeaderValue| v.to_str().is_ok_and(|t| t.to_ascii_lowercase().contains("upgrade"));
    let asked = parts.headers.get_all(CONNECTION).iter().any(wants) && parts.headers.contains_key(UPGRADE);
    parts.extensions.get::<OnUpgrade>().filter(|_| asked)
}

/// Passes on a request that must be an upgrade.
pub(super) async fn upgraded(cx: &Cx<'_>, backend: &Backend<'_>) -> Result<Response<Body>, Status> {
    let Some(upgrade) = upgrade(cx.parts) else {
        return Err(Status::bad_request("Upgrade request required"));
    };
    through(cx, backend, upgrade).await
}

/// Passes on any request; `public` is the path, as the client knows it, of what is `/` at the backend.
pub(super) async fn any(cx: &Cx<'_>, backend: &Backend<'_>, public: &str) -> Result<Response<Body>, Status> {
    if let Some(upgrade) = upgrade(cx.parts) {
        return through(cx, backend, upgrade).await;
    }
    let path = cx.parts.uri.path();
    if path == public && matches!(cx.parts.method, Method::GET | Method::HEAD) {
        // Relative links would lead astray without the slash.
        let query = cx.parts.uri.query().map(|q| format!("?{q}")).unwrap_or_default();
        let mut response = Response::new(full(""));
        *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
        let to = HeaderValue::from_str(&format!("{path}/{query}")).map_err(Status::internal)?;
        response.headers_mut().insert(LOCATION, to);
        return Ok(response);
    }
    let mut request = outgoing(cx.parts, &cx.body, &backend.uri)?;
    forwarded(cx.parts, request.headers_mut());
    let host = host(cx.parts).to_owned();
    let stream = dial(cx, backend).await?;
    let failed =
        |e: hyper::Error| Status::failure(Reason::ServiceUnavailable, format!("error trying to reach service: {e}"));
    let mut response = send(stream, request).await.map_err(failed)?;
    for name in HOP_BY_HOP {
        response.headers_mut().remove(name);
    }
    for name in CORS {
        response.headers_mut().remove(name);
    }
    let (public, authority) = (public.to_owned(), authority(backend, &host));
    let rewrite = move |to: &str| location::rewritten(to, &public, &authority, &host);
    if let Some(to) = response.headers().get(LOCATION).and_then(|v| v.to_str().ok()) {
        if let Some(to) = rewrite(to).and_then(|t| HeaderValue::from_str(&t).ok()) {
            response.headers_mut().insert(LOCATION, to);
        }
    } else if cx.parts.method != Method::HEAD {
        return Ok(html::rewritten(response, Box::new(rewrite)));
    }
    Ok(response.map(|body| body.map_err(Into::into).boxed()))
}

/// The host that the backend's own links name.
fn authority(backend: &Backend<'_>, host: &str) -> String {
    match backend.target {
        Target::Address(address) => address.to_owned(),
        Target::Kubelet => host.to_owned(),
    }
}

fn host(parts: &Parts) -> &str {
    let named = parts.headers.get(HOST).and_then(|v| v.to_str().ok());
    named.or_else(|| parts.uri.authority().map(|a| a.as_str())).unwrap_or_default()
}

/// Strips what is one connection's, and tells where the client saw what it asked for.
pub(crate) fn forwarded(parts: &Parts, headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    for (name, value) in
        [("x-forwarded-uri", parts.uri.path()), ("x-forwarded-host", host(parts)), ("x-forwarded-proto", "https")]
    {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// The request as the backend gets it: without what identified its sender here.
pub(crate) fn outgoing(parts: &Parts, body: &Bytes, uri: &str) -> Result<Request<Body>, Status> {
    let streamed = parts.extensions.get::<Upload>().and_then(Upload::take);
    let mut request = Request::new(streamed.unwrap_or_else(|| full(body.clone())));
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() =
        uri.parse::<Uri>().map_err(|e| Status::bad_request(format!("the path can't be passed on: {e}")))?;
    let headers = request.headers_mut();
    *headers = parts.headers.clone();
    let secret = |name: &HeaderName| {
        *name == AUTHORIZATION || name.as_str().starts_with("impersonate-") || name.as_str().starts_with("x-remote-")
    };
    let secrets: Vec<HeaderName> = headers.keys().filter(|n| secret(n)).cloned().collect();
    for name in secrets {
        headers.remove(name);
    }
    if let Ok(host) = HeaderValue::from_str(host(parts)) {
        headers.insert(HOST, host);
    }
    if let Some(Peer(address)) = parts.extensions.get::<Peer>() {
        let earlier = headers.get("x-forwarded-for").and_then(|v| v.to_str().ok()).map(|v| format!("{v}, "));
        let chain = format!("{}{}", earlier.unwrap_or_default(), address.to_canonical());
        if let Ok(chain) = HeaderValue::from_str(&chain) {
            headers.insert("x-forwarded-for", chain);
        }
    }
    Ok(request)
}

/// Passes on an upgrade to the backend.
async fn through(cx: &Cx<'_>, backend: &Backend<'_>, upgrade: &OnUpgrade) -> Result<Response<Body>, Status> {
    let request = outgoing(cx.parts, &cx.body, &backend.uri)?;
    let stream = dial(cx, backend).await?;
    switch(stream, request, upgrade, cx.server.watches_end()).await
}

/// Sends a request for an upgrade: once the other side has switched, bytes go both ways until one side ends, or `over`.
pub(crate) async fn switch(
    stream: Stream,
    request: Request<Body>,
    upgrade: &OnUpgrade,
    over: CancellationToken,
) -> Result<Response<Body>, Status> {
    let failed = |e: hyper::Error| Status::internal(format!("error dialing backend: {e}"));
    let response = send(stream, request).await.map_err(failed)?;
    let status = response.status();
    if status != StatusCode::SWITCHING_PROTOCOLS {
        if status.as_u16() < 400 {
            return Err(Status::internal(format!("invalid upgrade response: status code {}", status.as_u16())));
        }
        return Ok(response.map(|body| body.map_err(Into::into).boxed()));
    }
    let mut answer = Response::new(full(""));
    *answer.status_mut() = status;
    *answer.headers_mut() = response.headers().clone();
    let client = upgrade.clone();
    tokio::spawn(async move {
        match tokio::try_join!(client, hyper::upgrade::on(response)) {
            Ok((client, backend)) => splice(TokioIo::new(client), TokioIo::new(backend), over).await,
            Err(error) => tracing::debug!(%error, "an upgrade that was granted did not come about"),
        }
    });
    Ok(answer)
}

/// Carries bytes both ways until one side has ended, or the server does.
async fn splice(client: impl Io, backend: impl Io, over: CancellationToken) {
    let (mut client_read, mut client_write) = tokio::io::split(client);
    let (mut backend_read, mut backend_write) = tokio::io::split(backend);
    let result = tokio::select! {
        ended = tokio::io::copy(&mut client_read, &mut backend_write) => ended,
        ended = tokio::io::copy(&mut backend_read, &mut client_write) => ended,
        () = over.cancelled() => Ok(0),
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a proxied connection broke");
    }
    // What is written but not sent yet must arrive.
    for write in [&mut client_write as &mut (dyn tokio::io::AsyncWrite + Send + Unpin), &mut backend_write] {
        _ = tokio::io::AsyncWriteExt::shutdown(write).await;
    }
}
