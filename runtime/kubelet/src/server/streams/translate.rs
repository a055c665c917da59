//! A WebSocket of `v5.channel.k8s.io` on one side, the runtime's SPDY on the other. Each message's first byte is its channel;
//! channel 255 closes the one that its next byte names. The command's end comes as a `Status` on the error channel, after all
//! that it wrote.

use http::header::{CONNECTION, HeaderName, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use kiln_client::Body;
use kiln_spdy::{Role, Session, SpdyError, Stream};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::super::answer::Refusal;
use super::websocket::{self, Message, Reader, Writer};
use super::{V5, Wanted, forward};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// The header by which both sides of an upgrade agree on the meaning of the streams.
pub(super) const PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const V4: HeaderValue = HeaderValue::from_static("v4.channel.k8s.io");
pub(super) const SPDY: HeaderValue = HeaderValue::from_static("SPDY/3.1");
/// The most of a `Status` that is passed on.
const MAX_STATUS: usize = 64 << 10;

/// Answers a request with its WebSocket.
pub(super) async fn serve(
    mut request: Request<Incoming>,
    url: &str,
    wanted: Wanted,
    shutdown: CancellationToken,
) -> Result<Response<Body>, Refusal> {
    let response = websocket::grant(&request, V5)?;
    let (client, url) = (hyper::upgrade::on(&mut request), url.to_owned());
    tokio::spawn(async move {
        let socket = match client.await {
            Ok(socket) => TokioIo::new(socket),
            Err(error) => return tracing::debug!(%error, "no WebSocket"),
        };
        let carried = tokio::select! {
            carried = carry(socket, &url, wanted) => carried,
            () = shutdown.cancelled() => Ok(()),
        };
        if let Err(error) = carried {
            tracing::debug!(%error, "a WebSocket broke");
        }
    });
    Ok(response)
}

/// The streams of a command, as SPDY has them.
struct Streams {
    error: Stream,
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    resize: Option<Stream>,
}

async fn carry(socket: impl AsyncRead + AsyncWrite + Send, url: &str, wanted: Wanted) -> std::io::Result<()> {
    let (read, write) = tokio::io::split(socket);
    let writer = Mutex::new(Writer(write));
    // An empty message tells the client that the connection stands.
    let first = if wanted.stdout {
        STDOUT
    } else if wanted.stderr {
        STDERR
    } else {
        ERROR
    };
    writer.lock().await.send(&[&[first]]).await?;
    let status = match open(url, wanted).await {
        Err(why) => failure(&why),
        Ok(streams) => {
            let Streams { error, stdin, stdout, stderr, resize } = streams;
            let output = async {
                let (_, _, status) =
                    tokio::try_join!(copy(stdout, STDOUT, &writer), copy(stderr, STDERR, &writer), async {
                        Ok(status(error).await)
                    },)?;
                Ok::<_, std::io::Error>(status)
            };
            tokio::select! {
                status = output => status?,
                // The client has gone: so does the command's connection.
                gone = input(Reader(read), &writer, stdin, resize) => return gone,
            }
        }
    };
    let mut writer = writer.lock().await;
    writer.send(&[&[ERROR], status.as_bytes()]).await?;
    writer.close().await
}

/// Opens the command's streams at the runtime's streaming server; the error is a text for the client.
async fn open(url: &str, wanted: Wanted) -> Result<Streams, String> {
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, SPDY);
    headers.insert(PROTOCOL, V4);
    let response = forward::send(url, Method::POST, headers).await.map_err(|refusal| refusal.1)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let text = response.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        return Err(format!("unable to upgrade connection: {}", String::from_utf8_lossy(&text).trim_end()));
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(|e| e.to_string())?;
    let (session, _) = Session::start(TokioIo::new(upgraded), Role::Client);
    let make = async |kind: &str, wanted: bool| -> Result<Option<Stream>, SpdyError> {
        if !wanted {
            return Ok(None);
        }
        session.open(vec![("streamtype".to_owned(), kind.to_owned())]).await.map(Some)
    };
    let opening = async {
        Ok::<_, SpdyError>(Streams {
            error: session.open(vec![("streamtype".to_owned(), "error".to_owned())]).await?,
            stdin: make("stdin", wanted.stdin).await?,
            stdout: make("stdout", wanted.stdout).await?,
            stderr: make("stderr", wanted.stderr).await?,
            resize: make("resize", wanted.tty).await?,
        })
    };
    opening.await.map_err(|e| e.to_string())
}

/// Carries one of the command's outputs to its end.
async fn copy<W: AsyncWrite + Unpin>(
    stream: Option<Stream>,
    channel: u8,
    writer: &Mutex<Writer<W>>,
) -> std::io::Result<()> {
    let Some(mut stream) = stream else { return Ok(()) };
    // A connection that broke is told on the error channel.
    while let Ok(Some(bytes)) = stream.next().await {
        writer.lock().await.send(&[&[channel], &bytes]).await?;
    }
    Ok(())
}

/// What the command's end was, as the client gets it.
async fn status(mut error: Stream) -> String {
    let mut text = Vec::new();
    loop {
        match error.next().await {
            Ok(Some(bytes)) if text.len() < MAX_STATUS => text.extend_from_slice(&bytes),
            Ok(Some(_)) => {}
            Ok(None) if text.is_empty() => return json!({"metadata": {}, "status": "Success"}).to_string(),
            Ok(None) => return String::from_utf8_lossy(&text).into_owned(),
            Err(error) => return failure(&format!("error reading from error stream: {error}")),
        }
    }
}

fn failure(why: &str) -> String {
    let status = json!({
        "metadata": {}, "status": "Failure", "message": format!("Internal error occurred: {why}"),
        "reason": "InternalError", "details": {"causes": [{"message": why}]}, "code": 500,
    });
    status.to_string()
}

/// Carries what the client sends, until it leaves.
async fn input<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    mut reader: Reader<R>,
    writer: &Mutex<Writer<W>>,
    mut stdin: Option<Stream>,
    mut resize: Option<Stream>,
) -> std::io::Result<()> {
    loop {
        let message = match reader.next().await? {
            Message::Data(message) => message,
            Message::Ping(payload) => {
                writer.lock().await.pong(&payload).await?;
                continue;
            }
            Message::Close => return Ok(()),
        };
        match message.split_first() {
            // A command that reads no more is no reason to end: it may still write.
            Some((&STDIN, bytes)) => {
                if let Some(stream) = &mut stdin
                    && stream.write_all(bytes).await.is_err()
                {
                    stdin = None;
                }
            }
            Some((&RESIZE, bytes)) => {
                if let Some(stream) = &mut resize {
                    let line = [bytes, b"\n"].concat();
                    _ = stream.write_all(&line).await;
                }
            }
            Some((&CLOSE, [STDIN])) => {
                if let Some(stream) = &mut stdin {
                    _ = stream.shutdown().await;
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use hyper::service::service_fn;
    use kiln_spdy::Incoming as Accepted;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;

    /// A streaming server whose command echoes its input in capitals, says how its terminal was sized, and ends with 3.
    async fn runtime() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/exec/token", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            let service = service_fn(|mut request: Request<Incoming>| async move {
                assert_eq!(request.method(), Method::POST);
                assert_eq!(request.headers()[PROTOCOL], V4);
                let upgrade = hyper::upgrade::on(&mut request);
                tokio::spawn(async move {
                    let (session, incoming) = Session::start(TokioIo::new(upgrade.await.unwrap()), Role::Server);
                    command(incoming).await;
                    drop(session);
                });
                let response = Response::builder().status(101).header("connection", "Upgrade").header("upgrade", SPDY);
                Ok::<_, std::convert::Infallible>(response.body(kiln_client::full_body("")).unwrap())
            });
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(tcp), service)
                .with_upgrades()
                .await
                .unwrap();
        });
        url
    }

    async fn command(mut incoming: Accepted) {
        let mut next = async |kind: &str| {
            let stream = incoming.accept().await.unwrap();
            assert_eq!(stream.header("streamtype"), Some(kind));
            stream
        };
        let mut error = next("error").await;
        let mut stdin = next("stdin").await;
        let mut stdout = next("stdout").await;
        let mut resize = next("resize").await;
        let mut size = [0; 24];
        resize.read_exact(&mut size).await.unwrap();
        stdout.write_all(&size).await.unwrap();
        let mut text = String::new();
        stdin.read_to_string(&mut text).await.unwrap();
        stdout.write_all(text.to_uppercase().as_bytes()).await.unwrap();
        error.write_all(br#"{"status":"Failure","reason":"NonZeroExitCode"}"#).await.unwrap();
        error.shutdown().await.unwrap();
    }

    fn masked(payload: &[u8]) -> Vec<u8> {
        [&[0x82, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
    }

    async fn message(client: &mut (impl AsyncRead + Unpin)) -> (u8, Bytes) {
        let mut head = [0; 2];
        client.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; usize::from(head[1])];
        client.read_exact(&mut payload).await.unwrap();
        (head[0], payload.into())
    }

    #[tokio::test]
    async fn input_ends_by_the_close_of_its_channel_and_the_status_comes_last() {
        let (mut client, server) = tokio::io::duplex(64 << 10);
        let wanted = Wanted { stdin: true, stdout: true, stderr: false, tty: true };
        let url = runtime().await;
        let carrying = tokio::spawn(async move { carry(server, &url, wanted).await });
        assert_eq!(message(&mut client).await, (0x82, Bytes::from_static(&[1])));
        client.write_all(&masked(b"\x04{\"Width\":80,\"Height\":24}")).await.unwrap();
        client.write_all(&masked(b"\x00hello ")).await.unwrap();
        client.write_all(&masked(b"\x00you")).await.unwrap();
        client.write_all(&masked(&[255, 0])).await.unwrap();
        let mut output = Vec::new();
        let status = loop {
            match message(&mut client).await {
                (0x82, payload) if payload[0] == STDOUT => output.extend_from_slice(&payload[1..]),
                (0x82, payload) => break payload,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(String::from_utf8_lossy(&output), "{\"Width\":80,\"Height\":24}HELLO YOU");
        assert_eq!(&status[..], b"\x03{\"status\":\"Failure\",\"reason\":\"NonZeroExitCode\"}");
        assert_eq!(message(&mut client).await.0, 0x88);
        carrying.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_runtime_that_is_not_there_is_told_on_the_error_channel() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let (mut client, server) = tokio::io::duplex(64 << 10);
        let wanted = Wanted { stdin: false, stdout: false, stderr: true, tty: false };
        let url = format!("http://{closed}/exec/x");
        let carrying = tokio::spawn(async move { carry(server, &url, wanted).await });
        assert_eq!(message(&mut client).await, (0x82, Bytes::from_static(&[2])));
        let mut rest = Vec::new();
        tokio::time::timeout(Duration::from_secs(10), client.read_to_end(&mut rest)).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&rest).into_owned();
        assert!(text.contains("\"reason\":\"InternalError\"") && text.contains("error dialing backend"), "{text}");
        carrying.await.unwrap().unwrap();
    }
}
