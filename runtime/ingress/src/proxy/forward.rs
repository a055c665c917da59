//! A request on its way to an endpoint: which is tried, and what is tried again.

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Body as _;
use hyper::upgrade::OnUpgrade;

use super::answers::Refusal;
use super::body::{RequestBody, ResponseBody, Stall};
use super::target::Target;
use super::{Proxy, choose, headers, tunnel};
use crate::routes::Route;
use crate::upstream::{Answer, Backend, Endpoint, Exchange, Outgoing, UpstreamError, ready_h2, request_head, send_h2};

/// A request whose headers are ready for the endpoint.
pub(super) struct Forward<'a> {
    pub(super) proxy: &'a Proxy,
    pub(super) route: &'a Route,
    pub(super) parts: Parts,
    /// Path and query for the endpoint.
    pub(super) target: Target,
    pub(super) body: RequestBody,
    /// What the client wants the connection to become, and its half of it.
    pub(super) upgrade: Option<(HeaderValue, OnUpgrade)>,
    /// The Service that it goes to, where that is not left to the route's weights.
    pub(super) backend: Option<&'a Arc<Backend>>,
}

/// How the body is told of in a head of HTTP/1.1.
enum Framing {
    None,
    Length,
    Chunked,
}

impl Forward<'_> {
    /// Tries endpoints until one takes the request.
    pub(super) async fn run(self, taken: &mut Option<Arc<Backend>>) -> Result<Response<ResponseBody>, Refusal> {
        let kept = if self.backend.is_none() { choose::kept(self.route, &self.parts.headers) } else { None };
        let (backend, mut kept) = match (kept, self.backend) {
            (_, Some(backend)) => (backend.clone(), None),
            (Some((backend, endpoint)), _) => (backend, Some(endpoint)),
            (None, None) => {
                (choose::backend(self.route, &self.parts.headers).ok_or(Refusal::NoEndpoint)?.clone(), None)
            }
        };
        *taken = Some(backend.clone());
        let is_new_client = self.route.settings.affinity.is_some() && kept.is_none();
        let mut tried: Vec<SocketAddr> = Vec::new();
        let mut failure = None;
        for _ in 0..self.route.settings.tries {
            let Some(endpoint) = kept.take().or_else(|| backend.pick(&tried)) else { break };
            let connected = match self.connect(&endpoint).await {
                Ok(connected) => connected,
                Err(error) => {
                    tracing::debug!(%error, endpoint = %endpoint.address(), "can't connect to an endpoint");
                    tried.push(endpoint.address());
                    failure = Some(error);
                    continue;
                }
            };
            let cookie = (is_new_client || !tried.is_empty()).then(|| self.cookie(&endpoint)).flatten();
            let address = endpoint.address();
            let sent = match connected {
                Connected::Http1(io, is_used) => self.http1(io, is_used, &endpoint).await,
                Connected::Http2(sender) => self.http2(sender).await,
            };
            return match sent {
                Ok(mut response) => {
                    if let Some(cookie) = cookie {
                        response.headers_mut().append(header::SET_COOKIE, cookie);
                    }
                    Ok(response)
                }
                Err(error) => {
                    tracing::debug!(%error, endpoint = %address, "an endpoint gave no answer");
                    Err(Refusal::from(&error))
                }
            };
        }
        Err(failure.map_or(Refusal::NoEndpoint, |error| Refusal::from(&error)))
    }

    /// The cookie that leads the client back to this endpoint.
    fn cookie(&self, endpoint: &Endpoint) -> Option<HeaderValue> {
        let affinity = self.route.settings.affinity.as_ref()?;
        HeaderValue::try_from([&*affinity.cookie, "=", &endpoint.mark(), &affinity.attributes].concat()).ok()
    }

    async fn connect(&self, endpoint: &Arc<Endpoint>) -> Result<Connected, UpstreamError> {
        let (connector, within) = (&self.proxy.connector, self.route.settings.connect_timeout);
        if endpoint.protocol().is_h2() {
            return ready_h2(endpoint, connector, within).await.map(Connected::Http2);
        }
        if let Some(io) = endpoint.take() {
            return Ok(Connected::Http1(io, true));
        }
        let io = connector.connect(endpoint, within).await.map_err(UpstreamError::Connect)?;
        Ok(Connected::Http1(io, false))
    }

    async fn http1(
        self,
        mut io: crate::io::Io,
        is_used: bool,
        endpoint: &Arc<Endpoint>,
    ) -> Result<Response<ResponseBody>, UpstreamError> {
        let Self { proxy, route, parts, target, body, upgrade, .. } = self;
        let settings = &route.settings;
        let framing = match (body.is_end_stream(), parts.headers.contains_key(header::CONTENT_LENGTH)) {
            (true, _) => Framing::None,
            (false, true) => Framing::Length,
            (false, false) => Framing::Chunked,
        };
        let mut rest_of_head = String::new();
        if let Some((wanted, _)) = &upgrade {
            let wanted = wanted.to_str().unwrap_or_default();
            rest_of_head = ["connection: upgrade\r\nupgrade: ", wanted, "\r\n"].concat();
        }
        if matches!(framing, Framing::Chunked) {
            rest_of_head.push_str("transfer-encoding: chunked\r\n");
        }
        let head = || request_head(&parts.method, &target, &parts.headers, &rest_of_head);
        // The endpoint may have closed a connection that waited at the moment it was used. What has no body and may be done twice is
        // then sent again, over a new one.
        let mut again = is_used && matches!(framing, Framing::None) && is_idempotent(&parts.method);
        let mut body = (!matches!(framing, Framing::None)).then_some(body);
        loop {
            let head = head();
            let outgoing = Outgoing::new(head, body.take(), matches!(framing, Framing::Chunked));
            let exchange = Exchange::new(io, outgoing, parts.method == Method::HEAD);
            match exchange.run(endpoint, settings.read_timeout, settings.idle_timeout).await {
                Ok(answer) => return Ok(hand_on(answer, upgrade, settings.idle_timeout)),
                Err(failed) => {
                    let is_closed = failed.is_silent && matches!(failed.error, UpstreamError::Broken(_));
                    if !std::mem::take(&mut again) || !is_closed {
                        return Err(failed.error);
                    }
                    let connecting = proxy.connector.connect(endpoint, settings.connect_timeout);
                    io = connecting.await.map_err(UpstreamError::Connect)?;
                }
            }
        }
    }

    async fn http2(self, sender: crate::upstream::Shared) -> Result<Response<ResponseBody>, UpstreamError> {
        let Self { route, mut parts, target, body, .. } = self;
        let settings = &route.settings;
        let host = parts.headers.remove(header::HOST);
        let authority = host.as_ref().and_then(|host| host.to_str().ok()).filter(|host| !host.is_empty());
        let uri = Uri::builder().scheme("http").authority(authority.unwrap_or("localhost")).path_and_query(&*target);
        parts.uri = uri.build().map_err(|_| UpstreamError::Malformed("its host can't be told in HTTP/2"))?;
        parts.version = Version::HTTP_2;
        if is_grpc(&parts.headers) {
            // Servers of gRPC insist on it.
            parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        parts.extensions.clear();
        let request = Request::from_parts(parts, body);
        let answer = tokio::time::timeout(settings.read_timeout, send_h2(sender, request)).await;
        let (mut head, body) = answer.map_err(|_| UpstreamError::Timeout)??.into_parts();
        head.version = Version::HTTP_11;
        head.extensions.clear();
        headers::strip(&mut head.headers);
        Ok(Response::from_parts(head, ResponseBody::Http2(body, Box::new(Stall::new(settings.idle_timeout)))))
    }
}

/// A connection that a request can be sent on.
enum Connected {
    /// And whether it was used before.
    Http1(crate::io::Io, bool),
    Http2(crate::upstream::Shared),
}

/// The answer as the client gets it. If the connection is something else now, its two halves are joined.
fn hand_on(
    answer: Answer,
    upgrade: Option<(HeaderValue, OnUpgrade)>,
    idle: std::time::Duration,
) -> Response<ResponseBody> {
    let Answer { mut head, body, upgraded } = answer;
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        match (upgraded, upgrade) {
            (Some((io, rest)), Some((_, client))) => _ = tokio::spawn(tunnel::run(client, io, rest, idle)),
            // Nobody had asked for it.
            _ => head.status = StatusCode::BAD_GATEWAY,
        }
    }
    Response::from_parts(head, ResponseBody::Http1(body))
}

/// Whether doing it twice is the same as once (RFC 9110, 9.2.2).
fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE)
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}
