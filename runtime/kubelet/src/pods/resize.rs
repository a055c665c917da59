//! Resources that change while a pod runs: the pod asks, the node gives when it has room, and the kernel is told step by step. What
//! waits for room is tried again when another pod gives some back.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::events::About;
use super::plan::{Cause, Kill};
use super::slot::Current;
use super::view::State;
use super::worker::Worker;
use super::{containers, init_containers};
use crate::allocation::{self, Change, Resize};
use crate::cri::{LinuxContainerResources, UpdateContainerResourcesRequest};

const PENDING: &str = "PodResizePending";
const IN_PROGRESS: &str = "PodResizeInProgress";
/// The conditions that are made here.
pub(crate) const CONDITIONS: [&str; 2] = [PENDING, IN_PROGRESS];

/// How a pod's resizes stand.
#[derive(Debug, Default)]
pub(crate) struct Resizing {
    /// Why the pod waits, and since when: reason, message, generation.
    pending: Option<Condition>,
    /// What is being done.
    doing: Option<Condition>,
    /// What each running container has, by the runtime's id.
    applied: HashMap<String, LinuxContainerResources>,
}

#[derive(Debug, Clone, PartialEq)]
struct Condition {
    reason: String,
    message: String,
    generation: Option<i64>,
    since: Timestamp,
}

impl Resizing {
    /// What a container was made with.
    pub(super) fn made(&mut self, id: &str, resources: Option<LinuxContainerResources>) {
        if let Some(resources) = resources {
            self.applied.insert(id.to_owned(), resources);
        }
    }

    /// What a container has, as far as is known.
    pub(crate) fn applied(&self, id: &str) -> Option<&LinuxContainerResources> {
        self.applied.get(id)
    }

    /// The conditions that are to be shown.
    pub(crate) fn conditions(&self) -> impl Iterator<Item = PodCondition> + '_ {
        let rows = [(PENDING, &self.pending), (IN_PROGRESS, &self.doing)];
        rows.into_iter().filter_map(|(kind, condition)| Some((kind, condition.as_ref()?))).map(|(kind, condition)| {
            let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
            PodCondition {
                type_: kind.to_owned(),
                status: "True".to_owned(),
                reason: some(&condition.reason),
                message: some(&condition.message),
                observed_generation: condition.generation,
                last_probe_time: None,
                last_transition_time: Some(Time(condition.since)),
            }
        })
    }

    /// Takes over what a kubelet before this one has shown.
    pub(super) fn restore(&mut self, api: &Pod) {
        let conditions = api.status.iter().flat_map(|status| status.conditions.iter().flatten());
        for condition in conditions {
            let known = Condition {
                reason: condition.reason.clone().unwrap_or_default(),
                message: condition.message.clone().unwrap_or_default(),
                generation: condition.observed_generation,
                since: condition.last_transition_time.as_ref().map(|time| time.0).unwrap_or_default(),
            };
            match condition.type_.as_str() {
                PENDING => self.pending = Some(known),
                IN_PROGRESS => self.doing = Some(known),
                _ => {}
            }
        }
    }
}

impl Worker {
    /// Gives the pod what it asks for if there is room, and brings its containers to what it was given. Answers whether it
    /// should be looked at again at once.
    pub(super) async fn resize(&mut self, current: &Current) -> bool {
        let Some(api) = current.api.as_ref().filter(|_| current.admitted) else { return false };
        if self.node.preparer.allocations().is_resized(api) {
            self.ask(current).await;
        } else {
            self.resizing.pending = None;
        }
        let waits_for_room = self.resizing.pending.is_some();
        self.slot.note(|current| current.waits_for_room = waits_for_room);
        self.carry_out().await
    }

    /// Asks the node for what the pod asks for.
    async fn ask(&mut self, current: &Current) {
        let Some(api) = &current.api else { return };
        let node = self.node.clone();
        let Some(object) = node.object.borrow().clone() else { return };
        let turn = node.admission.lock().await;
        let outcome = node.preparer.allocations().resize(api, &self.others(), &object);
        drop(turn);
        let generation = api.metadata.generation;
        let (reason, message) = match outcome {
            Ok(Resize::None) => return,
            Ok(Resize::Given) => {
                self.slot.note(|current| current.pod = api.clone());
                self.resizing.pending = None;
                self.resizing.doing = Some(self.condition("", "", generation));
                let message = allocation::message("Pod resize started", api, "");
                node.recorder.normal(api, About::Pod, "ResizeStarted", message);
                return;
            }
            Ok(Resize::Deferred(message)) => ("Deferred", message),
            Ok(Resize::Infeasible(message)) => ("Infeasible", message),
            Err(error) => {
                tracing::warn!(pod = %self.slot.uid, %error, "what the pod is given cannot be written down");
                return;
            }
        };
        let known = self.resizing.pending.as_ref();
        let since = known.filter(|known| known.reason == reason).map(|known| known.since);
        let is_new = known.is_none_or(|known| known.reason != reason || known.generation != generation);
        let mut pending = self.condition(reason, &message, generation);
        pending.since = since.unwrap_or(pending.since);
        self.resizing.pending = Some(pending);
        if is_new {
            let event = if reason == "Deferred" { "ResizeDeferred" } else { "ResizeInfeasible" };
            let message = allocation::message(&format!("Pod resize {reason}"), api, &message);
            node.recorder.warning(api, About::Pod, event, message);
        }
    }

    fn condition(&self, reason: &str, message: &str, generation: Option<i64>) -> Condition {
        let since = self.node.clock.now();
        Condition { reason: reason.to_owned(), message: message.to_owned(), generation, since }
    }

    /// Tells the kernel, in steps of which each is safe. What fails is tried again when something wakes the worker.
    async fn carry_out(&mut self) -> bool {
        let pod = self.slot.pod();
        let running: Vec<(String, Container)> = containers(&pod)
            .iter()
            .chain(init_containers(&pod))
            .filter_map(|spec| Some((self.view.container(&spec.name)?, spec)))
            .filter(|(container, _)| container.state == State::Running)
            .map(|(container, spec)| (container.id.clone(), spec.clone()))
            .collect();
        self.resizing.applied.retain(|id, _| running.iter().any(|(known, _)| known == id));
        let is_doing = self.resizing.doing.is_some();
        let mut parts = Vec::new();
        for (id, spec) in &running {
            let wanted = self.node.preparer.resources(&pod, spec);
            // What a kubelet before this one did is done, unless it said that it was about to.
            let first = || if is_doing { LinuxContainerResources::default() } else { wanted.clone() };
            let has = self.resizing.applied.entry(id.clone()).or_insert_with(first).clone();
            parts.push((spec, has, wanted));
        }
        if parts.iter().all(|(_, has, wanted)| has == wanted) {
            return self.finish(&pod);
        }
        let (Some(current), wanted) = self.node.preparer.pod_limits(&pod) else { return false };
        let steps = allocation::changes(&pod, &current, &wanted, &parts);
        for step in steps {
            if let Err(error) = self.step(&pod, &running, step).await {
                let since = self.resizing.doing.as_ref().map(|doing| (doing.since, doing.generation));
                let is_new = self.resizing.doing.as_ref().is_none_or(|doing| doing.message != error);
                if is_new {
                    let message = allocation::message("Pod resize error", &pod, &error);
                    self.node.recorder.warning(&pod, About::Pod, "ResizeError", message);
                }
                let mut doing = self.condition("Error", &error, pod.metadata.generation);
                if let Some((since, generation)) = since {
                    (doing.since, doing.generation) = (since, generation);
                }
                self.resizing.doing = Some(doing);
                return false;
            }
        }
        for (id, spec) in &running {
            let wanted = self.node.preparer.resources(&pod, spec);
            self.resizing.applied.insert(id.clone(), wanted);
        }
        true
    }

    fn finish(&mut self, pod: &Pod) -> bool {
        if self.resizing.doing.take().is_none() {
            return false;
        }
        let message = allocation::message("Pod resize completed", pod, "");
        self.node.recorder.normal(pod, About::Pod, "ResizeCompleted", message);
        // Others may wait for what it gave back.
        self.node.pods.wake_waiting();
        true
    }

    async fn step(&mut self, pod: &Pod, running: &[(String, Container)], step: Change) -> Result<(), String> {
        let id = |name: &str| running.iter().find(|(_, spec)| spec.name == name).map(|(id, _)| id.clone());
        match step {
            Change::Pod(limits) => self.node.preparer.set_pod_limits(pod, &limits),
            Change::Container { name, resources } => {
                let Some(container_id) = id(&name) else { return Ok(()) };
                let request = UpdateContainerResourcesRequest {
                    container_id: container_id.clone(),
                    linux: Some((*resources).clone()),
                    ..UpdateContainerResourcesRequest::default()
                };
                let updated = self.node.runtime.update_container_resources(&request).await;
                updated.map_err(|error| format!("updating resources of container {name}: {}", error.message()))?;
                self.resizing.applied.insert(container_id, *resources);
                Ok(())
            }
            Change::Restart { name } => {
                let Some(id) = id(&name) else { return Ok(()) };
                let message = format!("Container {name} resize requires restart");
                self.kill(pod, &Kill { id, name, message, cause: Cause::Other }).await;
                Ok(())
            }
        }
    }
}
