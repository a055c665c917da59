//! A connection with its streams: one task reads frames and hands them to the streams, one writes what they send.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, PollSender};

use crate::SpdyError;
use crate::frame::{Decoder, Encoder, Frame};
use crate::headers::Headers;
use crate::stream::Stream;

/// Frames that wait to be written.
const OUTGOING: usize = 8;
/// Pieces of data that wait to be read, of each stream.
const INCOMING: usize = 8;
/// Streams of the peer that wait to be accepted.
const BACKLOG: usize = 64;
/// Bytes that are written at once, if there is so much to be said.
const BATCH: usize = 64 << 10;
/// SPDY's word for a stream that is not wanted.
const REFUSED: u32 = 3;
/// SPDY's word for a stream that is given up.
pub(crate) const CANCEL: u32 = 5;

/// Which end of a connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The one that asked for the upgrade.
    Client,
    /// The one that granted it.
    Server,
}

/// The streams of a connection. A clone is another handle; the connection is closed when all handles and streams are gone.
#[derive(Clone)]
pub struct Session(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    /// The number of the next stream made here; held while that is sent, since numbers must ascend on the wire.
    next: tokio::sync::Mutex<u32>,
    pub(crate) frames: mpsc::Sender<Frame>,
    table: Table,
}

/// What both tasks and all streams look up.
pub(crate) type Table = Arc<Mutex<Streams>>;

#[derive(Default)]
pub(crate) struct Streams {
    entries: HashMap<u32, Entry>,
    /// The connection has ended.
    closed: bool,
}

struct Entry {
    /// Where data goes; gone once the peer has said its last.
    data: Option<mpsc::Sender<Result<Bytes, ()>>>,
    /// Who waits for the peer's answer to a new stream.
    reply: Option<oneshot::Sender<Result<(), SpdyError>>>,
    /// Tells the writing side that the peer gave the stream up.
    reset: CancellationToken,
}

pub(crate) fn lock(table: &Table) -> MutexGuard<'_, Streams> {
    // The map is whole between any two statements.
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Streams {
    pub(crate) fn remove(&mut self, id: u32) {
        self.entries.remove(&id);
    }
}

/// The streams that the peer makes.
pub struct Incoming {
    streams: mpsc::Receiver<Stream>,
    frames: mpsc::WeakSender<Frame>,
}

impl Incoming {
    /// The next stream of the peer, which is answered that it is welcome; `None` once the connection has ended.
    pub async fn accept(&mut self) -> Option<Stream> {
        let stream = self.streams.recv().await?;
        let frames = self.frames.upgrade()?;
        frames.send(Frame::Reply { id: stream.id(), headers: Headers::new(), fin: false }).await.ok()?;
        Some(stream)
    }
}

impl Session {
    /// Speaks SPDY on an upgraded connection. [`Incoming`] may be dropped by an end that expects no streams: those are refused.
    pub fn start(io: impl AsyncRead + AsyncWrite + Send + 'static, role: Role) -> (Self, Incoming) {
        let (read, write) = tokio::io::split(io);
        let (frames, outgoing) = mpsc::channel(OUTGOING);
        let (accepted, streams) = mpsc::channel(BACKLOG);
        let (table, over) = (Table::default(), CancellationToken::new());
        let ending = over.clone();
        let next = tokio::sync::Mutex::new(if role == Role::Client { 1 } else { 2 });
        let session = Self(Arc::new(Shared { next, frames: frames.clone(), table: table.clone() }));
        let reader = Receiver {
            role,
            table: table.clone(),
            accepted,
            frames: frames.downgrade(),
            session: Arc::downgrade(&session.0),
        };
        let incoming = Incoming { streams, frames: frames.downgrade() };
        tokio::spawn(async move {
            tokio::select! {
                () = reader.run(Decoder::new(BufReader::new(read))) => {}
                () = over.cancelled() => {}
            }
            let mut streams = lock(&table);
            streams.closed = true;
            for (_, mut entry) in streams.entries.drain() {
                entry.reset.cancel();
                if let Some(reply) = entry.reply.take() {
                    _ = reply.send(Err(SpdyError::Closed));
                }
                // A stream that is cut short must not look like one that has ended.
                if let Some(data) = entry.data.take() {
                    tokio::spawn(async move { _ = data.send(Err(())).await });
                }
            }
        });
        tokio::spawn(async move {
            let ended = write_frames(write, outgoing).await;
            if let Err(error) = ended {
                tracing::debug!(%error, "a SPDY connection broke");
            }
            ending.cancel();
        });
        (session, incoming)
    }

    /// Makes a stream, and waits until the peer has accepted it.
    ///
    /// # Errors
    /// [`SpdyError::Reset`] if the peer refused, [`SpdyError::Closed`] if the connection has ended.
    pub async fn open(&self, headers: Headers) -> Result<Stream, SpdyError> {
        let (answered, reply) = oneshot::channel();
        let stream = {
            let mut next = self.0.next.lock().await;
            let id = *next;
            *next += 2;
            let stream = self.0.stream(id, headers.clone(), Some(answered)).ok_or(SpdyError::Closed)?;
            let opened = self.0.frames.send(Frame::Open { id, headers, fin: false }).await;
            opened.map_err(|_| SpdyError::Closed)?;
            stream
        };
        reply.await.map_err(|_| SpdyError::Closed)??;
        Ok(stream)
    }
}

impl Shared {
    fn stream(
        self: &Arc<Self>,
        id: u32,
        headers: Headers,
        reply: Option<oneshot::Sender<Result<(), SpdyError>>>,
    ) -> Option<Stream> {
        let ((data, incoming), reset) = (mpsc::channel(INCOMING), CancellationToken::new());
        let mut streams = lock(&self.table);
        if streams.closed || streams.entries.contains_key(&id) {
            return None;
        }
        streams.entries.insert(id, Entry { data: Some(data), reply, reset: reset.clone() });
        let frames = PollSender::new(self.frames.clone());
        Some(Stream::new(id, headers, incoming, frames, reset, self.clone()))
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }
}

/// Writes frames until nobody can send any more.
async fn write_frames(
    mut io: impl AsyncWrite + Unpin,
    mut frames: mpsc::Receiver<Frame>,
) -> Result<(), std::io::Error> {
    let (mut encoder, mut out) = (Encoder::default(), BytesMut::new());
    while let Some(frame) = frames.recv().await {
        encoder.encode(&frame, &mut out);
        while out.len() < BATCH {
            let Ok(frame) = frames.try_recv() else { break };
            encoder.encode(&frame, &mut out);
        }
        io.write_all(&out).await?;
        io.flush().await?;
        out.clear();
    }
    encoder.encode(&Frame::GoAway, &mut out);
    io.write_all(&out).await?;
    io.shutdown().await
}

/// What reads the peer's frames.
struct Receiver {
    role: Role,
    table: Table,
    accepted: mpsc::Sender<Stream>,
    frames: mpsc::WeakSender<Frame>,
    session: std::sync::Weak<Shared>,
}

impl Receiver {
    async fn run<R: AsyncRead + Unpin>(self, mut decoder: Decoder<R>) {
        loop {
            match decoder.next().await {
                Ok(Some(frame)) => self.take(frame).await,
                Ok(None) => return,
                Err(error) => return tracing::debug!(%error, "a SPDY connection broke"),
            }
        }
    }

    async fn take(&self, frame: Frame) {
        match frame {
            Frame::Open { id, headers, fin } => self.open(id, headers, fin).await,
            Frame::Reply { id, fin, .. } => {
                let reply = lock(&self.table).entries.get_mut(&id).and_then(|e| e.reply.take());
                if let Some(reply) = reply {
                    _ = reply.send(Ok(()));
                }
                if fin {
                    self.end(id);
                }
            }
            Frame::Data { id, bytes, fin } => {
                let data = lock(&self.table).entries.get(&id).and_then(|e| e.data.clone());
                if let Some(data) = data.filter(|_| !bytes.is_empty()) {
                    // Nobody reads what a stream that was dropped still gets.
                    _ = data.send(Ok(bytes)).await;
                }
                if fin {
                    self.end(id);
                }
            }
            Frame::Headers { id, fin: true } => self.end(id),
            Frame::Reset { id, status } => {
                let entry = lock(&self.table).entries.remove(&id);
                if let Some(mut entry) = entry {
                    entry.reset.cancel();
                    if let Some(reply) = entry.reply.take() {
                        _ = reply.send(Err(SpdyError::Reset(status)));
                    }
                }
            }
            // A ping of ours that came back has the parity of our numbers.
            Frame::Ping { id } if (id % 2 == 1) != (self.role == Role::Client) => self.send(Frame::Ping { id }).await,
            Frame::Ping { .. } | Frame::GoAway | Frame::Headers { .. } => {}
        }
    }

    async fn open(&self, id: u32, headers: Headers, fin: bool) {
        let own = (id % 2 == 1) == (self.role == Role::Client);
        let made = self.session.upgrade().filter(|_| !own && id != 0).and_then(|s| s.stream(id, headers, None));
        let Some(stream) = made else {
            return self.send(Frame::Reset { id, status: REFUSED }).await;
        };
        if fin {
            self.end(id);
        }
        // One that nobody accepts is given up as it is dropped.
        _ = self.accepted.send(stream).await;
    }

    /// The peer has said its last on a stream.
    fn end(&self, id: u32) {
        if let Some(entry) = lock(&self.table).entries.get_mut(&id) {
            entry.data = None;
        }
    }

    async fn send(&self, frame: Frame) {
        if let Some(frames) = self.frames.upgrade() {
            _ = frames.send(frame).await;
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("streams", &lock(&self.0.table).entries.len()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Incoming")
    }
}
