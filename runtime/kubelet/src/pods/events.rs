//! Events about pods, as upstream's recorder writes them: the same event again counts up the first, and a pod that makes too
//! many is cut short. Written by one task, in order; an event that cannot be written is given up after some tries.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{self as core, Pod};
use kiln_apimachinery::time;
use kiln_client::{Client, Clock, PatchKind, path};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Events that wait to be written; more are lost.
const WAITING: usize = 1000;
/// Events that are remembered to be counted up.
const REMEMBERED: usize = 1024;
/// Tries for each.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(2);
/// Events that a source may write about one object at once, and the time after which it may write one more.
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;

/// Says what happens to pods. Cloning it is cheap.
#[derive(Clone)]
pub(crate) struct Recorder {
    sender: mpsc::Sender<Event>,
}

struct Event {
    about: Value,
    warning: bool,
    reason: &'static str,
    message: String,
    at: Timestamp,
}

/// What of a pod an event is about.
#[derive(Clone, Copy)]
pub(crate) enum About<'a> {
    Pod,
    Container(&'a str),
    InitContainer(&'a str),
    EphemeralContainer(&'a str),
}

impl Recorder {
    /// A recorder, and the task that writes until the shutdown.
    pub(crate) fn new(
        client: Client,
        node: String,
        clock: Clock,
        shutdown: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, events) = mpsc::channel(WAITING);
        let writer =
            Writer { client, node, clock, known: HashMap::new(), order: VecDeque::new(), budget: HashMap::new() };
        (Self { sender }, async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = writer.run(events) => {}
            }
        })
    }

    pub(crate) fn normal(&self, pod: &Pod, about: About<'_>, reason: &'static str, message: impl Into<String>) {
        self.send(pod, about, false, reason, message.into());
    }

    pub(crate) fn warning(&self, pod: &Pod, about: About<'_>, reason: &'static str, message: impl Into<String>) {
        self.send(pod, about, true, reason, message.into());
    }

    fn send(&self, pod: &Pod, about: About<'_>, warning: bool, reason: &'static str, message: String) {
        let path = match about {
            About::Pod => None,
            About::Container(name) => Some(format!("spec.containers{{{name}}}")),
            About::InitContainer(name) => Some(format!("spec.initContainers{{{name}}}")),
            About::EphemeralContainer(name) => Some(format!("spec.ephemeralContainers{{{name}}}")),
        };
        let meta = &pod.metadata;
        let mut about = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": meta.namespace,
            "name": meta.name,
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
        });
        if let Some(path) = path {
            about["fieldPath"] = json!(path);
        }
        // Full: the API is not answering, and there is nothing better to do than to go on.
        _ = self.sender.try_send(Event { about, warning, reason, message, at: Timestamp::now() });
    }
}

struct Known {
    path: String,
    count: u32,
}

struct Writer {
    client: Client,
    node: String,
    clock: Clock,
    known: HashMap<String, Known>,
    order: VecDeque<String>,
    /// What each object has left, and since when.
    budget: HashMap<String, (f64, Timestamp)>,
}

impl Writer {
    async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        while let Some(event) = events.recv().await {
            if !self.may(&event) {
                continue;
            }
            for _ in 0..TRIES {
                match self.write(&event).await {
                    Err(error) if error.is_transient() => tokio::time::sleep(PAUSE).await,
                    Err(error) => {
                        // The namespace may be gone with the pod.
                        tracing::debug!(%error, reason = event.reason, "an event was refused");
                        break;
                    }
                    Ok(()) => break,
                }
            }
        }
    }

    /// Whether the object has something left of what may be written about it.
    fn may(&mut self, event: &Event) -> bool {
        let now = self.clock.now();
        if self.budget.len() > REMEMBERED {
            self.budget.clear();
        }
        let key = format!("{}/{}", event.about["namespace"], event.about["name"]);
        let (left, since) = self.budget.entry(key).or_insert((BURST, now));
        *left = (*left + now.duration_since(*since).as_secs_f64() / REFILL_SECONDS).min(BURST);
        *since = now;
        if *left < 1.0 {
            return false;
        }
        *left -= 1.0;
        true
    }

    async fn write(&mut self, event: &Event) -> Result<(), kiln_client::ClientError> {
        let mut same = event.about.clone();
        if let Some(fields) = same.as_object_mut() {
            fields.remove("resourceVersion");
        }
        let key = format!("{same} {} {} {}", event.warning, event.reason, event.message);
        let now = time::rfc3339(event.at);
        if let Some(known) = self.known.get_mut(&key) {
            let patch = json!({"count": known.count + 1, "lastTimestamp": now});
            match self.client.patch::<Value>(&known.path, PatchKind::Strategic, &patch).await {
                Ok(_) => {
                    known.count += 1;
                    return Ok(());
                }
                // It has expired.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let namespace = event.about["namespace"].as_str().unwrap_or("default");
        let name = event.about["name"].as_str().unwrap_or_default();
        let name = format!("{name}.{:x}", event.at.as_nanosecond());
        let events = path::<core::Event>(namespace, "");
        let object = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": event.about,
            "reason": event.reason,
            "message": event.message,
            "source": {"component": "kubelet", "host": self.node},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "type": if event.warning { "Warning" } else { "Normal" },
            "eventTime": null,
            "reportingComponent": "kubelet",
            "reportingInstance": self.node,
        });
        self.client.create::<Value>(&events, &object).await?;
        self.remember(key, Known { path: format!("{events}/{name}"), count: 1 });
        Ok(())
    }

    fn remember(&mut self, key: String, known: Known) {
        if self.known.insert(key.clone(), known).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}
