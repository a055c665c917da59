//! Statuses of a pod's containers.

use k8s_openapi::api::core::v1::{
    Container as Spec, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, PodStatus, ResourceRequirements, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Facts;
use super::conditions::was_restarting;
use crate::pods::plan::{has_regular, is_sidecar, is_to_start};
use crate::pods::view::{Container, State};
use crate::pods::{containers, ephemeral_containers, init_containers};
use crate::probes::{Kind, Outcome};

/// The exit code of a container of whose end nothing is known.
const UNKNOWN_CODE: i32 = 137;
const UNKNOWN_REASON: &str = "ContainerStatusUnknown";
/// Reason and message of containers that were removed because all of their pod are to run anew.
pub(super) const RESTARTING_ALL: (&str, &str) =
    ("RestartingAllContainers", "The container is removed because RestartAllContainers in place");

pub(super) fn regular(facts: &Facts<'_>) -> Vec<ContainerStatus> {
    let mut statuses = all(facts, containers(facts.pod), facts.old.container_statuses.as_deref(), false);
    statuses.sort_by(|a, b| a.name.cmp(&b.name));
    statuses
}

pub(super) fn init(facts: &Facts<'_>) -> Vec<ContainerStatus> {
    all(facts, init_containers(facts.pod), facts.old.init_container_statuses.as_deref(), true)
}

pub(super) fn ephemeral(facts: &Facts<'_>) -> Vec<ContainerStatus> {
    let specs = ephemeral_containers(facts.pod);
    let mut statuses = all(facts, &specs, facts.old.ephemeral_container_statuses.as_deref(), false);
    statuses.sort_by(|a, b| a.name.cmp(&b.name));
    statuses
}

fn all(facts: &Facts<'_>, specs: &[Spec], old: Option<&[ContainerStatus]>, is_init: bool) -> Vec<ContainerStatus> {
    let old = old.unwrap_or_default();
    specs.iter().map(|spec| one(facts, spec, old.iter().find(|old| old.name == spec.name), is_init)).collect()
}

fn one(facts: &Facts<'_>, spec: &Spec, old: Option<&ContainerStatus>, is_init: bool) -> ContainerStatus {
    let mut found = facts.view.containers.iter().filter(|container| container.name == spec.name);
    let (newest, before) = (found.next(), found.next());
    let mut status = match newest {
        Some(container) => of_container(facts, spec, container, old),
        None => without_container(facts, spec, old),
    };
    if let Some(before) = before {
        status.last_state = Some(state(facts, before, old));
    }
    if is_init {
        if newest.is_some_and(|container| container.state == State::Exited && container.exit_code == 0) {
            return status;
        }
        let is_waiting = status.state.as_ref().is_some_and(|state| state.waiting.is_some());
        if newest.is_none() && is_waiting && !is_sidecar(spec) && has_regular(facts.pod, facts.view) {
            // It was removed from the runtime since; others could not have been made if it had not succeeded.
            let message = "Unable to get init container status from container runtime and pod has been initialized, \
                           treat it as exited normally";
            status.state = Some(ended("Completed", message, 0));
            return status;
        }
    }
    if let Some(waiting) = facts.waiting.get(&spec.name)
        && is_to_start(spec, facts.pod, newest)
    {
        if let Some(last) = status.state.take().filter(|state| state.terminated.is_some()) {
            status.last_state = Some(last);
        }
        let message = Some(waiting.message.clone()).filter(|message| !message.is_empty());
        status.state = Some(waiting_state(waiting.reason, message));
    }
    status
}

fn waiting_state(reason: &str, message: Option<String>) -> ContainerState {
    let reason = Some(reason.to_owned()).filter(|reason| !reason.is_empty());
    ContainerState { waiting: Some(ContainerStateWaiting { reason, message }), ..ContainerState::default() }
}

fn ended(reason: &str, message: &str, exit_code: i32) -> ContainerState {
    let terminated = ContainerStateTerminated {
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        exit_code,
        ..ContainerStateTerminated::default()
    };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

/// A container that the runtime does not have: it is yet to be made, or was removed.
fn without_container(facts: &Facts<'_>, spec: &Spec, old: Option<&ContainerStatus>) -> ContainerStatus {
    if let Some(old) = old.filter(|old| old.state.as_ref().is_some_and(|state| state.waiting.is_none()))
        && was_restarting(facts)
    {
        return ContainerStatus {
            state: Some(waiting_state(RESTARTING_ALL.0, Some(RESTARTING_ALL.1.to_owned()))),
            last_state: Some(ended(RESTARTING_ALL.0, RESTARTING_ALL.1, UNKNOWN_CODE)),
            restart_count: old.restart_count + 1,
            ready: false,
            started: Some(false),
            container_id: None,
            ..old.clone()
        };
    }
    if let Some(old) = old.filter(|old| old.state.as_ref().is_some_and(|state| state.terminated.is_some())) {
        return old.clone();
    }
    let has_init = !init_containers(facts.pod).is_empty();
    let reason = if has_init { "PodInitializing" } else { "ContainerCreating" };
    let mut status = ContainerStatus {
        name: spec.name.clone(),
        image: spec.image.clone().unwrap_or_default(),
        state: Some(waiting_state(reason, None)),
        last_state: Some(old.and_then(|old| old.last_state.clone()).unwrap_or_default()),
        restart_count: old.map_or(0, |old| old.restart_count),
        volume_mounts: mounts(spec),
        ..ContainerStatus::default()
    };
    let was_running = old.is_some_and(|old| old.state.as_ref().is_some_and(|state| state.running.is_some()));
    let has_last = status.last_state.as_ref().is_some_and(|last| last.terminated.is_some());
    if was_running && !has_last {
        let message = "The container could not be located when the pod was deleted.  The container used to be Running";
        status.last_state = Some(ended(UNKNOWN_REASON, message, UNKNOWN_CODE));
        if facts.pod.metadata.deletion_timestamp.is_none() {
            status.restart_count += 1;
        }
    }
    status
}

fn of_container(
    facts: &Facts<'_>,
    spec: &Spec,
    container: &Container,
    old: Option<&ContainerStatus>,
) -> ContainerStatus {
    let resources = spec.resources.clone().unwrap_or_default();
    let last = old.and_then(|old| {
        let ended = |state: &Option<ContainerState>| state.clone().filter(|state| state.terminated.is_some());
        let is_other = old.container_id.as_deref() != Some(&id(facts, container));
        // The one before may have been removed from the runtime.
        ended(&old.state).filter(|_| is_other).or_else(|| ended(&old.last_state))
    });
    let restart_count = i32::try_from(container.attempt).unwrap_or(i32::MAX);
    let was_running = old.is_some_and(|old| old.state.as_ref().is_some_and(|state| state.running.is_some()));
    let is_lost = container.state == State::Unknown && was_running;
    ContainerStatus {
        name: spec.name.clone(),
        image: container.image.clone(),
        image_id: container.image_ref.clone(),
        container_id: Some(id(facts, container)),
        state: Some(state(facts, container, old)),
        last_state: Some(last.unwrap_or_default()),
        restart_count: if is_lost { restart_count.saturating_add(1) } else { restart_count },
        allocated_resources: resources.requests.clone(),
        resources: actual(facts, spec, container).map(|actual| ResourceRequirements { claims: None, ..actual }),
        volume_mounts: mounts(spec),
        user: container.user.clone(),
        stop_signal: container.stop_signal.clone(),
        ..ContainerStatus::default()
    }
}

fn actual(facts: &Facts<'_>, spec: &Spec, container: &Container) -> Option<ResourceRequirements> {
    let applied = facts.resizing.applied(&container.id).filter(|_| container.state == State::Running);
    let actual = crate::allocation::container_status_resources(spec, applied);
    Some(actual.unwrap_or_default())
}

fn id(facts: &Facts<'_>, container: &Container) -> String {
    format!("{}://{}", facts.runtime, container.id)
}

fn state(facts: &Facts<'_>, container: &Container, old: Option<&ContainerStatus>) -> ContainerState {
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    match container.state {
        State::Running => {
            let running = ContainerStateRunning { started_at: container.started.map(Time) };
            ContainerState { running: Some(running), ..ContainerState::default() }
        }
        State::Exited => {
            let terminated = ContainerStateTerminated {
                exit_code: container.exit_code,
                reason: text(&container.reason),
                message: text(&container.message),
                started_at: container.started.map(Time),
                finished_at: container.finished.map(Time),
                container_id: Some(id(facts, container)),
                signal: None,
            };
            ContainerState { terminated: Some(terminated), ..ContainerState::default() }
        }
        State::Unknown if old.is_some_and(|old| old.state.as_ref().is_some_and(|state| state.running.is_some())) => {
            ended(UNKNOWN_REASON, "The container could not be located when the pod was terminated", UNKNOWN_CODE)
        }
        State::Created | State::Unknown => waiting_state("", None),
    }
}

fn mounts(spec: &Spec) -> Option<Vec<VolumeMountStatus>> {
    let mounts = spec.volume_mounts.as_ref()?.iter().map(|mount| {
        let is_recursive = matches!(mount.recursive_read_only.as_deref(), Some("Enabled"));
        let mode = if is_recursive { "Enabled" } else { "Disabled" };
        VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only: mount.read_only.filter(|read_only| *read_only),
            recursive_read_only: (mount.read_only == Some(true)).then(|| mode.to_owned()),
            ..VolumeMountStatus::default()
        }
    });
    Some(mounts.collect())
}

/// Says of each container whether it has started up and is ready, by the probes.
pub(super) fn set_readiness(facts: &Facts<'_>, status: &mut PodStatus) {
    let judge = |spec: &Spec, status: &mut ContainerStatus, can_be_ready: bool| {
        let id = facts.view.container(&spec.name).map_or("", |container| container.id.as_str());
        let is_running = status.state.as_ref().is_some_and(|state| state.running.is_some());
        let passed = |kind| (facts.probed)(kind, id) == Some(Outcome::Success);
        let started = is_running && (spec.startup_probe.is_none() || passed(Kind::Startup));
        status.started = Some(started);
        status.ready = can_be_ready && started && (spec.readiness_probe.is_none() || passed(Kind::Readiness));
    };
    for spec in containers(facts.pod) {
        for status in status.container_statuses.iter_mut().flatten().filter(|status| status.name == spec.name) {
            judge(spec, status, true);
        }
    }
    for spec in init_containers(facts.pod) {
        for status in status.init_container_statuses.iter_mut().flatten().filter(|status| status.name == spec.name) {
            judge(spec, status, is_sidecar(spec));
            let ended = status.state.as_ref().and_then(|state| state.terminated.as_ref());
            if !is_sidecar(spec) && ended.is_some_and(|ended| ended.exit_code == 0) {
                status.ready = true;
            }
        }
    }
}
