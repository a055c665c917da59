//! The server's side of WebSockets (RFC 6455): the handshake, and messages out of and into frames.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use kiln_client::{Body, full_body};
use ring::digest;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::super::answer::Refusal;

/// The standard's constant, by which a server shows that it knows the protocol.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The most bytes of a message.
const MAX_MESSAGE: usize = 16 << 20;
/// The code of an end in order.
const NORMAL: u16 = 1000;

const CONTINUATION: u8 = 0;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Whether a request is for a WebSocket.
pub(super) fn is_wanted<B>(request: &Request<B>) -> bool {
    let upgrade = request.headers().get(UPGRADE).and_then(|v| v.to_str().ok());
    upgrade.is_some_and(|u| u.eq_ignore_ascii_case("websocket"))
}

/// The protocols that a client offers to speak over its WebSocket; none if it wants no WebSocket.
pub(super) fn offers<B>(request: &Request<B>) -> Vec<String> {
    if !is_wanted(request) {
        return Vec::new();
    }
    let lists = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(|p| p.trim().to_owned()).filter(|p| !p.is_empty()).collect()
}

/// Grants a WebSocket with one of the protocols that were offered.
pub(super) fn grant<B>(request: &Request<B>, protocol: &str) -> Result<Response<Body>, Refusal> {
    let key = request.headers().get(SEC_WEBSOCKET_KEY).and_then(|v| v.to_str().ok());
    let key = key.ok_or_else(|| Refusal::bad_request("a WebSocket needs a key"))?;
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes());
    let value = |text: &str| HeaderValue::from_str(text).map_err(Refusal::internal);
    let mut response = Response::new(full_body(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, value(&STANDARD.encode(hash))?);
    headers.insert(SEC_WEBSOCKET_PROTOCOL, value(protocol)?);
    Ok(response)
}

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Bytes, or text as its bytes.
    Data(Bytes),
    /// To be answered with the same bytes.
    Ping(Bytes),
    /// It is over.
    Close,
}

/// Reads a client's messages.
pub(super) struct Reader<R>(pub(super) R);

impl<R: AsyncRead + Unpin> Reader<R> {
    /// The next message; [`Message::Close`] at the end too.
    ///
    /// # Errors
    /// If the connection broke, or the client does not keep to the standard.
    pub(super) async fn next(&mut self) -> std::io::Result<Message> {
        let wrong = |why: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, why.to_owned());
        let (mut message, mut begun) = (BytesMut::new(), false);
        loop {
            let mut head = [0; 2];
            match self.0.read_exact(&mut head).await {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(Message::Close),
                Err(error) => return Err(error),
            }
            let [first, second] = head;
            let (last, kind, masked) = (first & 0x80 != 0, first & 0x0f, second & 0x80 != 0);
            let len = match second & 0x7f {
                126 => u64::from(self.0.read_u16().await?),
                127 => self.0.read_u64().await?,
                short => u64::from(short),
            };
            let len = usize::try_from(len).ok().filter(|len| len + message.len() <= MAX_MESSAGE);
            let len = len.ok_or_else(|| wrong("a message is too long"))?;
            let mut mask = [0; 4];
            if masked {
                self.0.read_exact(&mut mask).await?;
            }
            let mut payload = BytesMut::zeroed(len);
            self.0.read_exact(&mut payload).await?;
            payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
            match kind {
                // These may come between the frames of a message.
                PING => return self.between(begun, Message::Ping(payload.freeze())),
                PONG => continue,
                CLOSE => return Ok(Message::Close),
                CONTINUATION if !begun => return Err(wrong("a message goes on that did not begin")),
                CONTINUATION | 1 | BINARY => {}
                _ => return Err(wrong("a frame of an unknown kind")),
            }
            if last && !begun {
                return Ok(Message::Data(payload.freeze()));
            }
            begun = true;
            message.unsplit(payload);
            if last {
                return Ok(Message::Data(message.freeze()));
            }
        }
    }

    /// Messages in pieces with a ping among them are allowed and never sent by any client of ours: they are refused
    /// rather than kept apart.
    fn between(&self, begun: bool, message: Message) -> std::io::Result<Message> {
        if begun {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "a ping within a message"));
        }
        Ok(message)
    }
}

/// Writes messages to a client.
pub(super) struct Writer<W>(pub(super) W);

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// A message of several parts, in one frame.
    pub(super) async fn send(&mut self, parts: &[&[u8]]) -> std::io::Result<()> {
        self.frame(BINARY, parts).await
    }

    pub(super) async fn pong(&mut self, payload: &[u8]) -> std::io::Result<()> {
        self.frame(PONG, &[payload]).await
    }

    /// The end.
    pub(super) async fn close(&mut self) -> std::io::Result<()> {
        self.frame(CLOSE, &[&NORMAL.to_be_bytes()]).await?;
        self.0.shutdown().await
    }

    async fn frame(&mut self, kind: u8, parts: &[&[u8]]) -> std::io::Result<()> {
        let len: usize = parts.iter().map(|p| p.len()).sum();
        let mut out = BytesMut::with_capacity(len + 10);
        out.put_u8(0x80 | kind);
        match (u8::try_from(len), u16::try_from(len)) {
            (Ok(short), _) if short < 126 => out.put_u8(short),
            (_, Ok(middle)) => {
                out.put_u8(126);
                out.put_u16(middle);
            }
            _ => {
                out.put_u8(127);
                out.put_u64(len as u64);
            }
        }
        parts.iter().for_each(|part| out.extend_from_slice(part));
        self.0.write_all(&out).await?;
        self.0.flush().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as a client writes it.
    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut out = vec![first];
        match payload.len() {
            len @ 0..126 => out.push(0x80 | len as u8),
            len => {
                out.push(0x80 | 126);
                out.extend_from_slice(&(len as u16).to_be_bytes());
            }
        }
        out.extend_from_slice(&mask);
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b));
        out
    }

    #[tokio::test]
    async fn messages_are_put_together_from_frames() {
        let long = vec![b'x'; 300];
        let stream = [
            masked(0x82, b"one"),
            masked(0x02, b"tw"),
            masked(0x80, b"o"),
            masked(0x89, b"?"),
            masked(0x8a, b"!"),
            masked(0x82, &long),
            masked(0x88, b""),
        ]
        .concat();
        let mut reader = Reader(stream.as_slice());
        let data = |bytes: &[u8]| Message::Data(Bytes::copy_from_slice(bytes));
        for expected in
            [data(b"one"), data(b"two"), Message::Ping(Bytes::from_static(b"?")), data(&long), Message::Close]
        {
            assert_eq!(reader.next().await.unwrap(), expected);
        }
        assert_eq!(reader.next().await.unwrap(), Message::Close, "the end is an end too");
    }

    #[tokio::test]
    async fn what_is_against_the_standard_is_refused() {
        let rows: [&[u8]; 3] =
            [&[0x80, 0x80, 0, 0, 0, 0], &[0x83, 0x80, 0, 0, 0, 0], &[0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]];
        for bytes in rows {
            assert!(Reader(bytes).next().await.is_err(), "{bytes:x?}");
        }
    }

    #[tokio::test]
    async fn frames_have_the_length_that_they_need() {
        let mut out = Vec::new();
        let mut writer = Writer(&mut out);
        writer.send(&[&[1], b"ab"]).await.unwrap();
        writer.send(&[&[0; 300]]).await.unwrap();
        writer.close().await.unwrap();
        assert_eq!(out[..5], [0x82, 3, 1, b'a', b'b']);
        assert_eq!(out[5..9], [0x82, 126, 1, 44]);
        assert_eq!(out[309..], [0x88, 2, 0x03, 0xe8]);
    }

    #[test]
    fn the_handshake_is_the_one_of_the_standard() {
        let request = Request::builder()
            .header("upgrade", "websocket")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-protocol", "v5.channel.k8s.io, v4.channel.k8s.io")
            .body(())
            .unwrap();
        assert_eq!(offers(&request), ["v5.channel.k8s.io", "v4.channel.k8s.io"]);
        let response = grant(&request, "v5.channel.k8s.io").unwrap();
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
