//! The bodies of answers.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use hyper::body::{Frame, SizeHint};

use super::chunked::Chunked;
use super::{Outgoing, poll_read};
use crate::io::Io;
use crate::proxy::Stall;
use crate::upstream::{Endpoint, UpstreamError};

/// How a body is read.
#[derive(Debug)]
pub(super) enum Decoder {
    /// So many bytes are left.
    Length(u64),
    Chunked(Chunked),
    /// Until the connection ends.
    Close,
}

/// A body. Its connection waits for the next request as soon as it is read.
#[derive(Debug)]
pub(crate) enum Body {
    /// All of it.
    Whole(Bytes),
    /// From a connection.
    Stream(Box<Stream>),
}

/// A body that comes from a connection.
#[derive(Debug)]
pub(crate) struct Stream {
    /// None at the end.
    io: Option<Io>,
    /// What was read already.
    rest: Bytes,
    decoder: Decoder,
    /// The rest of the request.
    outgoing: Outgoing,
    is_kept: bool,
    endpoint: Arc<Endpoint>,
    stall: Stall,
}

impl Body {
    /// None.
    pub(crate) fn empty() -> Self {
        Self::Whole(Bytes::new())
    }

    pub(super) fn new(
        io: Io,
        rest: Bytes,
        decoder: Decoder,
        outgoing: Outgoing,
        is_kept: bool,
        endpoint: Arc<Endpoint>,
        idle: Duration,
    ) -> Self {
        // Most answers are small and have arrived whole.
        if let Decoder::Length(length) = decoder
            && length <= rest.len() as u64
        {
            let is_exact = length == rest.len() as u64;
            if is_kept && is_exact && outgoing.is_done() {
                endpoint.put(io);
            }
            // A body that is no body has nothing behind it that belongs to it.
            let whole = rest.slice(..usize::try_from(length).unwrap_or(rest.len()));
            return Self::Whole(whole);
        }
        let stall = Stall::new(idle);
        Self::Stream(Box::new(Stream { io: Some(io), rest, decoder, outgoing, is_kept, endpoint, stall }))
    }

    /// The next part of it.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        match self {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream(stream) => stream.poll(cx),
        }
    }

    /// Whether nothing is left of it.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Stream(stream) => stream.io.is_none(),
        }
    }

    /// How long the rest is.
    pub(crate) fn size(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(stream) => match stream.decoder {
                Decoder::Length(left) => SizeHint::with_exact(left),
                _ => SizeHint::default(),
            },
        }
    }
}

impl Stream {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        let Some(io) = &mut self.io else { return Poll::Ready(None) };
        if !self.outgoing.is_done()
            && let Poll::Ready(Err(error)) = self.outgoing.poll_send(io, cx)
        {
            // That the endpoint wants no more of the request is no reason to stop reading its answer.
            if !matches!(error, UpstreamError::Broken(_)) {
                return Poll::Ready(Some(Err(error)));
            }
            self.is_kept = false;
        }
        let decoded = match self.poll_data(cx) {
            Poll::Ready(decoded) => decoded,
            Poll::Pending => {
                return self.stall.poll(cx).map(|()| Some(Err(UpstreamError::Timeout)));
            }
        };
        self.stall.clear();
        match decoded {
            Ok(data) => {
                if self.is_at_end() {
                    self.finish();
                }
                let over = data.is_empty().then_some(None);
                Poll::Ready(over.unwrap_or_else(|| Some(Ok(Frame::data(data)))))
            }
            Err(error) => {
                self.io = None;
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    /// The next data; empty at the end.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, UpstreamError>> {
        loop {
            if let Decoder::Chunked(state) = &mut self.decoder {
                let skipped = state.skip(&self.rest).map_err(UpstreamError::Malformed)?;
                self.rest.advance(skipped);
            }
            if self.is_at_end() {
                return Poll::Ready(Ok(Bytes::new()));
            }
            if !self.rest.is_empty() {
                let taken = match &mut self.decoder {
                    Decoder::Length(left) => {
                        let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(self.rest.len());
                        *left -= taken as u64;
                        taken
                    }
                    Decoder::Chunked(state) => state.take(self.rest.len()),
                    Decoder::Close => self.rest.len(),
                };
                let data = self.rest.split_to(taken);
                if let Decoder::Chunked(state) = &mut self.decoder {
                    let skipped = state.skip(&self.rest).map_err(UpstreamError::Malformed)?;
                    self.rest.advance(skipped);
                }
                return Poll::Ready(Ok(data));
            }
            let Some(io) = &mut self.io else { return Poll::Ready(Ok(Bytes::new())) };
            self.rest = ready!(poll_read(io, cx, Bytes::copy_from_slice)).map_err(UpstreamError::Broken)?;
            if self.rest.is_empty() {
                return Poll::Ready(match self.decoder {
                    Decoder::Close => {
                        self.is_kept = false;
                        self.io = None;
                        Ok(Bytes::new())
                    }
                    _ => Err(UpstreamError::Broken(io::ErrorKind::UnexpectedEof.into())),
                });
            }
        }
    }

    fn is_at_end(&self) -> bool {
        matches!(self.decoder, Decoder::Length(0) | Decoder::Chunked(Chunked::Over))
    }

    /// Lets the connection wait for the next request, if it can have one.
    fn finish(&mut self) {
        if let Some(io) = self.io.take()
            && self.is_kept
            && self.rest.is_empty()
            && self.outgoing.is_done()
        {
            self.endpoint.put(io);
        }
    }
}
