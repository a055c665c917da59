//! A client of gRPC, as small as etcd and container runtimes allow: requests with one answer, and streams.
//!
//! In comes a connected byte stream (TCP, TLS, a unix socket); on it, [`Connection`] speaks HTTP/2 and frames prost's
//! messages. Where to connect to, when to connect again and what a refusal means are the caller's.

mod error;
mod frame;
mod messages;

use std::time::Duration;

use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};

pub use error::{CallError, Code};
pub use frame::{frame, take};
pub use messages::{Messages, Outgoing};

/// How a connection is kept.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How often a connection is probed, and how long the answer may take; `None` where the end of a peer is always told, as
    /// on a unix socket.
    pub probe: Option<Duration>,
    /// Bytes in flight.
    pub window: u32,
    /// Headers that every request carries.
    pub headers: &'static [(&'static str, &'static str)],
}

/// A connection to a server; clones share it.
#[derive(Clone, Debug)]
pub struct Connection {
    base: String,
    headers: &'static [(&'static str, &'static str)],
    sender: SendRequest<Outgoing>,
    /// Ends with the connection.
    alive: watch::Receiver<()>,
}

impl Connection {
    /// Begins HTTP/2 on a stream. `base` is scheme and authority, as `http://localhost`: for the requests, and for messages of
    /// errors. Must be called within tokio.
    ///
    /// # Errors
    /// When the peer does not speak HTTP/2.
    pub async fn start<S>(stream: S, base: String, options: Options) -> Result<Self, hyper::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new());
        builder.initial_stream_window_size(options.window).initial_connection_window_size(options.window);
        if let Some(probe) = options.probe {
            builder.keep_alive_interval(probe).keep_alive_timeout(probe).keep_alive_while_idle(true);
        }
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        // It ends when the last sender is dropped or the peer is gone, which the requests under way are told.
        let (living, alive) = watch::channel(());
        tokio::spawn(async move {
            _ = connection.await;
            drop(living);
        });
        Ok(Self { base, headers: options.headers, sender, alive })
    }

    /// Scheme and authority, as they were given.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Whether the peer is gone.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Waits until the peer is gone.
    pub async fn closed(&self) {
        let mut alive = self.alive.clone();
        // Nothing is ever sent: it ends with its sender.
        while alive.changed().await.is_ok() {}
    }

    /// A request with one answer. `path` is as `/runtime.v1.RuntimeService/Version`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn unary<Q: Message, A: Message + Default>(&self, path: &str, ask: &Q) -> Result<A, CallError> {
        let mut incoming = self.stream(path, ask).await?;
        let answer = incoming.next().await?.ok_or_else(|| CallError::Broken("no answer came".to_owned()))?;
        // What follows the answer is its status.
        incoming.next::<A>().await?;
        Ok(answer)
    }

    /// A request that is answered by a stream.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn stream<Q: Message>(&self, path: &str, ask: &Q) -> Result<Messages, CallError> {
        let (sender, body) = mpsc::unbounded_channel();
        // The receiver is right here.
        _ = sender.send(frame(ask));
        drop(sender);
        self.open(path, Outgoing(body)).await
    }

    /// A request whose messages come in time, framed by [`frame()`].
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn open(&self, path: &str, body: Outgoing) -> Result<Messages, CallError> {
        Messages::open(self.clone(), path, body).await
    }
}
