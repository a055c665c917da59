//! Keeps the copy in RAM in step with etcd: one watch of everything, taken up again where it ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kiln_grpc::{CallError, Outgoing, frame};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::Keys;
use super::endpoint::Dialer;
use super::grpc::{Client, method};
use super::load::{Strange, load, record};
use super::proto::{
    self, WatchCreateRequest, WatchEvent, WatchEventType, WatchOp, WatchProgressRequest, WatchRequest, WatchResponse,
};
use crate::engine::Engine;
use crate::types::{Event, EventKind, Record, Revision, StorageError};

/// How long the copy may take to come to a revision of etcd's.
const REACH: Duration = Duration::from_secs(5);
/// How often etcd is asked how far the watch is, while somebody waits: it does not answer while it is behind.
const ASK: Duration = Duration::from_millis(50);
/// The pause once the watch could be taken up at no endpoint; it doubles up to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// How far the copy is, and how far it is to be.
pub(super) struct Progress {
    engine: Arc<Engine>,
    seen: watch::Sender<Revision>,
    wanted: watch::Sender<Revision>,
}

impl Progress {
    pub(super) fn new(engine: Arc<Engine>) -> Self {
        Self { engine, seen: watch::Sender::new(0), wanted: watch::Sender::new(0) }
    }

    /// Waits until the copy shows this revision, which is that of a write of ours: its event is under way.
    pub(super) async fn shown(&self, revision: Revision) -> Result<(), StorageError> {
        if self.engine.revision() >= revision {
            return Ok(());
        }
        let mut seen = self.seen.subscribe();
        match tokio::time::timeout(REACH, seen.wait_for(|_| self.engine.revision() >= revision)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(StorageError::Closed),
            Err(_) => {
                let text = format!("etcd's watch is behind: at {}, not {revision}", self.engine.revision());
                Err(StorageError::Unavailable(text))
            }
        }
    }

    /// Waits until the copy shows this revision, which may be that of something that no watch of ours sees.
    pub(super) async fn reach(&self, revision: Revision) -> Result<(), StorageError> {
        if self.engine.revision() >= revision {
            return Ok(());
        }
        self.wanted.send_if_modified(|wanted| {
            let more = revision > *wanted;
            *wanted = revision.max(*wanted);
            more
        });
        self.shown(revision).await
    }

    fn note(&self) {
        self.seen.send_replace(self.engine.revision());
    }
}

/// Why a watch ended.
enum Ended {
    /// The store was closed.
    Closed,
    /// The connection or the member failed; `useful` if anything came before.
    Broken { why: String, useful: bool },
    /// etcd has forgotten where the watch was.
    Compacted,
}

/// The task that follows etcd.
pub(super) struct Feed {
    pub(super) engine: Arc<Engine>,
    pub(super) progress: Arc<Progress>,
    pub(super) client: Arc<Client>,
    pub(super) dialer: Dialer,
    pub(super) keys: Keys,
    pub(super) keep: usize,
    pub(super) strange: Strange,
    pub(super) closed: CancellationToken,
}

impl Feed {
    /// Follows until the store is closed.
    pub(super) async fn run(self) {
        let endpoints = self.dialer.endpoints.len();
        let (mut number, mut failures, mut pause) = (0_usize, 0, PAUSE.0);
        loop {
            match self.follow(number).await {
                Ended::Closed => return,
                Ended::Compacted => {
                    tracing::warn!("etcd has compacted what this server had not seen; everything is read anew");
                    self.reload().await;
                }
                Ended::Broken { why, useful } => {
                    tracing::warn!("the watch of etcd ended: {why}");
                    number = number.wrapping_add(1);
                    if useful {
                        (failures, pause) = (0, PAUSE.0);
                    }
                    failures += 1;
                    if failures % endpoints == 0 {
                        tokio::select! {
                            () = self.closed.cancelled() => return,
                            () = tokio::time::sleep(pause) => {}
                        }
                        pause = (pause * 2).min(PAUSE.1);
                    }
                }
            }
        }
    }

    async fn reload(&self) {
        match load(&self.client, &self.keys, self.keep, &self.strange).await {
            Ok((records, revision)) if revision > self.engine.revision() => {
                self.engine.reset(records, revision);
                self.progress.note();
            }
            // Compacted, and yet not past us: the next watch will tell.
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "etcd can't be read"),
        }
    }

    /// One watch, at the endpoint of this number.
    async fn follow(&self, number: usize) -> Ended {
        let mut useful = false;
        match self.watch(number, &mut useful).await {
            Ok(ended) => ended,
            Err(CallError::Unreached(why) | CallError::Broken(why) | CallError::Refused { message: why, .. }) => {
                Ended::Broken { why, useful }
            }
        }
    }

    async fn watch(&self, number: usize, useful: &mut bool) -> Result<Ended, CallError> {
        let connection = self.dialer.connect(number).await.map_err(CallError::Unreached)?;
        let (requests, body) = mpsc::unbounded_channel();
        let send = |request| {
            // The connection's end is seen at the answers.
            _ = requests.send(frame(&WatchRequest { request: Some(request) }));
        };
        send(WatchOp::Create(WatchCreateRequest {
            key: self.keys.stored("/"),
            range_end: self.keys.end(),
            start_revision: self.engine.revision() + 1,
            progress_notify: true,
        }));
        let mut messages = connection.open(&method("Watch/Watch"), Outgoing(body)).await?;
        let mut wanted = self.progress.wanted.subscribe();
        loop {
            let behind = *wanted.borrow_and_update() > self.engine.revision();
            if behind {
                send(WatchOp::Progress(WatchProgressRequest {}));
            }
            tokio::select! {
                () = self.closed.cancelled() => return Ok(Ended::Closed),
                // The sender is in the feed itself.
                _ = wanted.changed() => {}
                () = tokio::time::sleep(ASK), if behind => {}
                response = messages.next::<WatchResponse>() => match response? {
                    None => return Err(CallError::Broken("it ended".to_owned())),
                    Some(response) if response.compact_revision > 0 => return Ok(Ended::Compacted),
                    Some(response) if response.canceled => return Err(CallError::Broken(response.cancel_reason)),
                    Some(response) => {
                        *useful = true;
                        self.take(response);
                    }
                },
            }
        }
    }

    /// Makes a response's events visible, or takes note that there were none.
    fn take(&self, response: WatchResponse) {
        let revision = proto::revision(response.header);
        if response.created {
            return;
        }
        if response.events.is_empty() {
            self.engine.advance(revision);
        } else {
            let last = response.events.iter().filter_map(|event| Some(event.kv.as_ref()?.mod_revision)).max();
            let events = self.events(response.events);
            self.engine.apply(events);
            self.engine.advance(last.unwrap_or_default());
        }
        self.progress.note();
    }

    fn events(&self, events: Vec<WatchEvent>) -> Vec<Arc<Event>> {
        let done = self.engine.revision();
        let mut touched: HashMap<Arc<str>, Option<Record>> = HashMap::new();
        let mut out = Vec::with_capacity(events.len());
        for event in events {
            let deletes = event.r#type == WatchEventType::Delete as i32;
            let Some(kv) = event.kv.filter(|kv| kv.mod_revision > done) else { continue };
            let Some(name) = self.keys.name(&kv.key) else { continue };
            self.strange.forget(&kv);
            let previous = touched.get(name).cloned().unwrap_or_else(|| self.engine.get(name));
            let (kind, record) = if deletes {
                // One that nobody could see.
                let Some(record) = previous else { continue };
                touched.insert(record.key.clone(), None);
                (EventKind::Delete, record)
            } else {
                let Some(mut record) = record(&self.keys, &kv) else {
                    self.strange.note(&kv);
                    continue;
                };
                if let Some(previous) = &previous {
                    record.key = previous.key.clone();
                }
                touched.insert(record.key.clone(), Some(record.clone()));
                (EventKind::Put { previous }, record)
            };
            out.push(Arc::new(Event { kind, record, revision: kv.mod_revision }));
        }
        out
    }
}
