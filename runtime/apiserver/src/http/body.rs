//! Bodies of responses: whole ones, and streams fed by a task.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Frame;
use tokio::sync::mpsc;

/// Any error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The body of every response.
pub type Body = BoxBody<Bytes, BoxError>;

/// A body that is all there.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed()
}

/// A body whose frames come out of a channel; it ends when the sender is dropped.
pub(crate) fn channel(frames: mpsc::Receiver<Bytes>) -> Body {
    ChannelBody(frames).boxed()
}

/// A long body made of many short pieces, which are joined only as they are sent.
pub(crate) struct Pieces {
    rest: std::collections::VecDeque<Bytes>,
    len: usize,
}

/// Bytes joined into one frame.
const FRAME: usize = 64 * 1024;

impl Pieces {
    /// `head`, the items with something between, if it is not empty, `tail`.
    pub(crate) fn new(head: Bytes, items: Vec<Bytes>, between: &'static [u8], tail: Bytes) -> Self {
        let mut rest = std::collections::VecDeque::with_capacity(items.len() * 2 + 2);
        rest.push_back(head);
        for (i, item) in items.into_iter().enumerate() {
            if i > 0 && !between.is_empty() {
                rest.push_back(Bytes::from_static(between));
            }
            rest.push_back(item);
        }
        rest.push_back(tail);
        let len = rest.iter().map(Bytes::len).sum();
        Self { rest, len }
    }

    /// Bytes left.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// All of it in one piece.
    pub(crate) fn into_bytes(self) -> Bytes {
        let mut out = Vec::with_capacity(self.len);
        self.rest.iter().for_each(|p| out.extend_from_slice(p));
        out.into()
    }

    fn next_frame(&mut self) -> Option<Bytes> {
        let first = self.rest.pop_front()?;
        let mut frame = Vec::from(first);
        while let Some(piece) = self.rest.front().filter(|p| frame.len() + p.len() <= FRAME) {
            frame.extend_from_slice(piece);
            self.rest.pop_front();
        }
        self.len -= frame.len();
        Some(frame.into())
    }
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.next_frame().map(|f| Ok(Frame::data(f))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        hyper::body::SizeHint::with_exact(self.len as u64)
    }
}

struct ChannelBody(mpsc::Receiver<Bytes>);

impl hyper::body::Body for ChannelBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(cx).map(|next| next.map(|bytes| Ok(Frame::data(bytes))))
    }
}
