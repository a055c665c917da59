//! HTTP/1.1 towards endpoints.
//!
//! An exchange is driven by the task that serves the client: no task, channel or buffer of its own, so that a request costs
//! little and a connection that waits holds nothing but its socket. What is read is copied out of one buffer per thread.
//! hyper's client would take two tasks and 8 KiB for each connection.

mod body;
mod chunked;
mod head;
mod outgoing;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, response};
use tokio::io::{AsyncRead, ReadBuf};

pub(crate) use body::Body;
pub(crate) use outgoing::{Outgoing, request_head};

use self::body::Decoder;
use super::{Endpoint, UpstreamError};
use crate::io::Io;
use crate::proxy::Stall;

/// The most bytes that the head of an answer may have.
const MOST_HEAD: usize = 64 << 10;
/// What is read at once.
const READ: usize = 16 << 10;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into_boxed_slice());
}

/// Reads what is there, and hands it to `take`. Nothing is handed at the end of the stream.
fn poll_read<T>(io: &mut Io, cx: &mut Context<'_>, take: impl FnOnce(&[u8]) -> T) -> Poll<io::Result<T>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut buffer = ReadBuf::new(scratch);
        ready!(Pin::new(io).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(take(buffer.filled())))
    })
}

/// The answer of an endpoint.
pub(crate) struct Answer {
    /// Its head, without what is about the connection.
    pub(crate) head: response::Parts,
    pub(crate) body: Body,
    /// The connection, if it is something else than HTTP now, and what came on it behind the head.
    pub(crate) upgraded: Option<(Io, Bytes)>,
}

/// An exchange that failed.
pub(crate) struct Failed {
    pub(crate) error: UpstreamError,
    /// No byte of an answer came.
    pub(crate) is_silent: bool,
}

/// A request under way.
pub(crate) struct Exchange {
    io: Io,
    outgoing: Outgoing,
    /// The beginning of a head that is not whole yet.
    begun: Vec<u8>,
    is_head_request: bool,
}

impl Exchange {
    /// Ready to be sent.
    pub(crate) fn new(io: Io, outgoing: Outgoing, is_head_request: bool) -> Self {
        Self { io, outgoing, begun: Vec::new(), is_head_request }
    }

    /// Sends the request, and waits for the head of the answer: for `within`, in which the endpoint neither takes more of the
    /// request nor answers. An answer may come before the request is through; the rest of it is then sent while the answer's body is
    /// read, which may be silent for `idle`.
    pub(crate) async fn run(
        mut self,
        endpoint: &Arc<Endpoint>,
        within: Duration,
        idle: Duration,
    ) -> Result<Answer, Failed> {
        let (mut sent, mut stall) = (Ok(()), Stall::new(within));
        let read = poll_fn(|cx| {
            let mut is_clients_turn = false;
            if sent.is_ok() {
                let before = self.outgoing.sent();
                match self.outgoing.poll_send(&mut self.io, cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error @ UpstreamError::Broken(_))) => {
                        // It may have answered before it closed the connection.
                        sent = Err(error);
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => is_clients_turn = self.outgoing.is_flushed(),
                }
                if self.outgoing.sent() != before {
                    stall.clear();
                }
            }
            match self.poll_head(cx) {
                Poll::Ready(head) => Poll::Ready(head),
                Poll::Pending if is_clients_turn => {
                    stall.clear();
                    Poll::Pending
                }
                Poll::Pending => stall.poll(cx).map(|()| Err(UpstreamError::Timeout)),
            }
        });
        match read.await {
            Ok((head, rest)) => Ok(self.answer(head, rest, endpoint, idle)),
            Err(error) => {
                let error = match (sent, error) {
                    (Err(earlier), UpstreamError::Broken(_)) => earlier,
                    (_, error) => error,
                };
                Err(Failed { error, is_silent: self.begun.is_empty() })
            }
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(head::Head, Bytes), UpstreamError>> {
        loop {
            let begun = &mut self.begun;
            let read = ready!(poll_read(&mut self.io, cx, |bytes| {
                if bytes.is_empty() {
                    return Err(UpstreamError::Broken(io::ErrorKind::UnexpectedEof.into()));
                }
                let whole = if begun.is_empty() {
                    Bytes::copy_from_slice(bytes)
                } else {
                    begun.extend_from_slice(bytes);
                    std::mem::take(begun).into()
                };
                let (found, used) = head::find(&whole)?;
                let rest = whole.slice(used..);
                let found = match found {
                    Some(head) => Some((head, rest)),
                    None if rest.len() > MOST_HEAD => {
                        return Err(UpstreamError::Malformed("its head is too large"));
                    }
                    None => {
                        *begun = rest.into();
                        None
                    }
                };
                Ok(found)
            }));
            if let Some(found) = read.map_err(UpstreamError::Broken)?? {
                return Poll::Ready(Ok(found));
            }
        }
    }

    fn answer(self, head: head::Head, rest: Bytes, endpoint: &Arc<Endpoint>, idle: Duration) -> Answer {
        let head::Head { parts, framing, is_kept } = head;
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            return Answer { head: parts, body: Body::empty(), upgraded: Some((self.io, rest)) };
        }
        let has_none = self.is_head_request
            || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::RESET_CONTENT);
        let decoder = match framing {
            _ if has_none => Decoder::Length(0),
            head::Framing::Length(length) => Decoder::Length(length),
            head::Framing::Chunked => Decoder::Chunked(chunked::Chunked::default()),
            head::Framing::Close => Decoder::Close,
        };
        let body = Body::new(self.io, rest, decoder, self.outgoing, is_kept, endpoint.clone(), idle);
        Answer { head: parts, body, upgraded: None }
    }
}
