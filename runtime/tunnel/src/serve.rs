//! The node's end of a tunnel.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tracing::Instrument as _;

use crate::{BoxFuture, Connection, KUBELET, Node};

/// How often an end asks whether the other is there, and how long the answer may take.
pub(crate) const PROBE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// What one stream may have in flight, in bytes.
pub(crate) const STREAM_WINDOW: u32 = 256 << 10;
/// What all may have together: so much that streams that nobody reads do not stop the others.
pub(crate) const CONNECTION_WINDOW: u32 = 256 << 20;
/// The most bytes that wait in one stream to be sent.
pub(crate) const SEND_BUFFER: usize = 128 << 10;
/// The most streams at a time.
const STREAMS: u32 = 10_000;
/// How long connecting to an address may take.
const CONNECT: Duration = Duration::from_secs(10);

/// Serves a tunnel on an upgraded connection until that ends. The peer is a server of the cluster, whose certificate was
/// checked: what it asks for is allowed.
///
/// # Errors
/// Why the tunnel broke; an end in order is none.
pub fn serve(connection: Connection, node: Arc<dyn Node>) -> BoxFuture<'static, Result<(), hyper::Error>> {
    Box::pin(async move {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(PROBE.0)
            .keep_alive_timeout(PROBE.1)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(STREAMS)
            .max_send_buf_size(SEND_BUFFER);
        let service = service_fn(move |request| {
            let node = Arc::clone(&node);
            async move { Ok::<_, Infallible>(connect(request, node).await) }
        });
        builder.serve_connection(TokioIo::new(connection), service).await
    })
}

/// Answers a CONNECT: once the target is there, its stream goes on on its own.
async fn connect(request: Request<Incoming>, node: Arc<dyn Node>) -> Response<Full<Bytes>> {
    let refuse = |code, why: String| {
        let mut response = Response::new(Full::from(why));
        *response.status_mut() = code;
        response
    };
    if request.method() != Method::CONNECT {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "only CONNECT is served here".into());
    }
    let Some(target) = request.uri().authority().map(|a| a.as_str().to_owned()) else {
        return refuse(StatusCode::BAD_REQUEST, "no target is named".into());
    };
    let tcp = if target == KUBELET {
        None
    } else {
        match tokio::time::timeout(CONNECT, TcpStream::connect(&target)).await {
            Ok(Ok(tcp)) => Some(tcp),
            Ok(Err(error)) => return refuse(StatusCode::BAD_GATEWAY, format!("dial tcp {target}: {}", reason(&error))),
            Err(_) => return refuse(StatusCode::GATEWAY_TIMEOUT, format!("dial tcp {target}: i/o timeout")),
        }
    };
    let stream = async move {
        let upgraded = match hyper::upgrade::on(request).await {
            Ok(upgraded) => TokioIo::new(upgraded),
            Err(error) => return tracing::debug!(%error, "a stream of the tunnel ended before it began"),
        };
        match tcp {
            None => node.serve(Box::new(upgraded)).await,
            Some(tcp) => splice(upgraded, tcp).await,
        }
    };
    tokio::spawn(stream.in_current_span());
    Response::new(Full::default())
}

/// Why a connection was not made, as Go says it.
pub(crate) fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".into(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".into(),
        std::io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".into(),
        std::io::ErrorKind::TimedOut => "i/o timeout".into(),
        _ => error.to_string(),
    }
}

async fn splice(mut upgraded: TokioIo<hyper::upgrade::Upgraded>, mut tcp: TcpStream) {
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "nodelay");
    }
    if let Err(error) = tokio::io::copy_bidirectional(&mut upgraded, &mut tcp).await {
        tracing::debug!(%error, "a stream of the tunnel broke");
    }
}
