//! Watches over a WebSocket: browsers have nothing else that streams. The client has nothing to say after the handshake.

use ::http::header::{CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use ::http::{HeaderValue, Request, Response, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::body::{Body, full};
use super::stream::Messages;

/// The standard's constant, by which a server shows that it knows the protocol.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
/// Bits of a frame's first byte that say what it is.
const OPCODE: u8 = 0x0f;

/// A client's wish for a WebSocket.
pub(crate) struct Wish {
    upgrade: OnUpgrade,
    accept: HeaderValue,
}

/// Takes the wish out of a request for a watch. Other streams over WebSockets see to themselves.
pub(crate) fn wish<B>(request: &mut Request<B>) -> Option<Wish> {
    let watch = request.uri().path().contains("/watch/")
        || request.uri().query().is_some_and(|q| q.split('&').any(|p| p.starts_with("watch=") || p == "watch"));
    // What stands behind a proxy has paths and parameters of its own.
    let watch = watch && !request.uri().path().contains("/proxy");
    let upgrade = request.headers().get(UPGRADE)?.to_str().ok()?;
    if !watch || !upgrade.eq_ignore_ascii_case("websocket") {
        return None;
    }
    let key = request.headers().get(SEC_WEBSOCKET_KEY)?.to_str().ok()?;
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes());
    let accept = HeaderValue::from_str(&STANDARD.encode(digest)).ok()?;
    Some(Wish { upgrade: hyper::upgrade::on(request), accept })
}

/// Answers with the WebSocket, if the answer is a stream of messages.
pub(crate) fn grant(wish: Wish, response: Response<Body>) -> Response<Body> {
    if response.status() != StatusCode::OK || response.extensions().get::<Messages>().is_none() {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let text = parts.headers.get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/json"));
    tokio::spawn(async move {
        match wish.upgrade.await {
            Ok(socket) => {
                let (read, write) = tokio::io::split(TokioIo::new(socket));
                if let Err(e) = send(body, text, read, write).await {
                    tracing::debug!("WebSocket: {e}");
                }
            }
            Err(e) => tracing::debug!("no WebSocket: {e}"),
        }
    });
    parts.status = StatusCode::SWITCHING_PROTOCOLS;
    parts.headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    parts.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    parts.headers.insert(SEC_WEBSOCKET_ACCEPT, wish.accept);
    Response::from_parts(parts, full(""))
}

/// Sends each frame of the body as a message, until it ends or the client has had enough.
async fn send(
    mut body: Body,
    text: bool,
    mut read: impl AsyncRead + Unpin,
    mut write: impl AsyncWrite + Unpin,
) -> std::io::Result<()> {
    let mut input = [0; 256];
    loop {
        tokio::select! {
            frame = body.frame() => {
                let Some(Ok(frame)) = frame else { break };
                if let Ok(message) = frame.into_data() {
                    write.write_all(&head(if text { TEXT } else { BINARY }, message.len())).await?;
                    write.write_all(&message).await?;
                    write.flush().await?;
                }
            }
            count = read.read(&mut input) => {
                // A client that says anything but farewell is not listened to.
                if count? == 0 || input[0] & OPCODE == CLOSE & OPCODE {
                    break;
                }
            }
        }
    }
    write.write_all(&head(CLOSE, 0)).await?;
    write.shutdown().await
}

/// What stands before a message; a server's are not masked.
fn head(kind: u8, len: usize) -> Vec<u8> {
    let mut out = vec![kind];
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short), _) if short < 126 => out.push(short),
        (_, Ok(middle)) => {
            out.push(126);
            out.extend_from_slice(&middle.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[tokio::test]
    async fn every_frame_becomes_a_message_and_the_end_a_farewell() {
        let frames = futures_util::stream::iter([Bytes::from_static(b"{}\n"), Bytes::from(vec![b'x'; 300])]);
        let (mut client, server) = tokio::io::duplex(1024);
        let (read, write) = tokio::io::split(server);
        send(super::super::stream::body(frames), true, read, write).await.unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got[..5], *b"\x81\x03{}\n");
        assert_eq!(got[5..9], [0x81, 126, 1, 44]);
        assert_eq!(got[got.len() - 2..], [0x88, 0]);
    }

    #[test]
    fn the_handshake_is_the_one_of_the_standard() {
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let mut request = Request::builder()
            .uri("/api/v1/pods?watch=1")
            .header("upgrade", "websocket")
            .header("sec-websocket-key", key)
            .body(())
            .unwrap();
        assert_eq!(wish(&mut request).unwrap().accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        *request.uri_mut() = "/api/v1/pods".parse().unwrap();
        assert!(wish(&mut request).is_none());
    }
}
