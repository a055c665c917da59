//! Connections that are something else than HTTP now: bytes go both ways as they come.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::Stall;
use crate::io::Io;

/// What is read at once.
const READ: usize = 8 << 10;

/// One direction.
#[derive(Debug)]
struct Pipe {
    /// Read, and not written yet.
    pending: Bytes,
    is_flushed: bool,
    is_over: bool,
}

impl Pipe {
    fn new(pending: Bytes) -> Self {
        Self { pending, is_flushed: true, is_over: false }
    }

    /// Moves what can be moved; ready when the end of the stream was handed on. `moved` is set if anything moved.
    fn poll<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
        &mut self,
        from: &mut R,
        to: &mut W,
        moved: &mut bool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_over {
            return Poll::Ready(Ok(()));
        }
        loop {
            while !self.pending.is_empty() {
                let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.pending))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.pending.advance(written);
                (*moved, self.is_flushed) = (true, false);
            }
            // Copied out of the stack, so that a tunnel that is silent holds no buffer.
            let mut space = [const { std::mem::MaybeUninit::uninit() }; READ];
            let mut buffer = ReadBuf::uninit(&mut space);
            match Pin::new(&mut *from).poll_read(cx, &mut buffer)? {
                Poll::Ready(()) if buffer.filled().is_empty() => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.is_over = true;
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(()) => {
                    *moved = true;
                    self.pending = Bytes::copy_from_slice(buffer.filled());
                }
                Poll::Pending => {
                    if !self.is_flushed {
                        ready!(Pin::new(&mut *to).poll_flush(cx))?;
                        self.is_flushed = true;
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}

/// Joins a client's connection, once it has been given free, to an endpoint's, of which `rest` was read already. Ends when
/// both sides have, one fails, or both are silent for `idle`.
pub(super) async fn run(client: OnUpgrade, mut endpoint: Io, rest: Bytes, idle: Duration) {
    let mut client = match client.await {
        Ok(client) => TokioIo::new(client),
        Err(error) => return tracing::debug!(%error, "a client that wanted an upgrade went away"),
    };
    let (mut up, mut down, mut stall) = (Pipe::new(Bytes::new()), Pipe::new(rest), Stall::new(idle));
    let ended = poll_fn(|cx| {
        let mut moved = false;
        let up = up.poll(&mut client, &mut endpoint, &mut moved, cx)?;
        let down = down.poll(&mut endpoint, &mut client, &mut moved, cx)?;
        if up.is_ready() && down.is_ready() {
            return Poll::Ready(Ok(()));
        }
        if moved {
            stall.clear();
        }
        ready!(stall.poll(cx));
        Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut)))
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "an upgraded connection ended");
    }
}
