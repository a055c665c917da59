//! The server's way to its nodes. Whoever composes the server knows what that is: tunnels, or the same process.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use ::http::{HeaderValue, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use kiln_apimachinery::query::Query;
use kiln_apimachinery::{GroupResource, Status};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::http::body::{Body, full};
use crate::http::respond;
use crate::server::ApiServer;
use crate::user::{MASTERS, NODES, UserInfo};

/// Where nodes ask for a connection that the server then uses to reach them.
pub(crate) const PATH: &str = "/kiln/v1/tunnel";
/// What that connection is upgraded to.
const PROTOCOL: &str = "kiln-tunnel";
/// The header that tells the servers of a cluster apart.
const SERVER_ID: &str = "x-kiln-server-id";
/// What the names of nodes' users begin with.
const NODE_USER: &str = "system:node:";
/// Where another server of the cluster asks for a stream to a node that has its tunnel here: `?node=NAME`, and `&address=HOST:PORT`
/// unless it is to the kubelet.
pub(crate) const STREAM_PATH: &str = "/kiln/v1/stream";
/// What that request is upgraded to.
const STREAM: &str = "kiln-stream";
/// Who the servers are to each other.
const SERVER_USER: &str = "system:apiserver";

/// A byte stream in both directions.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Any byte stream.
pub type Stream = Box<dyn Io>;

/// A future that is allocated, so that [`Dialer`] can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What is dialled on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// The kubelet's service, without TLS: whoever gets through to it is trusted.
    Kubelet,
    /// `host:port`, as the node sees it.
    Address(&'a str),
}

/// Why a node's stream is not there.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The node can't be reached; the text says why.
    #[error("{0}")]
    Unreachable(String),
    /// The node is there, and its target is not; the text says why.
    #[error("{0}")]
    Refused(String),
}

/// Opens streams to nodes.
pub trait Dialer: Send + Sync {
    /// Opens a stream to something on a node.
    fn dial<'a>(&'a self, node: &'a str, target: Target<'a>) -> BoxFuture<'a, Result<Stream, DialError>>;

    /// As [`Self::dial`], by this server's own ways alone: for a server that has none.
    fn dial_here<'a>(&'a self, node: &'a str, target: Target<'a>) -> BoxFuture<'a, Result<Stream, DialError>> {
        self.dial(node, target)
    }

    /// Uses a connection of a node to reach it by, until it ends.
    fn accept(&self, node: String, connection: Stream) -> BoxFuture<'static, ()>;

    /// What tells this server from the cluster's others.
    fn id(&self) -> &str;
}

/// There is no way to any node.
pub(crate) fn none() -> Arc<dyn Dialer> {
    Arc::new(Nowhere)
}

struct Nowhere;

impl Dialer for Nowhere {
    fn dial<'a>(&'a self, node: &'a str, _: Target<'a>) -> BoxFuture<'a, Result<Stream, DialError>> {
        let why = format!("there is no tunnel to node {node:?} to reach its pods through");
        Box::pin(async { Err(DialError::Unreachable(why)) })
    }

    fn accept(&self, _: String, _: Stream) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }

    fn id(&self) -> &str {
        ""
    }
}

/// Takes a node's connection.
pub(crate) fn accept(
    server: &ApiServer,
    user: &UserInfo,
    headers: &::http::HeaderMap,
    upgrade: Option<&OnUpgrade>,
) -> Result<Response<Body>, Status> {
    let node = user.name.strip_prefix(NODE_USER).filter(|n| !n.is_empty() && user.in_group(NODES));
    let Some(node) = node.map(str::to_owned) else {
        return Err(Status::forbidden(&GroupResource::new("", "nodes"), "", "only nodes have tunnels"));
    };
    let asked = headers.get(header::UPGRADE).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(PROTOCOL.as_bytes()));
    let Some(upgrade) = upgrade.cloned().filter(|_| asked) else {
        return Err(Status::bad_request(format!("an upgrade to {PROTOCOL} is needed here")));
    };
    let (dialer, over) = (server.dialer().clone(), server.watches_end());
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(PROTOCOL));
    if let Ok(id) = HeaderValue::from_str(dialer.id()) {
        response.headers_mut().insert(SERVER_ID, id);
    }
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => tokio::select! {
                () = dialer.accept(node, Box::new(TokioIo::new(connection))) => {}
                () = over.cancelled() => {}
            },
            Err(error) => tracing::debug!(%error, "a node's connection was not upgraded"),
        }
    });
    Ok(response)
}

/// Lends another server a stream to a node.
pub(crate) async fn lend(
    server: &ApiServer,
    user: &UserInfo,
    query: &Query,
    headers: &::http::HeaderMap,
    upgrade: Option<&OnUpgrade>,
) -> Result<Response<Body>, Status> {
    if user.name != SERVER_USER || !user.in_group(MASTERS) {
        return Err(Status::forbidden(&GroupResource::new("", "nodes"), "", "only servers lend each other streams"));
    }
    let asked = headers.get(header::UPGRADE).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(STREAM.as_bytes()));
    let Some(upgrade) = upgrade.cloned().filter(|_| asked) else {
        return Err(Status::bad_request(format!("an upgrade to {STREAM} is needed here")));
    };
    let target = query.get("address").map_or(Target::Kubelet, Target::Address);
    let mut stream = match server.dialer().dial_here(query.get("node").unwrap_or_default(), target).await {
        Ok(stream) => stream,
        Err(DialError::Unreachable(why)) => return Ok(respond::text(StatusCode::NOT_FOUND, why)),
        Err(DialError::Refused(why)) => return Ok(respond::text(StatusCode::BAD_GATEWAY, why)),
    };
    let over = server.watches_end();
    tokio::spawn(async move {
        let ended = match upgrade.await {
            Ok(peer) => {
                let mut peer = TokioIo::new(peer);
                tokio::select! {
                    ended = tokio::io::copy_bidirectional(&mut peer, &mut stream) => ended.map(drop),
                    () = over.cancelled() => Ok(()),
                }
            }
            Err(error) => return tracing::debug!(%error, "a server's request was not upgraded"),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a stream of another server broke");
        }
    });
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(STREAM));
    Ok(response)
}
