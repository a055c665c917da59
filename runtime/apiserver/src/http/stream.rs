//! Bodies that go on: frames as they come about.

use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http_body_util::BodyExt as _;
use hyper::body::Frame;

use super::body::{Body, BoxError};

/// Among a response's extensions: its body is a stream whose every frame is a message of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Messages;

/// A body that draws its frames out of a stream, as fast as they can be sent.
pub(crate) fn body(frames: impl Stream<Item = Bytes> + Send + 'static) -> Body {
    fallible(frames.map(Ok))
}

/// As [`body`], of frames whose source may break off: the client sees that it did.
pub(crate) fn fallible(frames: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static) -> Body {
    StreamBody(Mutex::new(Box::pin(frames))).boxed()
}

/// Bodies may be shared among threads, which only a mutex gives a stream that may not; it is never locked.
struct StreamBody(Mutex<Pin<Box<Frames>>>);

/// Frames, or why there are no more.
type Frames = dyn Stream<Item = Result<Bytes, BoxError>> + Send;

impl hyper::body::Body for StreamBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let stream = self.0.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        stream.as_mut().poll_next(cx).map(|next| next.map(|frame| frame.map(Frame::data)))
    }
}
