//! Writes Events about objects, as client-go's recorder does: one that is told again is counted, many that are alike become
//! one, and a source that tells too much of an object is not heard.
//!
//! Telling never waits: what is told goes through a short queue to one [`Writer`], and is dropped if the queue is full.

mod correlator;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kiln_client::{Backoff, Client, ClientError, Clock, Object, PatchKind, path};
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::correlator::{Correlator, Outcome};

/// Events that wait to be written, at most.
const QUEUE: usize = 1_000;
/// How often a write is tried while the server cannot be reached.
const TRIES: u32 = 12;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// Information.
    Normal,
    /// Something that may call for a hand.
    Warning,
}

/// What an event is about.
pub type Regarding = ObjectReference;

/// Takes events to be written. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Events {
    queue: mpsc::Sender<Event>,
    clock: Clock,
    /// The time in the last event's name: no two events of an object may have one name.
    last: Arc<AtomicI64>,
}

/// Tells events in the name of one component.
#[derive(Debug, Clone)]
pub struct Recorder {
    events: Events,
    component: &'static str,
}

/// Writes what is told.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: mpsc::Receiver<Event>,
    client: Client,
    correlator: Correlator,
}

/// Both ends of a queue of events.
pub(crate) fn pair(client: Client, clock: Clock) -> (Events, Writer) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (
        Events { queue: sender, clock: clock.clone(), last: Arc::default() },
        Writer { queue: receiver, client, correlator: Correlator::new(clock) },
    )
}

impl EventKind {
    fn text(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// A reference to an object, for [`Recorder::tell`].
pub(crate) fn regarding<T: Object + Resource>(object: &T) -> Regarding {
    let key = object.key();
    Regarding {
        api_version: Some(T::API_VERSION.to_owned()),
        kind: Some(T::KIND.to_owned()),
        name: Some(key.name),
        namespace: Some(key.namespace).filter(|namespace| !namespace.is_empty()),
        uid: Some(object.uid().to_owned()),
        resource_version: Some(object.resource_version().to_owned()),
        field_path: None,
    }
}

impl Events {
    /// This time, or one later than any that was given.
    fn stamp(&self, now: Timestamp) -> i64 {
        let now = nanoseconds(now);
        let later = |last: i64| Some(now.max(last + 1));
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later).unwrap_or_default();
        now.max(last + 1)
    }

    /// Tells in the name of a component, as `replicaset-controller`.
    pub fn recorder(&self, component: &'static str) -> Recorder {
        Recorder { events: self.clone(), component }
    }
}

impl Recorder {
    /// Tells of something that went as it should.
    pub fn normal<T: Object + Resource>(&self, object: &T, reason: &str, message: impl Into<String>) {
        self.tell(regarding(object), EventKind::Normal, reason, message.into());
    }

    /// Tells of something that did not.
    pub fn warning<T: Object + Resource>(&self, object: &T, reason: &str, message: impl Into<String>) {
        self.tell(regarding(object), EventKind::Warning, reason, message.into());
    }

    /// Tells of an object by a reference to it.
    pub fn tell(&self, regarding: Regarding, kind: EventKind, reason: &str, message: String) {
        let now = self.events.clock.now();
        let namespace = regarding.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let name = event_name(regarding.name.as_deref().unwrap_or_default(), self.events.stamp(now));
        let event = Event {
            metadata: ObjectMeta { name: Some(name), namespace: Some(namespace), ..ObjectMeta::default() },
            involved_object: regarding,
            reason: Some(reason.to_owned()),
            message: Some(message),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: Some(1),
            type_: Some(kind.text().to_owned()),
            source: Some(EventSource { component: Some(self.component.to_owned()), host: None }),
            reporting_component: Some(self.component.to_owned()),
            ..Event::default()
        };
        if let Err(error) = self.events.queue.try_send(event) {
            tracing::debug!(component = self.component, reason, %error, "an event is dropped");
        }
    }
}

/// `<object>.<nanoseconds in hexadecimal>`.
fn event_name(object: &str, nanoseconds: i64) -> String {
    format!("{object}.{nanoseconds:x}")
}

/// Nanoseconds since the epoch.
fn nanoseconds(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

impl Writer {
    /// Writes until the shutdown.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.write_all() => {}
        }
    }

    async fn write_all(&mut self) {
        while let Some(event) = self.queue.recv().await {
            match self.correlator.take(event) {
                Outcome::Skip => {}
                Outcome::Create { key, event } => self.write(key, event).await,
                Outcome::Count { key, event } => self.write(key, event).await,
            }
        }
    }

    /// Writes one, again and again while the server cannot be reached. What the server refuses is given up.
    async fn write(&mut self, key: u64, event: Event) {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
        for _ in 0..TRIES {
            match self.write_once(&event).await {
                Ok(()) => return,
                Err(error @ ClientError::Connect { .. }) | Err(error @ ClientError::Timeout { .. }) => {
                    tracing::debug!(%error, "cannot write an event; will try again");
                    tokio::time::sleep(backoff.next_wait()).await;
                }
                Err(error) => {
                    tracing::debug!(%error, "an event is refused");
                    self.correlator.forget(key);
                    return;
                }
            }
        }
        self.correlator.forget(key);
    }

    async fn write_once(&self, event: &Event) -> Result<(), ClientError> {
        let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
        if event.count.unwrap_or(1) > 1 {
            let name = event.metadata.name.as_deref().unwrap_or_default();
            let patch = json!({"count": event.count, "lastTimestamp": event.last_timestamp, "message": event.message});
            let path = path::<Event>(namespace, name);
            match self.client.patch::<IgnoredAny>(&path, PatchKind::Strategic, &patch).await {
                // It has expired since: tell it anew.
                Err(error) if error.is_not_found() => {}
                done => return done.map(drop),
            }
        }
        self.client.create::<IgnoredAny>(&path::<Event>(namespace, ""), event).await.map(drop)
    }
}
