//! Passes an upgrade on to the runtime's streaming server, byte for byte.

use bytes::Bytes;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use kiln_client::{Body, full_body};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::super::answer::Refusal;

/// Sends a request to the streaming server on a connection of its own.
pub(super) async fn send(url: &str, method: Method, headers: HeaderMap) -> Result<Response<Incoming>, Refusal> {
    let failed = |why: String| Refusal::internal(format!("error dialing backend: {why}\n"));
    let uri: Uri = url.parse().map_err(|_| failed(format!("{url:?} is no URL")))?;
    let Some(authority) = uri.authority().filter(|_| uri.scheme_str() == Some("http")) else {
        return Err(failed(format!("{url:?} is not of the form http://host:port/path")));
    };
    let tcp = TcpStream::connect((authority.host().trim_matches(['[', ']']), authority.port_u16().unwrap_or(80)));
    let tcp = tcp.await.map_err(|e| failed(format!("dial tcp {authority}: {e}")))?;
    tcp.set_nodelay(true).map_err(|e| failed(e.to_string()))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await.map_err(|e| failed(e.to_string()))?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to the runtime's streaming server");
        }
    });
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = method;
    *request.uri_mut() = uri.path_and_query().map_or("/", |p| p.as_str()).parse().map_err(Refusal::internal)?;
    *request.headers_mut() = headers;
    if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
        request.headers_mut().insert(HOST, host);
    }
    sender.send_request(request).await.map_err(|e| failed(e.to_string()))
}

/// Whether a request is for an upgrade.
fn is_upgrade(headers: &HeaderMap) -> bool {
    let says = |v: &HeaderValue| v.to_str().is_ok_and(|t| t.to_ascii_lowercase().contains("upgrade"));
    headers.contains_key(UPGRADE) && headers.get_all(CONNECTION).iter().any(says)
}

/// Answers a request with what the streaming server makes of it.
pub(super) async fn serve(
    mut request: Request<Incoming>,
    url: &str,
    shutdown: CancellationToken,
) -> Result<Response<Body>, Refusal> {
    if !is_upgrade(request.headers()) {
        return Err(Refusal::bad_request("Upgrade request required\n"));
    }
    let client = hyper::upgrade::on(&mut request);
    let mut headers = request.headers().clone();
    headers.remove(http::header::AUTHORIZATION);
    let response = send(url, request.method().clone(), headers).await?;
    let status = response.status();
    if status != StatusCode::SWITCHING_PROTOCOLS {
        if status.as_u16() < 400 {
            return Err(Refusal::internal(format!("invalid upgrade response: status code {}\n", status.as_u16())));
        }
        return Ok(response.map(|body| body.map_err(Into::into).boxed()));
    }
    let mut answer = Response::new(full_body(""));
    *answer.status_mut() = status;
    *answer.headers_mut() = response.headers().clone();
    tokio::spawn(async move {
        match tokio::try_join!(client, hyper::upgrade::on(response)) {
            Ok((client, runtime)) => splice(TokioIo::new(client), TokioIo::new(runtime), shutdown).await,
            Err(error) => tracing::debug!(%error, "an upgrade that was granted did not come about"),
        }
    });
    Ok(answer)
}

/// Carries bytes both ways until one side has ended: what the protocols have to say about an end is among the bytes.
async fn splice<A, B>(client: A, runtime: B, shutdown: CancellationToken)
where
    A: AsyncRead + AsyncWrite + Send,
    B: AsyncRead + AsyncWrite + Send,
{
    let (mut client_read, mut client_write) = tokio::io::split(client);
    let (mut runtime_read, mut runtime_write) = tokio::io::split(runtime);
    let ended = tokio::select! {
        ended = tokio::io::copy(&mut client_read, &mut runtime_write) => ended,
        ended = tokio::io::copy(&mut runtime_read, &mut client_write) => ended,
        () = shutdown.cancelled() => Ok(0),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a stream broke");
    }
    // What is written but not sent yet must arrive.
    _ = client_write.shutdown().await;
    _ = runtime_write.shutdown().await;
}
