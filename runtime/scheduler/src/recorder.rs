//! Events about pods, as users see them with `kubectl describe`.
//!
//! What is told again of the same state of a pod becomes a series of the event that is there, as the events API (KEP-383) has it.
//! The controllers have a writer of their own: theirs counts in the older API and holds back who tells too much, as Kubernetes' do.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kiln_client::{Client, Clock, PatchKind};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// An event that says nothing new for so long is told anew, in seconds.
const SERIES_LASTS: i64 = 360;
/// The longest note, in bytes.
const NOTE_LIMIT: usize = 1024;
/// How many events are remembered before the old ones are looked for.
const REMEMBERED: usize = 4096;

/// Something to tell of a pod.
pub(crate) struct Told {
    /// The pod as the event names it.
    pub(crate) regarding: Regarding,
    /// Another pod that has to do with it.
    pub(crate) related: Option<Regarding>,
    /// Whether it is a warning.
    pub(crate) warning: bool,
    pub(crate) reason: &'static str,
    pub(crate) action: &'static str,
    pub(crate) note: String,
    /// The scheduler's name.
    pub(crate) by: String,
}

/// A pod as an event names it.
#[derive(Clone)]
pub(crate) struct Regarding {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) resource_version: String,
}

impl Regarding {
    /// This pod.
    pub(crate) fn of(pod: &Pod) -> Self {
        let meta = &pod.metadata;
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
        }
    }

    fn json(&self) -> Value {
        json!({
            "kind": "Pod",
            "apiVersion": "v1",
            "namespace": self.namespace,
            "name": self.name,
            "uid": self.uid,
            "resourceVersion": self.resource_version,
        })
    }
}

/// Takes what is to be told. Cloning it is cheap.
#[derive(Clone)]
pub(crate) struct Recorder(mpsc::UnboundedSender<Told>);

impl Recorder {
    /// A recorder, and what writes for it.
    pub(crate) fn new(client: Client, clock: Clock, host: String) -> (Self, Writer) {
        let (sender, told) = mpsc::unbounded_channel();
        (Self(sender), Writer { client, clock, host, told, known: HashMap::new() })
    }

    /// Has something told. Nobody waits for it.
    pub(crate) fn tell(&self, told: Told) {
        // Without a writer the scheduler is at its end.
        _ = self.0.send(told);
    }
}

/// An event that was written.
struct Known {
    path: String,
    count: u32,
    last: Timestamp,
}

/// What two tellings must have in common to be one event.
type Key = (String, String, &'static str, &'static str);

/// Writes events, one after the other.
pub(crate) struct Writer {
    client: Client,
    clock: Clock,
    host: String,
    told: mpsc::UnboundedReceiver<Told>,
    known: HashMap<Key, Known>,
}

impl Writer {
    /// Writes until the shutdown.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                told = self.told.recv() => match told {
                    Some(told) => self.write(told).await,
                    None => return,
                },
            }
        }
    }

    async fn write(&mut self, told: Told) {
        let now = self.clock.now();
        let micros = now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        let key = (told.regarding.uid.clone(), told.regarding.resource_version.clone(), told.reason, told.action);
        if told.warning
            && let Some(known) = self.known.get_mut(&key).filter(|known| is_fresh(known, now))
        {
            known.count += 1;
            known.last = now;
            // The second starts the series; later ones are only counted until it is over.
            if known.count == 2 {
                let series = json!({"series": {"count": 2, "lastObservedTime": micros}});
                if let Err(error) = self.client.patch::<Value>(&known.path, PatchKind::Strategic, &series).await {
                    tracing::debug!(%error, "an event's series is not written");
                }
            }
            return;
        }
        let namespace = &told.regarding.namespace;
        let collection = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        let name = format!("{}.{:x}", told.regarding.name, now.as_nanosecond());
        let mut event = json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "eventTime": micros,
            "reportingController": told.by,
            "reportingInstance": format!("{}-{}", told.by, self.host),
            "action": told.action,
            "reason": told.reason,
            "regarding": told.regarding.json(),
            "note": shortened(told.note),
            "type": if told.warning { "Warning" } else { "Normal" },
        });
        if let Some(related) = &told.related {
            event["related"] = related.json();
        }
        match self.client.create::<Value>(&collection, &event).await {
            Ok(_) if told.warning => {
                self.remember(key, Known { path: format!("{collection}/{name}"), count: 1, last: now })
            }
            Ok(_) => {}
            // The namespace may be on its way out; the next event tells what is the case then.
            Err(error) => tracing::debug!(%error, "an event is not written"),
        }
    }

    fn remember(&mut self, key: Key, known: Known) {
        if self.known.len() >= REMEMBERED {
            let now = known.last;
            self.known.retain(|_, known| is_fresh(known, now));
        }
        if self.known.len() < REMEMBERED {
            self.known.insert(key, known);
        }
    }
}

fn is_fresh(known: &Known, now: Timestamp) -> bool {
    now.as_second() - known.last.as_second() < SERIES_LASTS
}

fn shortened(mut note: String) -> String {
    const END: &str = " ...";
    if note.len() > NOTE_LIMIT {
        let mut at = NOTE_LIMIT - END.len();
        while !note.is_char_boundary(at) {
            at -= 1;
        }
        note.truncate(at);
        note.push_str(END);
    }
    note
}
