//! Answers out of texts and values.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame};
use kiln_client::{Body, BoxError, full_body};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::cri::CriError;

/// Why a request is not answered as asked: the code, and the text that is the body.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) StatusCode, pub(super) String);

impl Refusal {
    pub(super) fn bad_request(why: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, why.into())
    }

    pub(super) fn not_found(why: impl Into<String>) -> Self {
        Self(StatusCode::NOT_FOUND, why.into())
    }

    pub(super) fn internal(why: impl std::fmt::Display) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, why.to_string())
    }

    pub(super) fn response(self) -> Response<Body> {
        text(self.0, "text/plain; charset=utf-8", self.1)
    }
}

impl From<CriError> for Refusal {
    fn from(error: CriError) -> Self {
        if error.is_not_found() { Self::not_found(error.to_string()) } else { Self::internal(error) }
    }
}

/// Some text.
pub(super) fn text(code: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full_body(body));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// A value as JSON.
pub(super) fn json(value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(body) => text(StatusCode::OK, "application/json", body),
        Err(error) => Refusal::internal(error).response(),
    }
}

/// A body whose frames come out of a channel; it ends when the sender is dropped.
pub(super) fn channel(frames: mpsc::Receiver<Bytes>) -> Body {
    Channel(frames).boxed()
}

struct Channel(mpsc::Receiver<Bytes>);

impl HttpBody for Channel {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(cx).map(|next| next.map(|bytes| Ok(Frame::data(bytes))))
    }
}
