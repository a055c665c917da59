//! The bodies of a call.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use prost::Message;
use tokio::sync::mpsc;

use crate::error::{CallError, Code};
use crate::{Connection, take};

/// The body of a request: messages as they are sent, until the sender is dropped.
pub struct Outgoing(pub mpsc::UnboundedReceiver<Bytes>);

impl Body for Outgoing {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.0.poll_recv(cx).map(|message| message.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// The messages of an answer.
pub struct Messages {
    body: Incoming,
    buffer: BytesMut,
    base: String,
}

impl Messages {
    /// Sends a request and waits for the answer's beginning.
    pub(crate) async fn open(mut connection: Connection, path: &str, body: Outgoing) -> Result<Self, CallError> {
        let mut request = Request::post(format!("{}{path}", connection.base))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in connection.headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).map_err(|error| CallError::Unreached(error.to_string()))?;
        let base = connection.base.clone();
        connection.sender.ready().await.map_err(|error| CallError::Unreached(format!("{base}: {error}")))?;
        let response = connection.sender.try_send_request(request).await.map_err(|mut failed| {
            let unsent = failed.take_message().is_some();
            let why = format!("{base}: {}", failed.error());
            if unsent { CallError::Unreached(why) } else { CallError::Broken(why) }
        })?;
        check_http(&response, &base)?;
        // Without a body the status is in the headers.
        check_status(response.headers(), &base)?;
        Ok(Self { body: response.into_body(), buffer: BytesMut::new(), base })
    }

    /// The next message; `None` after the last.
    ///
    /// # Errors
    /// See [`CallError`]; the stream has ended then.
    pub async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, CallError> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(CallError::Broken(format!("{}: {error}", self.base))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    Err(frame) => {
                        if let Some(trailers) = frame.trailers_ref() {
                            check_status(trailers, &self.base)?;
                        }
                    }
                },
            }
        }
    }

    fn take<M: Message + Default>(&mut self) -> Result<Option<M>, CallError> {
        take(&mut self.buffer).map_err(|why| CallError::Broken(format!("{}: {why}", self.base)))
    }
}

fn check_http(response: &Response<Incoming>, base: &str) -> Result<(), CallError> {
    if response.status() == http::StatusCode::OK {
        return Ok(());
    }
    Err(CallError::Broken(format!("{base}: it answers {}; is it the right server?", response.status())))
}

fn check_status(headers: &HeaderMap, base: &str) -> Result<(), CallError> {
    let text = |name: &str| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let Some(code) = text("grpc-status") else { return Ok(()) };
    let message = text("grpc-message").map_or_else(|| "no reason given".to_owned(), |text| unescape(&text));
    match code.parse().map(Code) {
        Ok(Code::OK) => Ok(()),
        Ok(Code::UNAVAILABLE) | Err(_) => Err(CallError::Broken(format!("{base}: {message}"))),
        Ok(code) => Err(CallError::Refused { code, message }),
    }
}

/// A message of gRPC, whose bytes outside of printable ASCII are percent-encoded.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let digit = |at: usize| tail.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        rest = match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
                &tail[2..]
            }
            _ => {
                bytes.push(byte);
                tail
            }
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_servers_words() {
        let mut headers = HeaderMap::new();
        assert!(check_status(&headers, "x").is_ok(), "the status is yet to come");
        headers.insert("grpc-status", http::HeaderValue::from_static("5"));
        headers.insert("grpc-message", http::HeaderValue::from_static("no \"%C3%A4\": 100%"));
        let error = check_status(&headers, "x").unwrap_err();
        assert!(error.is(Code::NOT_FOUND));
        assert_eq!(error.to_string(), "rpc error: code = NotFound desc = no \"ä\": 100%");
        headers.insert("grpc-status", http::HeaderValue::from_static("0"));
        assert!(check_status(&headers, "x").is_ok());
    }
}
