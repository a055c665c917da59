//! Bodies on their way through: handed on as they come, never gathered.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::upstream::{self, UpstreamError};

/// How long a client may be silent in the middle of a request's body.
const CLIENT_SILENCE: Duration = Duration::from_secs(60);

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
}

/// The body of a request.
#[derive(Debug)]
pub(crate) struct RequestBody {
    inner: Incoming,
    /// So many bytes may still come.
    left: Option<u64>,
    stall: Stall,
}

impl RequestBody {
    /// A body of at most so many bytes.
    pub(crate) fn new(inner: Incoming, limit: Option<u64>) -> Self {
        Self { inner, left: limit, stall: Stall::new(CLIENT_SILENCE) }
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
        let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) else {
            return this.stall.poll(cx).map(|()| Some(Err(BodyError::Stalled)));
        };
        this.stall.clear();
        let Some(frame) = frame else { return Poll::Ready(None) };
        let frame = frame.map_err(BodyError::Client);
        if let (Some(left), Ok(frame)) = (&mut this.left, &frame)
            && let Some(data) = frame.data_ref()
        {
            match left.checked_sub(data.len() as u64) {
                Some(rest) => *left = rest,
                None => return Poll::Ready(Some(Err(BodyError::TooLarge))),
            }
        }
        Poll::Ready(Some(frame))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
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
