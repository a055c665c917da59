//! Answers as they pass: read for the record, or followed to their end.

use std::io::Read as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use ::http::Response;
use ::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use bytes::Bytes;
use flate2::read::GzDecoder;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use serde_json::Value;

use super::Recording;
use crate::http::body::{Body, BoxError, full};
use crate::http::negotiate;

/// Takes an answer in, and gives it back with the object in it, if there is one.
pub(super) async fn read(response: Response<Body>) -> (Response<Body>, Option<Value>) {
    let (parts, body) = response.into_parts();
    let bytes = match body.collect().await {
        Ok(collected) => collected.to_bytes(),
        // Bodies that are no streams don't fail.
        Err(error) => {
            tracing::debug!(%error, "an answer could not be read for the audit log");
            Bytes::new()
        }
    };
    let zipped = parts.headers.get(CONTENT_ENCODING).is_some_and(|e| e == "gzip");
    let plain = if zipped { unzip(&bytes) } else { Some(bytes.clone()) };
    let known = parts.headers.contains_key(CONTENT_TYPE);
    let object = plain.filter(|_| known).and_then(|plain| negotiate::read_body(&parts.headers, &plain).ok());
    (Response::from_parts(parts, full(bytes)), object.map(|decoded| decoded.value).filter(Value::is_object))
}

fn unzip(bytes: &[u8]) -> Option<Bytes> {
    let mut out = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut out).ok()?;
    Some(out.into())
}

/// A stream whose end is recorded, whoever ends it.
pub(super) struct Recorded {
    stream: Body,
    recording: Recording,
    answer: Value,
}

impl Recorded {
    pub(super) fn new(stream: Body, recording: Recording, answer: Value) -> Self {
        Self { stream, recording, answer }
    }

    pub(super) fn into_body(self) -> Body {
        self.boxed()
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.recording.end(&self.answer);
    }
}

impl hyper::body::Body for Recorded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.stream).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.stream.size_hint()
    }
}
