//! Bodies of responses: whole ones, and streams fed by a task.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use tokio::sync::mpsc;

/// Any error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The body of every response.
pub type Body = BoxBody<Bytes, BoxError>;

/// The body of a request that is passed on as it comes in, however long it is. Whoever passes it on takes it.
#[derive(Clone)]
pub(crate) struct Upload(Arc<Mutex<Option<Body>>>);

impl Upload {
    pub(crate) fn new(body: Incoming) -> Self {
        Self(Arc::new(Mutex::new(Some(body.map_err(Into::into).boxed()))))
    }

    pub(crate) fn take(&self) -> Option<Body> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

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
    head: Bytes,
    items: std::vec::IntoIter<Bytes>,
    between: &'static [u8],
    tail: Bytes,
    /// No item was sent so far.
    first: bool,
    len: usize,
    /// Where frames are joined: the room of those that have gone out is taken again, since memory of this size is asked of
    /// the system and given back each time.
    room: BytesMut,
}

/// Bytes joined into one frame.
const FRAME: usize = 64 * 1024;

impl Pieces {
    /// `head`, the items with something between, if it is not empty, `tail`.
    pub(crate) fn new(head: Bytes, items: Vec<Bytes>, between: &'static [u8], tail: Bytes) -> Self {
        let all: usize = items.iter().map(Bytes::len).sum();
        let len = head.len() + all + items.len().saturating_sub(1) * between.len() + tail.len();
        Self { head, items: items.into_iter(), between, tail, first: true, len, room: BytesMut::new() }
    }

    /// Bytes left.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// All of it in one piece.
    pub(crate) fn into_bytes(mut self) -> Bytes {
        let len = self.len;
        self.take(len)
    }

    /// The next bytes in one piece: no more than `most`, unless an item is longer.
    fn take(&mut self, most: usize) -> Bytes {
        let mut out = std::mem::take(&mut self.room);
        out.reserve(most.min(self.len));
        out.extend_from_slice(&std::mem::take(&mut self.head));
        while let Some(item) = self.items.as_slice().first() {
            // At least one item, however long it is.
            if !out.is_empty() && out.len() + self.between.len() + item.len() > most {
                break;
            }
            if !std::mem::take(&mut self.first) {
                out.extend_from_slice(self.between);
            }
            out.extend_from_slice(item);
            self.items.next();
        }
        if self.items.as_slice().is_empty() {
            out.extend_from_slice(&std::mem::take(&mut self.tail));
        }
        self.len -= out.len();
        let bytes = out.split().freeze();
        self.room = out;
        bytes
    }
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.len == 0 {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(self.take(FRAME)))))
    }

    fn is_end_stream(&self) -> bool {
        self.len == 0
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pieces_are_joined_into_frames_and_nothing_is_lost() {
        for count in [0, 1, 3, 500] {
            let items: Vec<Bytes> = (0..count).map(|i| format!("{i}{}", "x".repeat(i * 3)).into()).collect();
            let expected =
                format!("[{}]", items.iter().map(|i| String::from_utf8_lossy(i)).collect::<Vec<_>>().join(","));
            let pieces = || Pieces::new(Bytes::from_static(b"["), items.clone(), b",", Bytes::from_static(b"]"));
            assert_eq!(pieces().len(), expected.len());
            assert_eq!(pieces().into_bytes(), expected);
            assert_eq!(pieces().collect().await.unwrap().to_bytes(), expected);
        }
    }

    #[test]
    fn the_room_of_a_frame_that_has_gone_out_is_taken_again() {
        let items = vec![Bytes::from(vec![b'x'; FRAME - 1]); 3];
        let mut pieces = Pieces::new(Bytes::new(), items, b"", Bytes::new());
        let first = pieces.take(FRAME);
        let place = first.as_ptr();
        drop(first);
        let second = pieces.take(FRAME);
        assert_eq!(second.as_ptr(), place);
        assert_ne!(pieces.take(FRAME).as_ptr(), place, "the second frame is still under way");
        assert_eq!(second, vec![b'x'; FRAME - 1]);
    }
}
