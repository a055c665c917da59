//! Port-forward's WebSockets, whose messages are nothing but the bytes of SPDY.

use http::header::{AUTHORIZATION, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL};
use http::header::{SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use kiln_client::Body;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::super::answer::Refusal;
use super::forward;
use super::translate::{PROTOCOL, SPDY};
use super::websocket::{self, Message, Reader, Writer};

/// What stands before the name of the protocol that the SPDY streams follow.
const PREFIX: &str = "SPDY/3.1+";
/// Bytes of one message.
const CHUNK: usize = 32 << 10;

/// The protocols that a client offers to tunnel; none if it offers no tunnel.
pub(super) fn protocols<B>(request: &Request<B>) -> Vec<String> {
    let offers = websocket::offers(request);
    let tunnelled = offers.iter().filter(|p| p.ends_with(".k8s.io")).filter_map(|p| p.strip_prefix(PREFIX));
    tunnelled.map(str::to_owned).collect()
}

/// Answers a request with its WebSocket, once the streaming server has granted SPDY.
pub(super) async fn serve(
    mut request: Request<Incoming>,
    url: &str,
    protocols: &[String],
    shutdown: CancellationToken,
) -> Result<Response<Body>, Refusal> {
    let client = hyper::upgrade::on(&mut request);
    let mut headers = request.headers().clone();
    for name in
        [AUTHORIZATION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL]
    {
        headers.remove(name);
    }
    headers.insert(UPGRADE, SPDY);
    headers.remove(PROTOCOL);
    for protocol in protocols {
        headers.append(PROTOCOL, HeaderValue::from_str(protocol).map_err(Refusal::internal)?);
    }
    let response = forward::send(url, Method::POST, headers).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response.map(|body| body.map_err(Into::into).boxed()));
    }
    let chosen = response.headers().get(PROTOCOL).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let granted = websocket::grant(&request, &format!("{PREFIX}{chosen}"))?;
    tokio::spawn(async move {
        let carried = match tokio::try_join!(client, hyper::upgrade::on(response)) {
            Ok((client, runtime)) => tokio::select! {
                carried = carry(TokioIo::new(client), TokioIo::new(runtime)) => carried,
                () = shutdown.cancelled() => Ok(()),
            },
            Err(error) => return tracing::debug!(%error, "an upgrade that was granted did not come about"),
        };
        if let Err(error) = carried {
            tracing::debug!(%error, "a tunnelled port-forward broke");
        }
    });
    Ok(granted)
}

/// Unpacks what the client sends and packs what the runtime answers, until one side has ended.
async fn carry<A, B>(client: A, runtime: B) -> std::io::Result<()>
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (client_read, client_write) = tokio::io::split(client);
    let (mut runtime_read, mut runtime_write) = tokio::io::split(runtime);
    let (mut reader, writer) = (Reader(client_read), Mutex::new(Writer(client_write)));
    let up = async {
        loop {
            match reader.next().await? {
                Message::Data(bytes) => {
                    runtime_write.write_all(&bytes).await?;
                    runtime_write.flush().await?;
                }
                Message::Ping(payload) => writer.lock().await.pong(&payload).await?,
                Message::Close => return runtime_write.shutdown().await,
            }
        }
    };
    let down = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            match runtime_read.read(&mut buffer).await? {
                0 => return writer.lock().await.close().await,
                n => writer.lock().await.send(&[&buffer[..n]]).await?,
            }
        }
    };
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_offers_of_a_tunnel_are_one() {
        let of = |offers: &str| {
            let request = Request::builder().header("upgrade", "websocket").header("sec-websocket-protocol", offers);
            protocols(&request.body(()).unwrap())
        };
        assert_eq!(of("SPDY/3.1+portforward.k8s.io"), ["portforward.k8s.io"]);
        assert!(of("v4.channel.k8s.io, SPDY/3.1+other").is_empty());
    }

    #[tokio::test]
    async fn bytes_are_the_same_on_both_sides_whatever_their_messages() {
        let (mut client, near) = tokio::io::duplex(1024);
        let (far, mut runtime) = tokio::io::duplex(1024);
        let carrying = tokio::spawn(carry(near, far));
        client.write_all(&[0x82, 0x83, 0, 0, 0, 0, b'a', b'b', b'c', 0x82, 0x81, 0, 0, 0, 0, b'd']).await.unwrap();
        let mut up = [0; 4];
        runtime.read_exact(&mut up).await.unwrap();
        assert_eq!(&up, b"abcd");
        runtime.write_all(b"back").await.unwrap();
        let mut down = [0; 6];
        client.read_exact(&mut down).await.unwrap();
        assert_eq!(&down, b"\x82\x04back");
        drop(runtime);
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, [0x88, 2, 0x03, 0xe8]);
        carrying.await.unwrap().unwrap();
    }
}
