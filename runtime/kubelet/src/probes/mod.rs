//! Probes of containers: whether one has started up, lives and is ready.
//!
//! A probe runs in a task of its own for as long as its container does: the startup probe first, the others once it has succeeded.
//! What it finds is kept by the runtime's id of the container; a change wakes the pod's worker, which restarts what does not live
//! and shows what is ready.

mod check;
pub(crate) mod counts;
mod grpc;
pub(crate) mod http;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as Spec, Pod, PodStatus, Probe};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::pods::events::About;
use crate::pods::plan::is_sidecar;
use crate::pods::view::{Container, State, View};
use crate::pods::{self, Node, containers, init_containers};
use check::{Check, Found};

/// The kinds of probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    fn text(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// What a probe has found, so many times in a row as its threshold wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    Failure,
}

type Results = Arc<Mutex<HashMap<(Kind, String), Outcome>>>;

/// The probes of one pod.
pub(crate) struct Probes {
    node: Arc<Node>,
    slot: Arc<pods::Slot>,
    results: Results,
    running: HashMap<(Kind, String), JoinSet<()>>,
}

impl Probes {
    pub(crate) fn new(node: Arc<Node>, slot: Arc<pods::Slot>) -> Self {
        Self { node, slot, results: Results::default(), running: HashMap::new() }
    }

    /// What probes have found.
    pub(crate) fn probed(&self) -> impl Fn(Kind, &str) -> Option<Outcome> + use<> {
        let results = self.results.clone();
        move |kind, id| lock(&results).get(&(kind, id.to_owned())).copied()
    }

    /// Starts probes of containers that run, and stops those of others. `old` is the status as it was: what ran before the kubelet
    /// started is not unready because of that.
    pub(crate) fn sync(&mut self, pod: &Arc<Pod>, view: &View, old: Option<&PodStatus>, is_ending: bool) {
        let sidecars = init_containers(pod).iter().filter(|spec| is_sidecar(spec));
        let mut wanted = Vec::new();
        for spec in sidecars.chain(containers(pod)) {
            let Some(container) = view.container(&spec.name).filter(|one| one.state == State::Running) else {
                continue;
            };
            let probed = self.probed();
            let has_started = match (&spec.startup_probe, probed(Kind::Startup, &container.id)) {
                (None, _) | (_, Some(Outcome::Success)) => true,
                (Some(_), _) => was(old, container, |status| status.started == Some(true)) && self.is_older(container),
            };
            let rows = [
                (Kind::Startup, &spec.startup_probe, !has_started && !is_ending),
                (Kind::Liveness, &spec.liveness_probe, has_started && !is_ending),
                (Kind::Readiness, &spec.readiness_probe, has_started),
            ];
            if has_started && spec.startup_probe.is_some() {
                lock(&self.results).insert((Kind::Startup, container.id.clone()), Outcome::Success);
            }
            for (kind, probe, runs) in rows {
                let Some(probe) = probe.as_ref().filter(|_| runs) else { continue };
                let key = (kind, container.id.clone());
                if !self.running.contains_key(&key) && !self.is_done(&key) {
                    self.begin(pod, spec, container, view, (kind, probe), old);
                }
                wanted.push(key);
            }
        }
        self.running.retain(|key, _| wanted.contains(key));
        let known: Vec<&str> = view.containers.iter().map(|container| container.id.as_str()).collect();
        lock(&self.results).retain(|(_, id), _| known.contains(&id.as_str()));
    }

    /// A startup or liveness probe that has said its last word about this container.
    fn is_done(&self, key: &(Kind, String)) -> bool {
        let found = lock(&self.results).get(key).copied();
        match key.0 {
            Kind::Startup => found.is_some(),
            Kind::Liveness => found == Some(Outcome::Failure),
            Kind::Readiness => false,
        }
    }

    fn is_older(&self, container: &Container) -> bool {
        container.started.is_some_and(|started| started < self.node.started)
    }

    fn begin(
        &mut self,
        pod: &Arc<Pod>,
        spec: &Spec,
        container: &Container,
        view: &View,
        (kind, probe): (Kind, &Probe),
        old: Option<&PodStatus>,
    ) {
        let key = (kind, container.id.clone());
        let was_ready = self.is_older(container) && was(old, container, |status| status.ready);
        let first = match kind {
            Kind::Liveness => Some(Outcome::Success),
            Kind::Readiness if was_ready => Some(Outcome::Success),
            Kind::Readiness => Some(Outcome::Failure),
            Kind::Startup => None,
        };
        if let Some(first) = first {
            lock(&self.results).insert(key.clone(), first);
        }
        let ip = match pods::is_host_network(pod) {
            true => self.node.config.node_ips.borrow().first().map(ToString::to_string),
            false => view.ips().first().cloned(),
        };
        let task = Task {
            node: self.node.clone(),
            slot: self.slot.clone(),
            pod: pod.clone(),
            check: Check {
                runtime: self.node.runtime.clone(),
                container: container.id.clone(),
                spec: spec.clone(),
                probe: probe.clone(),
                ip: ip.unwrap_or_default(),
            },
            kind,
            first,
            started: container.started,
            results: self.results.clone(),
        };
        let mut running = JoinSet::new();
        running.spawn(task.run());
        self.running.insert(key, running);
    }

    /// Stops all probes.
    pub(crate) fn stop(&mut self) {
        self.running.clear();
    }
}

/// Whether a status says something of this very container.
fn was(
    old: Option<&PodStatus>,
    container: &Container,
    says: fn(&k8s_openapi::api::core::v1::ContainerStatus) -> bool,
) -> bool {
    let lists = old.map(|old| [&old.container_statuses, &old.init_container_statuses]);
    lists.into_iter().flatten().flatten().flatten().any(|status| {
        let id = status.container_id.as_deref().and_then(|id| id.rsplit("://").next());
        id == Some(&container.id) && says(status)
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Task {
    node: Arc<Node>,
    slot: Arc<pods::Slot>,
    pod: Arc<Pod>,
    check: Check,
    kind: Kind,
    first: Option<Outcome>,
    started: Option<Timestamp>,
    results: Results,
}

impl Task {
    async fn run(self) {
        let probe = &self.check.probe;
        let number =
            |value: Option<i32>, default: u32| value.and_then(|value| u32::try_from(value).ok()).unwrap_or(default);
        let delay = Duration::from_secs(u64::from(number(probe.initial_delay_seconds, 0)));
        let period = Duration::from_secs(u64::from(number(probe.period_seconds, 10).max(1)));
        let needed = |outcome| match outcome {
            Outcome::Success => number(probe.success_threshold, 1).max(1),
            Outcome::Failure => number(probe.failure_threshold, 3).max(1),
        };
        let age = self.started.map(|started| self.node.clock.now().duration_since(started));
        let age = age.and_then(|age| Duration::try_from(age).ok()).unwrap_or_default();
        let mut next = Instant::now() + delay.saturating_sub(age);
        let (mut known, mut last, mut run) = (self.first, None, 0);
        loop {
            tokio::time::sleep_until(next).await;
            next = Instant::now() + period;
            let Some(outcome) = self.look().await else { continue };
            run = if last == Some(outcome) { run + 1 } else { 1 };
            last = Some(outcome);
            if run < needed(outcome) || known == Some(outcome) {
                continue;
            }
            known = Some(outcome);
            lock(&self.results).insert((self.kind, self.check.container.clone()), outcome);
            self.slot.wake.notify_one();
            // The container is restarted now, or has started up for good.
            if self.kind == Kind::Startup || (self.kind == Kind::Liveness && outcome == Outcome::Failure) {
                return;
            }
        }
    }

    /// Probes once; nothing if the probe itself failed.
    async fn look(&self) -> Option<Outcome> {
        let is_init = init_containers(&self.pod).iter().any(|spec| spec.name == self.check.spec.name);
        let name = &self.check.spec.name;
        let about = if is_init { About::InitContainer(name) } else { About::Container(name) };
        let (recorder, kind) = (&self.node.recorder, self.kind.text());
        let began = Instant::now();
        let found = self.check.run().await;
        self.node.pods.probes().add(
            &self.pod,
            name,
            self.kind,
            match &found {
                Found::Success | Found::Warning(_) => counts::Found::Successful,
                Found::Failure(_) => counts::Found::Failed,
                Found::Error(_) => counts::Found::Unknown,
            },
            began.elapsed(),
        );
        match found {
            Found::Success => Some(Outcome::Success),
            Found::Warning(text) => {
                recorder.warning(&self.pod, about, "ProbeWarning", format!("{kind} probe warning: {text}"));
                Some(Outcome::Success)
            }
            Found::Failure(text) => {
                recorder.warning(&self.pod, about, "Unhealthy", format!("{kind} probe failed: {text}"));
                Some(Outcome::Failure)
            }
            Found::Error(text) => {
                let message = format!("{kind} probe errored and resulted in unknown state: {text}");
                recorder.warning(&self.pod, about, "Unhealthy", message);
                None
            }
        }
    }
}
