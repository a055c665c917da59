//! Answers of the ingress itself.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};

use super::body::{BodyError, ResponseBody};
use crate::upstream::UpstreamError;

/// The answer to an ACME server's challenge.
pub(super) fn proof(answer: String) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::text(answer));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
}

/// The answer to a browser that asks what a script may do.
pub(super) fn preflight(headers: HeaderMap) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::text(""));
    *response.headers_mut() = headers;
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    response
}

/// A request that gets no answer of an endpoint.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It names no host, or several.
    BadHost,
    /// It wants a tunnel to somewhere.
    Connect,
    /// No rule is for it.
    NoRule,
    /// The client is not among those that may.
    Forbidden,
    /// Its body is larger than it may be.
    TooLarge,
    /// The client fell silent in the middle of it.
    ClientTimeout,
    /// The client broke it off, or what it sends is no HTTP.
    ClientGone,
    /// Its Service has no endpoint, or is not there.
    NoEndpoint,
    /// The endpoint can't be reached, or speaks no HTTP.
    BadGateway,
    /// The endpoint does not answer.
    GatewayTimeout,
    /// It is to be sent over TLS, to this URL.
    Redirect(HeaderValue),
    /// It is to be sent to this URL.
    Moved(StatusCode, HeaderValue),
    /// What its rule names is no Service, or none that it may name.
    NoBackend,
}

impl From<&UpstreamError> for Refusal {
    fn from(error: &UpstreamError) -> Self {
        match error {
            UpstreamError::Request(BodyError::TooLarge) => Self::TooLarge,
            UpstreamError::Request(BodyError::Stalled) => Self::ClientTimeout,
            UpstreamError::Request(BodyError::Client(_) | BodyError::Copy) => Self::ClientGone,
            UpstreamError::Timeout => Self::GatewayTimeout,
            UpstreamError::Connect(error) if error.kind() == std::io::ErrorKind::TimedOut => Self::GatewayTimeout,
            _ => Self::BadGateway,
        }
    }
}

impl Refusal {
    fn parts(&self) -> (StatusCode, &'static str) {
        match self {
            Self::BadHost => (StatusCode::BAD_REQUEST, "400 the request must name one host\n"),
            Self::ClientGone => (StatusCode::BAD_REQUEST, "400 the request's body can't be read\n"),
            Self::Connect => (StatusCode::METHOD_NOT_ALLOWED, "405 CONNECT is not allowed\n"),
            Self::NoRule => (StatusCode::NOT_FOUND, "404 no Ingress or HTTPRoute has a rule for this request\n"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "403 this address may not\n"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "413 the request's body is too large\n"),
            Self::ClientTimeout => (StatusCode::REQUEST_TIMEOUT, "408 the request's body did not come\n"),
            Self::NoEndpoint => (StatusCode::SERVICE_UNAVAILABLE, "503 the Service has no endpoint that is ready\n"),
            Self::BadGateway => (StatusCode::BAD_GATEWAY, "502 the endpoint gave no answer\n"),
            Self::GatewayTimeout => (StatusCode::GATEWAY_TIMEOUT, "504 the endpoint gave no answer in time\n"),
            Self::Moved(status, _) => (*status, "what you ask for is elsewhere\n"),
            Self::NoBackend => {
                (StatusCode::INTERNAL_SERVER_ERROR, "500 the HTTPRoute names no Service that is there\n")
            }
            Self::Redirect(_) => (StatusCode::PERMANENT_REDIRECT, "308 use HTTPS\n"),
        }
    }

    /// The answer.
    pub(super) fn response(self) -> Response<ResponseBody> {
        let (status, text) = self.parts();
        let mut response = Response::new(ResponseBody::text(text));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(header::CONTENT_LENGTH, text.len().into());
        match self {
            Self::Redirect(location) | Self::Moved(_, location) => _ = headers.insert(header::LOCATION, location),
            // What is left of the body would be taken for the next request.
            Self::TooLarge | Self::ClientTimeout => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}
