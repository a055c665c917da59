//! The worker of one pod: `sync -> sync ... -> end -> stay -> remove`.
//!
//! `sync` brings the pod nearer to what it is to be, as often as something wakes the worker; `end` ends its containers, once it
//! is deleted, evicted or over; `stay` keeps what is left, logs above all, until the API has forgotten the pod; `remove` removes
//! it. What a step does is dropped when the pod is to end: the next step finds out what there is. Only what the runtime makes or starts
//! is awaited.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::sync::watch;
use tokio::time::Instant;

use super::backoff::Backoffs;
use super::events::About;
use super::machine_end::FLUSH;
use super::manager::Node;
use super::resize::Resizing;
use super::slot::{Current, Slot, ending};
use super::status::{self, Facts, Waiting, is_terminal};
use super::view::{Shared, State, View};
use super::writer::Writer;
use super::{ends, is_host_network, logs, plan};
use crate::cri::{CriError, RemoveContainerRequest, RemovePodSandboxRequest};
use crate::prepare::Prepared;
use crate::probes::Probes;

/// The wait before something that failed is tried again, unless it says for itself.
pub(super) const RETRY: Duration = Duration::from_secs(10);
/// The wait after the runtime did not answer.
const RUNTIME_RETRY: Duration = Duration::from_secs(1);
/// Containers of one name that are kept: the last, and the one before for its log.
const KEPT: usize = 2;

/// What is to come after a step.
pub(super) enum Next {
    /// The pod is over.
    Over,
    /// Something must wake the worker, or it must become this late.
    Wait(Option<Instant>),
}

pub(super) struct Worker {
    pub(super) node: Arc<Node>,
    pub(super) slot: Arc<Slot>,
    pub(super) view: Shared,
    /// Why containers are not running.
    pub(super) waiting: BTreeMap<String, Waiting>,
    /// Until when the start of a container (or, by the empty name, of the sandbox) is not tried again.
    pub(super) held: HashMap<String, Instant>,
    pub(super) backoffs: Backoffs,
    pub(super) probes: Probes,
    pub(super) prepared: Option<Prepared>,
    pub(super) resizing: Resizing,
    /// Containers whose preStop hook was run.
    pub(super) hooked: Vec<String>,
    statuses: watch::Sender<Option<Arc<PodStatus>>>,
    written: watch::Receiver<Option<Arc<PodStatus>>>,
}

/// Runs a pod until nothing of it is left.
pub(super) async fn run(node: Arc<Node>, slot: Arc<Slot>) {
    let (statuses, wanted) = watch::channel(None);
    let (writer, written) = Writer::new(node.clone(), slot.clone(), wanted);
    let mut worker = Worker {
        probes: Probes::new(node.clone(), slot.clone()),
        node: node.clone(),
        slot: slot.clone(),
        view: Arc::default(),
        waiting: BTreeMap::new(),
        held: HashMap::new(),
        backoffs: Backoffs::default(),
        prepared: None,
        resizing: Resizing::default(),
        hooked: Vec::new(),
        statuses,
        written,
    };
    if let Some(api) = slot.current().api {
        worker.resizing.restore(&api);
    }
    // Both in one task: they sleep at the same time, and most of the time.
    tokio::select! {
        () = Box::pin(worker.live()) => {}
        () = Box::pin(writer.run()) => {}
    }
    node.pods.remove(&slot);
    node.pods.wake_waiting();
}

impl Worker {
    async fn live(&mut self) {
        let slot = self.slot.clone();
        let mut health = self.node.health.clone();
        let mut step = "create";
        while !ending(&slot.current()) {
            let began = Instant::now();
            let next = tokio::select! {
                biased;
                () = slot.interrupted() => continue,
                next = self.sync() => next,
            };
            self.node.pods.metrics().worked(step, began.into_std());
            step = "sync";
            let until = match next {
                Next::Over => break,
                Next::Wait(until) => until,
            };
            let until = [until, self.deadline()].into_iter().flatten().min();
            tokio::select! {
                () = slot.interrupt.notified() => {}
                () = slot.wake.notified() => {}
                // The sender lives as long as the kubelet.
                _ = health.changed() => {}
                () = sleep_until(until) => {}
            }
        }
        let began = Instant::now();
        self.end().await;
        self.node.pods.metrics().worked("kill", began.into_std());
        self.stay().await;
        self.remove().await;
    }

    async fn sync(&mut self) -> Next {
        loop {
            if let Err(error) = self.look().await {
                tracing::debug!(pod = %self.slot.uid, %error, "the runtime does not tell");
                return Next::Wait(Some(Instant::now() + RUNTIME_RETRY));
            }
            let current = self.slot.current();
            if self.resize(&current).await {
                continue;
            }
            let current = self.slot.current();
            let status = self.make(&current, false);
            let is_over = is_terminal(status.phase.as_deref()) && !super::is_static(&current.pod);
            self.publish(status);
            if is_over {
                return Next::Over;
            }
            let plan = plan::plan(&current.pod, &self.view, &self.probes.probed());
            self.prune(&current.pod).await;
            if plan.is_empty() {
                return Next::Wait(None);
            }
            if let Some(wait) = self.obstacle(&current.pod) {
                return wait;
            }
            if !current.admitted && !self.admit(&current.pod).await {
                return Next::Wait(None);
            }
            let (progress, retry) = self.act(&current.pod, plan).await;
            if !progress {
                // Why it waits may be news.
                let status = self.make(&self.slot.current(), false);
                self.publish(status);
                return Next::Wait(retry);
            }
        }
    }

    /// What keeps the node from running the pod.
    fn obstacle(&self, pod: &Pod) -> Option<Next> {
        let health = self.node.health.borrow().clone();
        if health.runtime.is_some() {
            return Some(Next::Wait(None));
        }
        let network = health.network.filter(|_| !is_host_network(pod))?;
        let message = format!("network is not ready: {network}");
        self.node.recorder.warning(pod, About::Pod, "NetworkNotReady", message);
        Some(Next::Wait(None))
    }

    /// Asks the runtime what there is.
    pub(super) async fn look(&mut self) -> Result<(), CriError> {
        let began = Instant::now();
        self.view = Arc::new(View::fetch(&self.node.runtime, &self.slot.uid, &self.view).await?);
        self.node.pods.metrics().looked(began.into_std());
        self.slot.note(|current| current.view = self.view.clone());
        self.node.pods.own_all(&self.view, &self.slot);
        let current = self.slot.current();
        let old = current.status.as_deref().or(current.pod.status.as_ref());
        self.probes.sync(&current.pod, &self.view, old, ending(&current));
        Ok(())
    }

    /// The status as it is.
    pub(super) fn make(&self, current: &Current, is_terminal: bool) -> PodStatus {
        let empty = PodStatus::default();
        let api = current.api.as_ref().and_then(|api| api.status.as_ref());
        let facts = Facts {
            pod: &current.pod,
            view: &self.view,
            old: current.status.as_deref().or(api).unwrap_or(&empty),
            waiting: &self.waiting,
            resizing: &self.resizing,
            probed: &self.probes.probed(),
            is_terminal,
            host_ips: &self.node.config.node_ips.borrow(),
            now: self.node.clock.now(),
            runtime: &self.node.health.borrow().name,
        };
        let mut status = status::make(&facts);
        if let Some(devices) = self.node.preparer.devices() {
            devices.show_health(&self.slot.uid, &mut status);
        }
        if let Some(eviction) = &current.eviction {
            status.phase = Some("Failed".to_owned());
            status.reason = Some(eviction.reason.clone());
            status.message = Some(eviction.message.clone());
            if let Some(message) = &eviction.disruption {
                status::disrupt(&mut status, message, &facts);
            }
        }
        status
    }

    /// Shows a status, here at once and in the API as soon as it can be written. A phase that is never left is not shown while
    /// something of the pod runs.
    pub(super) fn publish(&self, mut status: PodStatus) {
        let current = self.slot.current();
        let api = current.api.as_ref().and_then(|api| api.status.as_ref());
        let old = current.status.as_deref().or(api);
        let was_terminal = old.is_some_and(|old| is_terminal(old.phase.as_deref()));
        if is_terminal(status.phase.as_deref()) && !was_terminal && self.view.running().next().is_some() {
            status.phase = old.and_then(|old| old.phase.clone()).or_else(|| Some("Pending".to_owned()));
            status.reason = old.and_then(|old| old.reason.clone());
            status.message = old.and_then(|old| old.message.clone());
        }
        if current.status.as_deref() == Some(&status) && !is_undone(&current, &status) {
            return;
        }
        // Of pods that ran when the kubelet started it is not known how long that took.
        let phase = |status: &PodStatus| status.phase.clone().unwrap_or_default();
        if phase(&status) == "Running" && old.is_none_or(|old| ["", "Pending"].contains(&phase(old).as_str())) {
            self.node.pods.metrics().pod_started(self.slot.seen);
        }
        ends::count(self.node.pods.metrics(), old, &status);
        let status = Arc::new(status);
        self.slot.note(|current| current.status = Some(status.clone()));
        self.statuses.send_replace(Some(status));
    }

    /// Ends all containers, then the sandboxes, then what the pod has of the machine.
    async fn end(&mut self) {
        let slot = self.slot.clone();
        loop {
            if let Err(error) = self.look().await {
                tracing::debug!(pod = %slot.uid, %error, "the runtime does not tell");
                tokio::time::sleep(RUNTIME_RETRY).await;
                continue;
            }
            let current = slot.current();
            let status = self.make(&current, false);
            self.publish(status);
            let done = tokio::select! {
                biased;
                // It has less time now.
                () = slot.interrupt.notified() => false,
                stopped = self.stop_all(&current) => stopped,
            };
            if done && self.view.running().next().is_none() {
                break;
            }
            if !done {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        self.probes.stop();
        self.waiting.clear();
        let current = slot.current();
        let mut status = self.make(&current, true);
        status::settle(&mut status, &current.pod);
        self.publish(status);
        self.node.preparer.release(&current.pod).await;
        self.node.preparer.share(&self.others());
        self.prepared = None;
        if current.eviction.is_some() {
            // The machine may be about to end.
            _ = tokio::time::timeout(FLUSH, self.flush()).await;
        }
        self.slot.ended.cancel();
    }

    /// Keeps what is left until the pod is no longer wanted, and tells the API when it may forget it.
    async fn stay(&mut self) {
        loop {
            let current = self.slot.current();
            if current.gone {
                return;
            }
            if current.pod.metadata.deletion_timestamp.is_some() {
                self.flush().await;
                super::writer::delete(&self.node, &self.slot).await;
            }
            self.slot.wake.notified().await;
        }
    }

    /// Waits until the last status is written.
    async fn flush(&mut self) {
        let wanted = self.statuses.borrow().clone();
        let is_it = |written: &Option<Arc<PodStatus>>| match (written, &wanted) {
            (Some(written), Some(wanted)) => Arc::ptr_eq(written, wanted),
            (_, wanted) => wanted.is_none(),
        };
        // The writer lives as long as the worker.
        _ = self.written.wait_for(is_it).await;
    }

    /// Removes all of the pod from the machine.
    async fn remove(&mut self) {
        let mut wait = kiln_client::Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
        loop {
            match self.try_remove().await {
                Ok(()) => break,
                Err(error) => tracing::warn!(pod = %self.slot.uid, %error, "cannot remove the pod; will try again"),
            }
            tokio::time::sleep(wait.next_wait()).await;
        }
        let pod = self.slot.pod();
        logs::remove(&logs::folder(&self.node.config.logs, &pod));
        self.node.preparer.remove(&pod).await;
    }

    async fn try_remove(&mut self) -> Result<(), CriError> {
        self.view = Arc::new(View::fetch(&self.node.runtime, &self.slot.uid, &self.view).await?);
        for container in &self.view.containers {
            let request = RemoveContainerRequest { container_id: container.id.clone() };
            not_found_is_fine(self.node.runtime.remove_container(&request).await)?;
        }
        for sandbox in &self.view.sandboxes {
            self.stop_sandbox(&sandbox.id).await?;
            let request = RemovePodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
            not_found_is_fine(self.node.runtime.remove_pod_sandbox(&request).await)?;
        }
        Ok(())
    }

    /// Removes containers that were followed by others, but for the last before, and sandboxes that hold nothing any more.
    async fn prune(&mut self, pod: &Pod) {
        let folder = logs::folder(&self.node.config.logs, pod);
        let mut seen: HashMap<&str, usize> = HashMap::new();
        let mut kept = Vec::new();
        for container in &self.view.containers {
            let count = seen.entry(&container.name).or_default();
            *count += 1;
            if *count <= KEPT || container.state == State::Running {
                kept.push(container.sandbox.as_str());
                continue;
            }
            let request = RemoveContainerRequest { container_id: container.id.clone() };
            match not_found_is_fine(self.node.runtime.remove_container(&request).await) {
                Ok(()) => logs::remove_attempt(&folder, &container.name, container.attempt),
                Err(error) => tracing::debug!(%error, "a container that is over cannot be removed yet"),
            }
        }
        for sandbox in self.view.sandboxes.iter().skip(1) {
            if sandbox.ready || kept.contains(&sandbox.id.as_str()) {
                continue;
            }
            let request = RemovePodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
            if let Err(error) = not_found_is_fine(self.node.runtime.remove_pod_sandbox(&request).await) {
                tracing::debug!(%error, "a sandbox that is over cannot be removed yet");
            }
        }
    }
}

/// Whether the API shows something else than what was written: others change it when the node is not heard of.
fn is_undone(current: &Current, status: &PodStatus) -> bool {
    // What is written only later is not missed: the writer knows what it wrote last.
    let Some(shown) = current.api.as_ref().and_then(|api| api.status.as_ref()) else { return false };
    let of = |status: &PodStatus, kind: &str| {
        let mut conditions = status.conditions.iter().flatten();
        conditions.find(|condition| condition.type_ == kind).map(|condition| condition.status.clone())
    };
    shown.phase != status.phase || ["Ready", "ContainersReady"].iter().any(|kind| of(shown, kind) != of(status, kind))
}

pub(super) fn not_found_is_fine<T>(result: Result<T, CriError>) -> Result<(), CriError> {
    match result {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}
