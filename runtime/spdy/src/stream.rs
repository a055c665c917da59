//! One stream: bytes in both directions, each of which ends by itself.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, PollSender};

use crate::frame::{Frame, MAX_DATA};
use crate::headers::Headers;
use crate::session::{CANCEL, Shared, lock};

/// A stream. Shutting it down ends this side of it; dropping it gives up both.
///
/// That the peer gives a stream up is how Kubernetes' implementation ends most of them: it reads as an end.
pub struct Stream {
    id: u32,
    headers: Headers,
    incoming: mpsc::Receiver<Result<Bytes, ()>>,
    /// What came and is not yet read.
    current: Bytes,
    /// The peer's side has ended.
    read_all: bool,
    outgoing: PollSender<Frame>,
    /// This side has ended.
    wrote_all: bool,
    reset: CancellationToken,
    shared: Arc<Shared>,
}

impl Stream {
    pub(crate) fn new(
        id: u32,
        headers: Headers,
        incoming: mpsc::Receiver<Result<Bytes, ()>>,
        outgoing: PollSender<Frame>,
        reset: CancellationToken,
        shared: Arc<Shared>,
    ) -> Self {
        let (current, read_all, wrote_all) = (Bytes::new(), false, false);
        Self { id, headers, incoming, current, read_all, outgoing, wrote_all, reset, shared }
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// The value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The next bytes of the peer, as they came; `None` at the end.
    ///
    /// # Errors
    /// If the connection broke before the stream ended.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        if !self.current.is_empty() {
            return Poll::Ready(Ok(Some(std::mem::take(&mut self.current))));
        }
        if self.read_all {
            return Poll::Ready(Ok(None));
        }
        match ready!(self.incoming.poll_recv(cx)) {
            Some(Ok(bytes)) => Poll::Ready(Ok(Some(bytes))),
            Some(Err(())) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            None => {
                self.read_all = true;
                Poll::Ready(Ok(None))
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, frame: impl FnOnce(u32) -> Frame) -> Poll<io::Result<()>> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        if self.reset.is_cancelled() || self.wrote_all {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(self.outgoing.poll_reserve(cx)).map_err(gone)?;
        let frame = frame(self.id);
        Poll::Ready(self.outgoing.send_item(frame).map_err(gone))
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.current.is_empty() {
            let next = ready!(self.poll_next(cx))?;
            self.current = next.unwrap_or_default();
        }
        let len = self.current.len().min(buf.remaining());
        buf.put_slice(&self.current[..len]);
        self.current.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let len = buf.len().min(MAX_DATA);
        if len == 0 {
            return Poll::Ready(Ok(0));
        }
        let data = |id| Frame::Data { id, bytes: Bytes::copy_from_slice(&buf[..len]), fin: false };
        self.poll_send(cx, data).map_ok(|()| len)
    }

    /// Frames are on their way as soon as they are taken.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.wrote_all || self.reset.is_cancelled() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_send(cx, |id| Frame::Data { id, bytes: Bytes::new(), fin: true }))?;
        self.wrote_all = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut streams = lock(self.shared.table());
        streams.remove(self.id);
        drop(streams);
        // An end that came but was not read is one all the same.
        let ended = self.read_all || (self.incoming.is_closed() && self.incoming.is_empty());
        if self.reset.is_cancelled() || (self.wrote_all && ended) {
            return;
        }
        let frame = Frame::Reset { id: self.id, status: CANCEL };
        if let Err(mpsc::error::TrySendError::Full(frame)) = self.shared.frames.try_send(frame)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let frames = self.shared.frames.clone();
            runtime.spawn(async move { _ = frames.send(frame).await });
        }
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("id", &self.id).field("headers", &self.headers).finish_non_exhaustive()
    }
}
