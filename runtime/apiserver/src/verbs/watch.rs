//! Watch: changes as a stream of JSON lines, from any revision that is still kept.

use std::time::Duration;

use ::http::{HeaderValue, Response, header};
use bytes::Bytes;
use kiln_apimachinery::{FieldError, Gvk, Status};
use kiln_storage::{Event, EventKind, ListOptions, Record, Revision, StorageError, Watch};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::filter::Filter;
use super::paging::parse_revision;
use super::render::Renderer;
use super::{Cx, encode, errors};
use crate::http::body::{self, Body};
use crate::server::ApiServer;

/// Longest watch, in seconds.
const LONGEST: u64 = 24 * 3600;
/// Frames that may wait for a slow client before its watch waits too.
const QUEUE: usize = 32;

pub(crate) async fn watch(cx: &Cx<'_>) -> Result<Response<Body>, Status> {
    let filter = Filter::of(cx)?;
    let start = start(cx)?;
    let bookmarks = cx.query.flag("allowWatchBookmarks");
    let timeout = match cx.query.get("timeoutSeconds") {
        Some(text) => match text.parse::<u64>() {
            Ok(0) => cx.server.config().watch_timeout,
            Ok(seconds) => Duration::from_secs(seconds.min(LONGEST)),
            Err(e) => return Err(Status::bad_request(format!("timeoutSeconds {text:?}: {e}"))),
        },
        None => cx.server.config().watch_timeout,
    };
    let prefix = cx.resource.prefix(cx.namespace());
    let storage = cx.server.storage();
    let (mut initial, mut initial_end) = (Vec::new(), None);
    let after = match start {
        Start::After(revision) => revision,
        Start::Current { end } => {
            let page = storage.list(&prefix, ListOptions::default()).await.map_err(errors::storage)?;
            initial = page.records;
            initial.retain(|r| filter.matches(r));
            initial_end = end.then_some(page.revision);
            page.revision
        }
        Start::Now => storage.current_revision(),
    };
    let (sender, receiver) = mpsc::channel(QUEUE);
    let renderer = Renderer::of(cx)?;
    match storage.watch(&prefix, after) {
        Ok(watch) => {
            let stream = Stream { server: cx.server.clone(), watch, filter, renderer, sender, first: true, bookmarks };
            tokio::spawn(stream.run(initial, initial_end, timeout));
        }
        Err(StorageError::Compacted { oldest }) => {
            let status = Status::expired(format!("too old resource version: {after} ({oldest})"));
            // The queue is empty, so there is room for this one.
            let _room = sender.try_send(frame("ERROR", status.to_value().to_string().as_bytes()));
        }
        Err(StorageError::FutureRevision { current }) => return Err(Status::too_large_revision(after, current)),
        Err(e) => return Err(errors::storage(e)),
    }
    let mut response = Response::new(body::channel(receiver));
    let media = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    Ok(response)
}

/// Where a watch begins.
enum Start {
    /// With the changes after a revision.
    After(Revision),
    /// With everything there is; `end` asks for a bookmark behind it.
    Current { end: bool },
    /// With the next change.
    Now,
}

fn start(cx: &Cx<'_>) -> Result<Start, Status> {
    let revision = cx.query.get("resourceVersion").map(parse_revision).transpose()?;
    let rule = cx.query.get("resourceVersionMatch");
    let initial = cx.query.get("sendInitialEvents").map(|_| cx.query.flag("sendInitialEvents"));
    let invalid = |field: &str, why: &str| {
        let error = FieldError::forbidden(field, why);
        Err(Status::invalid(&Gvk::new("meta.k8s.io", "v1", "ListOptions"), "", &[error]))
    };
    match (initial, rule) {
        (Some(_), None) => {
            return invalid(
                "resourceVersionMatch",
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            );
        }
        (None, Some(_)) => {
            return invalid(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            );
        }
        _ => {}
    }
    match (initial, revision) {
        (Some(true), asked) => {
            let current = cx.server.storage().current_revision();
            match asked.filter(|r| *r > current) {
                Some(asked) => Err(Status::too_large_revision(asked, current)),
                None => Ok(Start::Current { end: cx.query.flag("allowWatchBookmarks") }),
            }
        }
        (Some(false), None | Some(0)) => Ok(Start::Now),
        (None, None | Some(0)) => Ok(Start::Current { end: false }),
        (_, Some(revision)) => Ok(Start::After(revision)),
    }
}

/// One event as it goes out.
fn frame(kind: &str, object: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(object.len() + 40);
    line.extend_from_slice(b"{\"type\":\"");
    line.extend_from_slice(kind.as_bytes());
    line.extend_from_slice(b"\",\"object\":");
    line.extend_from_slice(object);
    line.extend_from_slice(b"}\n");
    line.into()
}

/// The client went away, or the stream has to end.
struct Ended;

/// A watch that is being served.
struct Stream {
    server: ApiServer,
    watch: Watch,
    filter: Filter,
    renderer: Renderer,
    sender: mpsc::Sender<Bytes>,
    /// No object was sent so far.
    first: bool,
    bookmarks: bool,
}

impl Stream {
    async fn run(mut self, initial: Vec<Record>, initial_end: Option<Revision>, timeout: Duration) {
        // An end for whatever reason is the end of the body; there is nobody else to tell.
        let _ended = self.serve(initial, initial_end, timeout).await;
    }

    async fn serve(
        &mut self,
        initial: Vec<Record>,
        initial_end: Option<Revision>,
        timeout: Duration,
    ) -> Result<(), Ended> {
        let end = Instant::now() + timeout;
        let period = self.server.config().bookmark_interval;
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stop = self.server.watches_end();
        for record in initial {
            self.object("ADDED", &record.value).await?;
        }
        if let Some(revision) = initial_end {
            self.send("BOOKMARK", &self.renderer.bookmark(revision, true)).await?;
        }
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = self.sender.closed() => return Err(Ended),
                event = self.watch.next() => match event {
                    Some(event) => self.event(event).await?,
                    None => {
                        let status = Status::expired("the watch fell too far behind; list anew");
                        return self.send("ERROR", status.to_value().to_string().as_bytes()).await;
                    }
                },
                _ = ticks.tick(), if self.bookmarks => self.bookmark().await?,
                () = sleep_until(end) => {
                    return if self.bookmarks { self.bookmark().await } else { Ok(()) };
                }
            }
        }
    }

    async fn event(&mut self, event: Event) -> Result<(), Ended> {
        match event.kind {
            EventKind::Put { previous } => {
                let now = self.filter.matches(&event.record);
                let before = previous.filter(|p| self.filter.matches(p));
                match (before, now) {
                    (None, true) => self.object("ADDED", &event.record.value).await,
                    (Some(_), true) => self.object("MODIFIED", &event.record.value).await,
                    (Some(old), false) => self.object("DELETED", &encode::restamped(&old.value, event.revision)).await,
                    (None, false) => Ok(()),
                }
            }
            EventKind::Delete if self.filter.matches(&event.record) => {
                self.object("DELETED", &encode::restamped(&event.record.value, event.revision)).await
            }
            EventKind::Delete => Ok(()),
        }
    }

    async fn object(&mut self, kind: &str, stored: &Bytes) -> Result<(), Ended> {
        match self.renderer.one(stored, self.server.now(), self.first) {
            Ok(json) => {
                self.first = false;
                self.send(kind, &json).await
            }
            Err(status) => {
                self.send("ERROR", status.to_value().to_string().as_bytes()).await?;
                Err(Ended)
            }
        }
    }

    async fn bookmark(&mut self) -> Result<(), Ended> {
        let bookmark = self.renderer.bookmark(self.watch.progress(), false);
        self.send("BOOKMARK", &bookmark).await
    }

    async fn send(&self, kind: &str, object: &[u8]) -> Result<(), Ended> {
        self.sender.send(frame(kind, object)).await.map_err(|_| Ended)
    }
}
