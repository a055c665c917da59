//! Watch: changes as a stream of frames, from any revision that is still kept. The stream is drawn by the connection that
//! sends it: a watch that nobody reads costs nothing but its place in the store's list of watches.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderValue, Response, header};
use bytes::Bytes;
use futures_util::stream;
use kiln_apimachinery::metrics::Held;
use kiln_apimachinery::{Status, random};
use kiln_storage::{Event, EventKind, ListOptions, Record, Revision, StorageError, Watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep, interval_at, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::filter::Filter;
use super::frames::FrameKey;
use super::paging::{Start, integer, start};
use super::render::Renderer;
use super::{Cx, encode, errors};
use crate::apiextensions::versions;
use crate::http::body::{self, Body};
use crate::http::stream as streaming;
use crate::metrics::WatchEvents;
use crate::registry::Resource;
use crate::server::ApiServer;

/// Longest watch, in seconds.
const LONGEST: u64 = 24 * 3600;

pub(crate) async fn watch(cx: &Cx<'_>) -> Result<Response<Body>, Status> {
    let renderer = Arc::new(Renderer::of(cx)?);
    let media = renderer.stream_media_type()?;
    let filter = Filter::of(cx)?;
    let start = start(cx)?;
    let timeout = timeout(cx)?;
    let prefix = cx.resource.prefix(filter.namespace(cx.namespace()));
    // The store tells what begins with the key; the filter keeps longer names out.
    let prefix = filter.key(&prefix).unwrap_or(prefix);
    let storage = cx.server.storage();
    let bookmarks = cx.query.flag("allowWatchBookmarks");
    let (mut initial, mut initial_end) = (Vec::new(), None);
    let after = match start {
        Start::After(revision) => revision,
        Start::Current => {
            let page = storage.list(&prefix, ListOptions::default()).await.map_err(errors::storage)?;
            initial = page.records;
            if filter.converts() {
                versions::shown_all(cx.server, &cx.resource, &mut initial).await?;
            }
            initial.retain(|r| filter.matches(r));
            initial_end = bookmarks.then_some(page.revision);
            page.revision
        }
        Start::Now => storage.current_revision(),
    };
    let body = match storage.watch(&prefix, after) {
        Ok(watch) => {
            let period = cx.server.config().bookmark_interval;
            let mut ticks = interval_at(Instant::now() + period, period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let stream = Stream {
                watch,
                initial: initial.into_iter(),
                initial_end,
                filter,
                renderer,
                first: true,
                bookmarks,
                ticks,
                end: Box::pin(sleep_until(Instant::now() + timeout)),
                stop: Box::pin(cx.server.watches_end().cancelled_owned()),
                ended: false,
                events: cx.server.metrics().watch_events(cx.info),
                _counted: cx.server.metrics().long_running(cx.info),
                server: cx.server.clone(),
                resource: cx.resource.clone(),
            };
            let next = |mut stream: Box<Stream>| async move { stream.next().await.map(|frame| (frame, stream)) };
            streaming::body(stream::unfold(Box::new(stream), next))
        }
        Err(StorageError::Compacted { oldest }) => {
            let status = Status::expired(format!("too old resource version: {after} ({oldest})"));
            body::full(renderer.frame("ERROR", &renderer.status(&status)))
        }
        Err(StorageError::FutureRevision { current }) => return Err(Status::too_large_revision(after, current)),
        Err(e) => return Err(errors::storage(e)),
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response.extensions_mut().insert(streaming::Messages);
    Ok(response)
}

/// How long the watch lasts: what the client asks for, or a time of the server's that differs from watch to watch, so that
/// watches that began together do not all begin anew together.
fn timeout(cx: &Cx<'_>) -> Result<Duration, Status> {
    // A negative time is no time; upstream ends such a watch at once.
    let asked = cx.query.get("timeoutSeconds").map(integer).transpose()?.map(|s| u64::try_from(s).unwrap_or(0));
    if let Some(seconds) = asked.filter(|s| *s > 0) {
        return Ok(Duration::from_secs(seconds.min(LONGEST)));
    }
    let least = cx.server.config().watch_timeout;
    let random = u32::from_be_bytes(random::bytes().map_err(Status::internal)?);
    Ok(least + least.mul_f64(f64::from(random) / f64::from(u32::MAX)))
}

/// A watch that is being served.
struct Stream {
    server: ApiServer,
    resource: Arc<Resource>,
    watch: Watch,
    initial: std::vec::IntoIter<Record>,
    initial_end: Option<Revision>,
    filter: Filter,
    renderer: Arc<Renderer>,
    /// No object was sent so far.
    first: bool,
    bookmarks: bool,
    ticks: Interval,
    end: Pin<Box<Sleep>>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    ended: bool,
    events: WatchEvents,
    _counted: Held,
}

/// What a watch waits for.
enum Next {
    Event(Option<Event>),
    Tick,
    End,
    Stop,
}

impl Stream {
    /// The next frame.
    async fn next(&mut self) -> Option<Bytes> {
        let frame = self.step().await?;
        self.events.sent(frame.len());
        Some(frame)
    }

    async fn step(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        if let Some(record) = self.initial.next() {
            return Some(self.object("ADDED", record.value, None).await);
        }
        if let Some(revision) = self.initial_end.take() {
            return Some(self.renderer.frame("BOOKMARK", &self.renderer.bookmark(revision, true, self.server.now())));
        }
        loop {
            let next = tokio::select! {
                biased;
                () = &mut self.stop => Next::Stop,
                event = self.watch.next() => Next::Event(event),
                _ = self.ticks.tick(), if self.bookmarks => Next::Tick,
                () = &mut self.end => Next::End,
            };
            match next {
                Next::Stop => return None,
                Next::Tick => return Some(self.bookmark()),
                Next::End => {
                    self.ended = true;
                    return self.bookmarks.then(|| self.bookmark());
                }
                Next::Event(Some(event)) => {
                    if let Some(frame) = self.event(event).await {
                        return Some(frame);
                    }
                }
                Next::Event(None) => {
                    return Some(self.failed(&Status::expired("the watch fell too far behind; list anew")));
                }
            }
        }
    }

    async fn event(&mut self, event: Event) -> Option<Bytes> {
        // Nothing is parsed for a key that can't be meant.
        if !self.filter.matches_key(&event.record.key) {
            return None;
        }
        let event = match self.readable(event).await {
            Ok(event) => event,
            Err(status) => return Some(self.failed(&status)),
        };
        let now = self.filter.matches(&event.record);
        let (kind, stored) = match event.kind {
            EventKind::Put { previous } => match (previous.filter(|p| self.filter.matches(p)), now) {
                (None, true) => ("ADDED", event.record.value),
                (Some(_), true) => ("MODIFIED", event.record.value),
                (Some(old), false) => ("DELETED", encode::restamped(&old.value, event.revision)),
                (None, false) => return None,
            },
            EventKind::Delete if now => ("DELETED", encode::restamped(&event.record.value, event.revision)),
            EventKind::Delete => return None,
        };
        Some(self.object(kind, stored, Some(event.revision)).await)
    }

    /// The frame of an object. Those with a revision are shared among watches. An object that can't be written ends the
    /// watch with an error.
    async fn object(&mut self, kind: &'static str, stored: Bytes, revision: Option<Revision>) -> Bytes {
        let stored = versions::shown_bytes(&self.server, &self.resource, stored).await;
        let (renderer, now, first) = (&self.renderer, self.server.now(), self.first);
        let make = || Ok::<_, Status>(renderer.frame(kind, &renderer.one(&stored?, now, first)?));
        let frame = match revision {
            // Only the first table of a watch differs from those of others.
            Some(revision) => {
                let first = first && renderer.is_table();
                self.server.frames().get(FrameKey { revision, event: kind, renderer: renderer.clone(), first }, make)
            }
            None => make(),
        };
        match frame {
            Ok(frame) => {
                self.first = false;
                frame
            }
            Err(status) => self.failed(&status),
        }
    }

    /// The event with objects that the filter can tell.
    async fn readable(&self, mut event: Event) -> Result<Event, Status> {
        if !self.filter.converts() {
            return Ok(event);
        }
        event.record = versions::shown(&self.server, &self.resource, event.record).await?;
        if let EventKind::Put { previous } = &mut event.kind
            && let Some(record) = previous.take()
        {
            *previous = Some(versions::shown(&self.server, &self.resource, record).await?);
        }
        Ok(event)
    }

    /// The last frame: why the watch can't go on.
    fn failed(&mut self, status: &Status) -> Bytes {
        self.ended = true;
        self.renderer.frame("ERROR", &self.renderer.status(status))
    }

    fn bookmark(&mut self) -> Bytes {
        let revision = self.watch.progress();
        self.renderer.frame("BOOKMARK", &self.renderer.bookmark(revision, false, self.server.now()))
    }
}
