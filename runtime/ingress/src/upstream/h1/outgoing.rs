//! Requests on their way out.

use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, Method};
use hyper::body::Body as _;
use tokio::io::AsyncWrite;

use crate::io::Io;
use crate::proxy::RequestBody;
use crate::upstream::UpstreamError;

/// The head of a request as it is sent. The headers are without what is about the client's connection.
pub(crate) fn request_head(method: &Method, target: &str, headers: &HeaderMap, framing: &str) -> Vec<u8> {
    let mut head = Vec::with_capacity(1_024);
    for part in [method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
    for (name, value) in headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head.extend_from_slice(framing.as_bytes());
    head.extend_from_slice(b"\r\n");
    head
}

/// What of a request is still to be sent.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// Goes first: the head, or a chunk's size; so much of it is sent.
    before: Vec<u8>,
    at: usize,
    data: Bytes,
    after: &'static [u8],
    body: Option<RequestBody>,
    is_chunked: bool,
    /// Bytes so far.
    sent: u64,
}

impl Outgoing {
    /// A request with this head and body; without an announced length the body is sent in chunks.
    pub(crate) fn new(head: Vec<u8>, body: Option<RequestBody>, is_chunked: bool) -> Self {
        Self { before: head, at: 0, data: Bytes::new(), after: b"", body, is_chunked, sent: 0 }
    }

    /// Whether all was sent.
    pub(super) fn is_done(&self) -> bool {
        self.body.is_none() && self.is_flushed()
    }

    /// How many bytes were sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether what came of the request so far was sent.
    pub(super) fn is_flushed(&self) -> bool {
        self.at == self.before.len() && self.data.is_empty() && self.after.is_empty()
    }

    /// Sends on; ready when all was sent.
    pub(super) fn poll_send(&mut self, io: &mut Io, cx: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        loop {
            // The first part of a body goes with the head if it is there.
            let is_waiting = self.data.is_empty() && self.after.is_empty() && self.poll_body(cx)?.is_pending();
            if self.is_flushed() {
                return if is_waiting { Poll::Pending } else { Poll::Ready(Ok(())) };
            }
            ready!(self.poll_write(io, cx)).map_err(UpstreamError::Broken)?;
        }
    }

    /// Takes the next part of the body, if there is one.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, UpstreamError> {
        let Some(body) = &mut self.body else { return Ok(Poll::Ready(())) };
        loop {
            let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else { return Ok(Poll::Pending) };
            let is_over = frame.is_none() || body.is_end_stream();
            // Trailers of requests are left out.
            let data = match frame.transpose().map_err(UpstreamError::Request)? {
                Some(frame) => frame.into_data().unwrap_or_default(),
                None => Bytes::new(),
            };
            if data.is_empty() && !is_over {
                continue;
            }
            if is_over {
                self.body = None;
            }
            if self.is_chunked {
                self.frame(data, is_over);
            } else {
                self.data = data;
            }
            return Ok(Poll::Ready(()));
        }
    }

    fn frame(&mut self, data: Bytes, is_last: bool) {
        if data.is_empty() {
            self.after = b"0\r\n\r\n";
            return;
        }
        if self.at == self.before.len() {
            self.before.clear();
            self.at = 0;
        }
        // Writing to memory does not fail.
        _ = write!(self.before, "{:x}\r\n", data.len());
        self.data = data;
        self.after = if is_last { b"\r\n0\r\n\r\n" } else { b"\r\n" };
    }

    fn poll_write(&mut self, io: &mut Io, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let before = &self.before[self.at..];
        let mut written = if self.data.is_empty() && self.after.is_empty() {
            ready!(Pin::new(io).poll_write(cx, before))?
        } else {
            let slices = [IoSlice::new(before), IoSlice::new(&self.data), IoSlice::new(self.after)];
            ready!(Pin::new(io).poll_write_vectored(cx, &slices))?
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.sent += written as u64;
        let of_before = written.min(self.before.len() - self.at);
        self.at += of_before;
        written -= of_before;
        let of_data = written.min(self.data.len());
        self.data.advance(of_data);
        written -= of_data;
        self.after = &self.after[written..];
        Poll::Ready(Ok(()))
    }
}
