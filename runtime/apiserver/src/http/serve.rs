//! Connections: TLS with optional client certificates, HTTP/1.1 and HTTP/2, an orderly end.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ::http::{Method, Request};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use kiln_apimachinery::Status;
use kiln_apimachinery::head::without_body;
use kiln_apimachinery::status::Reason;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::body::{Body, Upload, full};
use super::drain::{self, Counted, InFlight, Leaving};
use super::{respond, websocket};
use crate::audit::Peer;
use crate::authn::certificate;
use crate::server::ApiServer;
use crate::subresources;
use crate::user::UserInfo;

/// Largest body of a request, in bytes.
const MAX_BODY: usize = 3 * 1024 * 1024;
/// A client must have finished the TLS handshake, or sent its headers, within this time.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A client must have sent its body within this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after the process ran out of sockets.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown`, then lets requests end for `drain`.
pub(crate) async fn run(
    server: ApiServer,
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    shutdown: CancellationToken,
    drain: Duration,
) {
    let acceptor = TlsAcceptor::from(tls);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(250)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(30));
    let (delay, stopping) = (server.config().shutdown_delay, server.clone());
    let stop = async move {
        shutdown.cancelled().await;
        stopping.begin_stop();
        tokio::time::sleep(delay).await;
    };
    tokio::pin!(stop);
    let (go, mut connections) = (CancellationToken::new(), JoinSet::new());
    loop {
        let stream = tokio::select! {
            // A client that comes after the shutdown began must find the server not ready.
            biased;
            () = &mut stop => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(e) => {
                    tracing::debug!("accept: {e}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let (acceptor, server, builder, go) = (acceptor.clone(), server.clone(), builder.clone(), go.clone());
        connections.spawn(async move {
            let tls = tokio::select! {
                tls = handshake(&acceptor, stream) => tls,
                // Nothing was asked yet.
                () = go.cancelled() => None,
            };
            let Some(tls) = tls else { return };
            let requests = InFlight::default();
            let connection = connection(server, &builder, tls, requests.clone());
            match drain::serve(connection, &requests, go.cancelled()).await {
                Some(Err(e)) => tracing::debug!("connection: {e}"),
                Some(Ok(())) => {}
                None => tracing::debug!("a client that was told to go did not"),
            }
        });
    }
    drop(listener);
    server.end_watches();
    go.cancel();
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(drain, ended).await.is_err() {
        tracing::debug!("some requests had not ended after {drain:?}");
    }
    // Nothing holds the server when this returns.
    connections.shutdown().await;
}

/// The connection of one client, once it is driven.
fn connection(
    server: ApiServer,
    builder: &auto::Builder<TokioExecutor>,
    tls: tokio_rustls::server::TlsStream<TcpStream>,
    requests: InFlight,
) -> Pin<Box<dyn Leaving>> {
    let peer = tls.get_ref().1.peer_certificates().and_then(|c| c.first()).and_then(|c| certificate::user(c));
    let peer = Arc::new(peer);
    let address = tls.get_ref().0.peer_addr().ok().map(|a| Peer(a.ip()));
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(address) = address {
            request.extensions_mut().insert(address);
        }
        let (server, peer, underway) = (server.clone(), peer.clone(), requests.begin());
        async move {
            let response = answer(&server, peer.as_ref().as_ref(), request).await;
            Ok::<_, std::convert::Infallible>(response.map(|body| Counted { body, request: underway }))
        }
    });
    Box::pin(builder.serve_connection_with_upgrades(TokioIo::new(tls), service).into_owned())
}

async fn handshake(acceptor: &TlsAcceptor, stream: TcpStream) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    // Small answers must not wait for more to come.
    if let Err(e) = stream.set_nodelay(true) {
        tracing::debug!("nodelay: {e}");
    }
    match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(tls)) => Some(tls),
        Ok(Err(e)) => {
            tracing::debug!("TLS handshake: {e}");
            None
        }
        Err(_) => {
            tracing::debug!("TLS handshake took too long");
            None
        }
    }
}

async fn answer(server: &ApiServer, peer: Option<&UserInfo>, mut request: Request<Incoming>) -> ::http::Response<Body> {
    let remote = server.aggregation().route(request.uri().path());
    let wish = if remote.is_some() { None } else { websocket::wish(&mut request) };
    let is_head = request.method() == Method::HEAD;
    let (mut parts, body) = request.into_parts();
    let passed_on = remote.is_some() || subresources::passes_on(parts.uri.path());
    remote.into_iter().for_each(|remote| drop(parts.extensions.insert(remote)));
    let body = if passed_on {
        parts.extensions.insert(Upload::new(body));
        Bytes::new()
    } else {
        match read(body).await {
            Ok(body) => body,
            Err(status) => return respond::refusal(&parts.headers, &status),
        }
    };
    let response = server.handle(peer, Request::from_parts(parts, body)).await;
    match wish {
        Some(wish) => websocket::grant(wish, response),
        None if is_head => without_body(response, full("")),
        None => response,
    }
}

async fn read(body: Incoming) -> Result<Bytes, Status> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(e)) if e.downcast_ref::<LengthLimitError>().is_some() => Err(Status::failure(
            Reason::RequestEntityTooLarge,
            format!("Request entity too large: limit is {MAX_BODY}"),
        )),
        Ok(Err(e)) => Err(Status::bad_request(format!("the body could not be read: {e}"))),
        Err(_) => Err(Status::failure(Reason::Timeout, "the body did not arrive in time")),
    }
}
