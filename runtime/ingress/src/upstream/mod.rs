//! The endpoints of Services, and connections to them.
//!
//! A [`Backend`] is one port of a Service as Ingresses refer to it; it outlives changes of the routing table, and an
//! [`Endpoint`] outlives changes of the EndpointSlices, so that connections are kept. Requests go to the endpoints in turn.

mod backend;
mod connect;
mod endpoint;
mod h1;
mod h2;

pub(crate) use backend::Backend;
pub(crate) use connect::Connector;
pub(crate) use endpoint::Endpoint;
pub(crate) use h1::{Answer, Body, Exchange, Outgoing, request_head};
pub(crate) use h2::{Shared, ready as ready_h2, send as send_h2};

/// What an endpoint speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/1.1 over TLS.
    Https,
    /// HTTP/2 without TLS, by prior knowledge.
    H2c,
    /// HTTP/2 over TLS.
    H2,
}

impl Protocol {
    /// By the annotation.
    pub(crate) fn of_annotation(text: &str) -> Option<Self> {
        match text.to_ascii_uppercase().as_str() {
            "HTTP" => Some(Self::Http),
            "HTTPS" => Some(Self::Https),
            "GRPC" | "H2C" => Some(Self::H2c),
            "GRPCS" => Some(Self::H2),
            _ => None,
        }
    }

    /// By `appProtocol` of a Service's port (KEP-3726); one that is not known is taken for plain HTTP.
    pub(crate) fn of_port(app_protocol: Option<&str>) -> Self {
        match app_protocol.unwrap_or_default() {
            "kubernetes.io/h2c" | "h2c" | "grpc" => Self::H2c,
            "https" | "HTTPS" | "kubernetes.io/wss" | "wss" => Self::Https,
            "grpcs" => Self::H2,
            _ => Self::Http,
        }
    }

    /// Whether many requests share a connection.
    pub(crate) fn is_h2(self) -> bool {
        matches!(self, Self::H2c | Self::H2)
    }
}

/// Why an endpoint gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// No connection could be made.
    #[error("connecting: {0}")]
    Connect(std::io::Error),
    /// The connection ended or broke before the answer.
    #[error("the connection broke: {0}")]
    Broken(std::io::Error),
    /// What came is no HTTP.
    #[error("the answer is no HTTP/1.1: {0}")]
    Malformed(&'static str),
    /// The body of the request could not be had from the client.
    #[error("the request's body: {0}")]
    Request(crate::proxy::BodyError),
    /// HTTP/2 said no.
    #[error("HTTP/2: {0}")]
    H2(hyper::Error),
    /// The head of the answer took too long.
    #[error("no answer in time")]
    Timeout,
}
