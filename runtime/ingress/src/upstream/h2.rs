//! HTTP/2 towards endpoints: one connection for each, that its requests share.

use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::{Connector, Endpoint, UpstreamError};
use crate::proxy::RequestBody;

/// How often a connection in use is asked for a sign of life, and how long it may take.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// A connection.
pub(crate) type Shared = SendRequest<RequestBody>;

/// The connection to an endpoint, made if there is none.
async fn connection(endpoint: &Endpoint, connector: &Connector, within: Duration) -> Result<Shared, UpstreamError> {
    // Whoever comes while one is being made waits for it.
    let mut shared = endpoint.shared.lock().await;
    if let Some(known) = shared.as_ref().filter(|known| !known.is_closed()) {
        return Ok(known.clone());
    }
    let io = connector.connect(endpoint, within).await.map_err(UpstreamError::Connect)?;
    let mut builder = Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    builder.initial_stream_window_size(256 << 10).initial_connection_window_size(1 << 20);
    let (sender, connection) = builder.handshake(TokioIo::new(io)).await.map_err(UpstreamError::H2)?;
    let address = endpoint.address();
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, %address, "an HTTP/2 connection ended");
        }
    });
    *shared = Some(sender.clone());
    Ok(sender)
}

/// A connection to an endpoint that takes a request.
pub(crate) async fn ready(
    endpoint: &Endpoint,
    connector: &Connector,
    within: Duration,
) -> Result<Shared, UpstreamError> {
    let mut sender = connection(endpoint, connector, within).await?;
    if sender.ready().await.is_ok() {
        return Ok(sender);
    }
    // It has ended meanwhile.
    connection(endpoint, connector, within).await
}

/// Sends a request, and waits for the head of the answer.
pub(crate) async fn send(
    mut sender: Shared,
    request: Request<RequestBody>,
) -> Result<Response<Incoming>, UpstreamError> {
    sender.send_request(request).await.map_err(UpstreamError::H2)
}
