//! One client's connection.
//!
//! `first bytes -> HTTP/1 | HTTP/2`. An HTTP/1 connection between two requests is taken out of hyper after a few seconds and only its
//! socket waited for: it then costs its task and nothing more, where hyper would keep its buffers. Timeouts go by a clock
//! that ticks now and then on connections in use, and no request sets a timer.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::activity::{ActiveBody, Activity, Front};
use crate::io::Io;
use crate::proxy::{Client, Proxy};

/// How long a new connection may say nothing.
const FIRST: Duration = Duration::from_secs(60);
/// How long the handshake of TLS may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection waits for its next request.
const IDLE: Duration = Duration::from_secs(180);
/// How often the clock ticks.
const TICK: Duration = Duration::from_millis(2_500);
/// Ticks without a request after which a connection is put aside.
const ASIDE: u32 = 2;
/// Ticks in which the head of a request must be whole.
const HEAD: u32 = 5;
/// Ticks in which the client must take something of an answer.
const TAKE: u32 = 24;
/// Ticks in which a request of HTTP/2 must come.
const IDLE_HTTP2: u32 = 72;
/// The most bytes of a head; of headers hyper takes a hundred.
const MOST_HEAD: usize = 64 << 10;
/// The most requests at a time on a connection of HTTP/2.
const STREAMS: u32 = 128;
/// What a client of HTTP/2 by prior knowledge begins with.
const PREFACE: &[u8] = b"PRI";

/// A connection.
pub(super) struct Connection {
    pub(super) proxy: Arc<Proxy>,
    pub(super) client: Client,
    pub(super) shutdown: CancellationToken,
}

/// How serving HTTP/1 ended.
enum Ended {
    /// For good.
    Over,
    /// There was no request of late; this was read already.
    Quiet(Io, Bytes),
}

impl Connection {
    /// Serves it to its end.
    pub(super) async fn serve(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        let ended = match tls {
            None => self.plain(stream).await,
            Some(tls) => self.secure(stream, tls).await,
        };
        if let Err(error) = ended {
            tracing::trace!(%error, client = %self.client.address, "a connection ended");
        }
    }

    async fn plain(&self, stream: TcpStream) -> io::Result<()> {
        let mut io = Io::Plain(stream);
        let mut read = Vec::new();
        loop {
            let more = self.wait(&mut io, FIRST).await?;
            if more.is_empty() {
                return Ok(());
            }
            read.extend_from_slice(&more);
            if read.starts_with(PREFACE) {
                return self.http2(io, read.into()).await;
            }
            if !PREFACE.starts_with(&read) {
                return self.http1(io, read.into()).await;
            }
        }
    }

    async fn secure(&self, stream: TcpStream, tls: TlsAcceptor) -> io::Result<()> {
        // A connection that says nothing costs nothing.
        tokio::select! {
            () = self.shutdown.cancelled() => return Ok(()),
            readable = timeout(FIRST, stream.readable()) => readable??,
        }
        let stream = timeout(HANDSHAKE, tls.accept(stream)).await??;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let io = Io::Tls(Box::new(stream.into()));
        if is_http2 { self.http2(io, Bytes::new()).await } else { self.http1(io, Bytes::new()).await }
    }

    /// The next bytes; none at the end, or at the shutdown.
    async fn wait(&self, io: &mut Io, within: Duration) -> io::Result<Bytes> {
        let mut space = [0; 64];
        tokio::select! {
            () = self.shutdown.cancelled() => Ok(Bytes::new()),
            read = timeout(within, io.read(&mut space)) => Ok(Bytes::copy_from_slice(&space[..read??])),
        }
    }

    async fn http1(&self, mut io: Io, mut read: Bytes) -> io::Result<()> {
        loop {
            match Box::pin(self.requests(io, read)).await? {
                Ended::Over => return Ok(()),
                Ended::Quiet(quiet, _) => io = quiet,
            }
            read = self.wait(&mut io, IDLE).await?;
            if read.is_empty() {
                return Ok(());
            }
        }
    }

    /// Serves requests until there has been none for a while.
    async fn requests(&self, mut io: Io, mut read: Bytes) -> io::Result<Ended> {
        let mut quiet = 0;
        loop {
            match self.some_requests(io, read, &mut quiet).await? {
                // The beginning of a head: it may come to an end yet.
                Ended::Quiet(same, rest) if !rest.is_empty() => (io, read) = (same, rest),
                ended => return Ok(ended),
            }
        }
    }

    /// `quiet` is for how many ticks there was no request.
    async fn some_requests(&self, io: Io, read: Bytes, quiet: &mut u32) -> io::Result<Ended> {
        let activity = Arc::new(Activity::default());
        let front = Front { io, read, activity: activity.clone() };
        let mut builder = http1::Builder::new();
        builder.header_read_timeout(None).max_buf_size(MOST_HEAD);
        let service = service_fn(|request| self.answer(request, &activity));
        let mut connection = builder.serve_connection(TokioIo::new(front), service).with_upgrades();
        let mut clock = clock();
        let (mut requests, mut writes) = (0, 0);
        // The second try at a head that did not come to its end: it gets what is left of the time.
        let mut is_resumed = *quiet > 0;
        loop {
            tokio::select! {
                ended = &mut connection => return ended.map(|()| Ended::Over).map_err(io::Error::other),
                () = self.shutdown.cancelled() => break,
                _ = clock.tick() => {}
            }
            let is_blocked = activity.is_blocked();
            let moved = std::mem::replace(&mut writes, activity.writes()) != activity.writes();
            let began = std::mem::replace(&mut requests, activity.requests()) != activity.requests();
            if began || moved || (activity.is_active() && !is_blocked) {
                is_resumed &= !began;
                *quiet = 0;
                continue;
            }
            *quiet += 1;
            if is_blocked {
                if *quiet >= TAKE {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            } else if *quiet >= HEAD {
                return Err(io::ErrorKind::TimedOut.into());
            } else if *quiet >= ASIDE && !is_resumed {
                // It is there, for it has not been upgraded: then it would have ended.
                let Some(parts) = connection.into_parts() else { return Ok(Ended::Over) };
                let Front { io, read, .. } = parts.io.into_inner();
                let rest = if read.is_empty() { parts.read_buf } else { [parts.read_buf, read].concat().into() };
                return Ok(Ended::Quiet(io, rest));
            }
        }
        let mut connection = pin!(connection);
        connection.as_mut().graceful_shutdown();
        connection.await.map(|()| Ended::Over).map_err(io::Error::other)
    }

    async fn http2(&self, io: Io, read: Bytes) -> io::Result<()> {
        let activity = Arc::new(Activity::default());
        let front = Front { io, read, activity: activity.clone() };
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(u32::try_from(MOST_HEAD).unwrap_or(u32::MAX))
            .initial_stream_window_size(256 << 10)
            .initial_connection_window_size(1 << 20)
            .max_send_buf_size(256 << 10)
            .keep_alive_interval(Duration::from_secs(60));
        let service = {
            let (proxy, client, activity) = (self.proxy.clone(), self.client.clone(), activity.clone());
            service_fn(move |request| answer(proxy.clone(), client.clone(), activity.clone(), request))
        };
        let connection = builder.serve_connection(TokioIo::new(front), service);
        let mut connection = Box::pin(connection);
        let mut clock = clock();
        let (mut requests, mut quiet) = (0, 0);
        loop {
            tokio::select! {
                ended = &mut connection => return ended.map_err(io::Error::other),
                () = self.shutdown.cancelled() => break,
                _ = clock.tick() => {}
            }
            let began = std::mem::replace(&mut requests, activity.requests()) != activity.requests();
            quiet = if began || activity.is_active() { 0 } else { quiet + 1 };
            if quiet >= IDLE_HTTP2 {
                break;
            }
        }
        connection.as_mut().graceful_shutdown();
        connection.await.map_err(io::Error::other)
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        activity: &Arc<Activity>,
    ) -> Result<Response<ActiveBody>, Infallible> {
        answer(self.proxy.clone(), self.client.clone(), activity.clone(), request).await
    }
}

async fn answer(
    proxy: Arc<Proxy>,
    client: Client,
    activity: Arc<Activity>,
    request: Request<Incoming>,
) -> Result<Response<ActiveBody>, Infallible> {
    let active = activity.begin();
    let response = proxy.handle(client, request).await?;
    Ok(response.map(|body| ActiveBody { body, _active: active }))
}

fn clock() -> tokio::time::Interval {
    let mut clock = tokio::time::interval_at(tokio::time::Instant::now() + TICK, TICK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    clock
}
