//! Watches and logs over a WebSocket: browsers have nothing else that streams. The client has nothing to say after the handshake.

use ::http::header::{
    CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
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

/// How the messages of a log carry its bytes, by the protocol that the client asks for; without one they are what they are.
const PLAIN: &str = "binary.k8s.io";
const ENCODED: &str = "base64.binary.k8s.io";

/// A client's wish for a WebSocket.
pub(crate) struct Wish {
    upgrade: OnUpgrade,
    accept: HeaderValue,
    protocol: Option<&'static str>,
}

/// Takes the wish out of a request for a watch or a log. Other streams over WebSockets see to themselves.
pub(crate) fn wish<B>(request: &mut Request<B>) -> Option<Wish> {
    let path = request.uri().path();
    let watch = path.contains("/watch/")
        || request.uri().query().is_some_and(|q| q.split('&').any(|p| p.starts_with("watch=") || p == "watch"));
    // What stands behind a proxy has paths and parameters of its own.
    let watch = watch && !path.contains("/proxy");
    let segments: Vec<&str> = path.split('/').collect();
    let log = matches!(segments[..], ["", "api", "v1", "namespaces", _, "pods", _, "log"]);
    let upgrade = request.headers().get(UPGRADE)?.to_str().ok()?;
    if !(watch || log) || !upgrade.eq_ignore_ascii_case("websocket") {
        return None;
    }
    let asked = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let mut asked = asked.flat_map(|value| value.split(',')).map(str::trim).filter(|_| log);
    let protocol = asked.find_map(|asked| [PLAIN, ENCODED].into_iter().find(|known| *known == asked));
    let key = request.headers().get(SEC_WEBSOCKET_KEY)?.to_str().ok()?;
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes());
    let accept = HeaderValue::from_str(&STANDARD.encode(digest)).ok()?;
    Some(Wish { upgrade: hyper::upgrade::on(request), accept, protocol })
}

/// Answers with the WebSocket, if the answer is a stream of messages.
pub(crate) fn grant(wish: Wish, response: Response<Body>) -> Response<Body> {
    if response.status() != StatusCode::OK || response.extensions().get::<Messages>().is_none() {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let json = parts.headers.get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/json"));
    let form = match wish.protocol {
        Some(ENCODED) => Form::Base64,
        _ if json => Form::Text,
        _ => Form::Binary,
    };
    tokio::spawn(async move {
        match wish.upgrade.await {
            Ok(socket) => {
                let (read, write) = tokio::io::split(TokioIo::new(socket));
                if let Err(e) = send(body, form, read, write).await {
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
    if let Some(protocol) = wish.protocol {
        parts.headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    Response::from_parts(parts, full(""))
}

/// What a message is made of.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Binary,
    Base64,
}

/// Sends each frame of the body as a message, until it ends or the client has had enough.
async fn send(
    mut body: Body,
    form: Form,
    mut read: impl AsyncRead + Unpin,
    mut write: impl AsyncWrite + Unpin,
) -> std::io::Result<()> {
    let mut input = [0; 256];
    loop {
        tokio::select! {
            frame = body.frame() => {
                let Some(Ok(frame)) = frame else { break };
                if let Ok(message) = frame.into_data() {
                    let (kind, message) = match form {
                        Form::Text => (TEXT, message),
                        Form::Binary => (BINARY, message),
                        Form::Base64 => (TEXT, STANDARD.encode(message).into()),
                    };
                    write.write_all(&head(kind, message.len())).await?;
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

    /// What a client gets of a body's frames.
    async fn sent(frames: Vec<Bytes>, form: Form) -> Vec<u8> {
        let (mut client, server) = tokio::io::duplex(1024);
        let (read, write) = tokio::io::split(server);
        send(super::super::stream::body(futures_util::stream::iter(frames)), form, read, write).await.unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        got
    }

    #[tokio::test]
    async fn every_frame_becomes_a_message_and_the_end_a_farewell() {
        let got = sent(vec![Bytes::from_static(b"{}\n"), Bytes::from(vec![b'x'; 300])], Form::Text).await;
        assert_eq!(got[..5], *b"\x81\x03{}\n");
        assert_eq!(got[5..9], [0x81, 126, 1, 44]);
        assert_eq!(got[got.len() - 2..], [0x88, 0]);
    }

    #[tokio::test]
    async fn a_log_is_sent_in_the_form_that_its_protocol_has() {
        let rows: [(Form, &[u8]); 2] = [(Form::Binary, b"\x82\x02up"), (Form::Base64, b"\x81\x04dXA=")];
        for (form, expected) in rows {
            let got = sent(vec![Bytes::from_static(b"up")], form).await;
            assert_eq!(got[..expected.len()], *expected);
        }
        let rows = [
            ("binary.k8s.io", Some(PLAIN)),
            ("other.example.com, base64.binary.k8s.io", Some(ENCODED)),
            ("other.example.com", None),
        ];
        for (asked, expected) in rows {
            let mut request = Request::builder()
                .uri("/api/v1/namespaces/default/pods/p/log?container=c")
                .header("upgrade", "websocket")
                .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
                .header("sec-websocket-protocol", asked)
                .body(())
                .unwrap();
            assert_eq!(wish(&mut request).unwrap().protocol, expected, "{asked}");
        }
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
