//! Bodies on their way through: handed on as they come, never gathered.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use crate::upstream::{self, UpstreamError};

/// How long a client may be silent in the middle of a request's body.
const CLIENT_SILENCE: Duration = Duration::from_secs(60);
/// How many parts a copy of a body may be behind before it is broken off: nobody waits for it.
const BEHIND: usize = 64;

/// Says when something has stood still for too long. It costs nothing while nothing stands still.
#[derive(Debug)]
pub(crate) struct Stall {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    is_running: bool,
}

impl Stall {
    /// Not running yet.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, sleep: None, is_running: false }
    }

    /// Something moved.
    pub(crate) fn clear(&mut self) {
        self.is_running = false;
    }

    /// Nothing moves: ready if that has been so for too long.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = || Instant::now() + self.limit;
        let sleep = match &mut self.sleep {
            Some(sleep) => {
                if !self.is_running {
                    sleep.as_mut().reset(until());
                }
                sleep
            }
            None => self.sleep.insert(Box::pin(tokio::time::sleep_until(until()))),
        };
        self.is_running = true;
        sleep.as_mut().poll(cx)
    }
}

/// Why a request's body can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The client broke it off, or sent no HTTP.
    #[error("{0}")]
    Client(hyper::Error),
    /// It is larger than the Ingress allows.
    #[error("it is too large")]
    TooLarge,
    /// The client fell silent.
    #[error("the client fell silent")]
    Stalled,
    /// It is a copy, and whoever takes it is too slow, or the body that it is of was broken off.
    #[error("the copy of it was broken off")]
    Copy,
}

/// Where a body comes from.
#[derive(Debug)]
enum Source {
    Client(Incoming),
    /// From the body that it is a copy of; none when it is over.
    Copy(Option<mpsc::Receiver<Part>>),
}

/// A part of a body for those that have a copy; none is the end.
type Part = Option<Bytes>;

impl Source {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let parts = match self {
            Self::Client(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Client)));
            }
            Self::Copy(parts) => parts,
        };
        let Some(receiver) = parts else { return Poll::Ready(None) };
        let part = ready!(receiver.poll_recv(cx));
        if !matches!(part, Some(Some(_))) {
            *parts = None;
        }
        Poll::Ready(part.ok_or(BodyError::Copy).transpose().map(|part| part.map(Frame::data)))
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Client(body) => body.is_end_stream(),
            Self::Copy(parts) => parts.is_none(),
        }
    }
}

/// The body of a request.
#[derive(Debug)]
pub(crate) struct RequestBody {
    source: Source,
    /// So many bytes may still come.
    left: Option<u64>,
    stall: Stall,
    copies: Vec<mpsc::Sender<Part>>,
}

impl RequestBody {
    /// A body of at most so many bytes.
    pub(crate) fn new(body: Incoming, limit: Option<u64>) -> Self {
        Self::of(Source::Client(body), limit)
    }

    fn of(source: Source, left: Option<u64>) -> Self {
        Self { source, left, stall: Stall::new(CLIENT_SILENCE), copies: Vec::new() }
    }

    /// The same body for another request, which gets its parts as this one is read. It never holds this one up.
    pub(super) fn copy(&mut self) -> Self {
        if self.source.is_over() {
            return Self::of(Source::Copy(None), None);
        }
        let (sender, receiver) = mpsc::channel(BEHIND);
        self.copies.push(sender);
        Self::of(Source::Copy(Some(receiver)), None)
    }

    /// Tells those that have a copy of the next data, if there is any, and of the end.
    fn tell(&mut self, data: Option<&Bytes>, is_over: bool) {
        self.copies.retain(|copy| {
            data.is_none_or(|data| copy.try_send(Some(data.clone())).is_ok())
                && (!is_over || copy.try_send(None).is_ok())
        });
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = this.source.poll(cx) else {
            return this.stall.poll(cx).map(|()| Some(Err(BodyError::Stalled)));
        };
        this.stall.clear();
        let Some(frame) = frame.transpose()? else {
            this.tell(None, true);
            return Poll::Ready(None);
        };
        let data = frame.data_ref();
        if let (Some(left), Some(data)) = (&mut this.left, data) {
            match left.checked_sub(data.len() as u64) {
                Some(rest) => *left = rest,
                None => return Poll::Ready(Some(Err(BodyError::TooLarge))),
            }
        }
        // Whoever sees that it is over need not ask for what comes next.
        this.tell(data, this.source.is_over());
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Client(body) => body.size_hint(),
            Source::Copy(None) => SizeHint::with_exact(0),
            Source::Copy(Some(_)) => SizeHint::default(),
        }
    }
}

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum ResponseBody {
    /// A text of our own, or what an endpoint sends over HTTP/1.1.
    Http1(upstream::Body),
    /// What an endpoint sends over HTTP/2.
    Http2(Incoming, Box<Stall>),
}

impl ResponseBody {
    /// A text.
    pub(crate) fn text(text: impl Into<Bytes>) -> Self {
        Self::Http1(upstream::Body::Whole(text.into()))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.get_mut() {
            Self::Http1(body) => body.poll(cx),
            Self::Http2(body, stall) => {
                let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else {
                    ready!(stall.poll(cx));
                    return Poll::Ready(Some(Err(UpstreamError::Timeout)));
                };
                stall.clear();
                Poll::Ready(frame.map(|frame| frame.map_err(UpstreamError::H2)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_over(),
            Self::Http2(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size(),
            Self::Http2(body, _) => body.size_hint(),
        }
    }
}
