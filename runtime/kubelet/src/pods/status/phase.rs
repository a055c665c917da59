//! A pod's phase.

use k8s_openapi::api::core::v1::{Container, ContainerState, ContainerStatus, Pod};

use super::Facts;
use super::containers::RESTARTING_ALL;
use crate::pods::plan::{is_sidecar, should_restart};
use crate::pods::view::State;
use crate::pods::{containers, init_containers, is_static};

/// What counts of a container's state.
enum Seen {
    Running,
    /// It ended with this code, and is not waiting for its next start or is: the phase is the same.
    Ended(i32),
    /// It was removed, to run anew with all others of its pod.
    Reset,
    Waiting,
}

fn seen(status: &ContainerStatus) -> Option<Seen> {
    let state = status.state.as_ref()?;
    let ended = |state: &ContainerState| {
        let ended = state.terminated.as_ref()?;
        let is_reset = ended.reason.as_deref() == Some(RESTARTING_ALL.0);
        Some(if is_reset { Seen::Reset } else { Seen::Ended(ended.exit_code) })
    };
    if state.running.is_some() {
        return Some(Seen::Running);
    }
    if let Some(ended) = ended(state) {
        return Some(ended);
    }
    state.waiting.as_ref()?;
    Some(status.last_state.as_ref().and_then(ended).unwrap_or(Seen::Waiting))
}

#[derive(Default)]
struct Count {
    unknown: usize,
    running: usize,
    waiting: usize,
    ended: usize,
    /// Of those that ended: not to be started again, and without fault.
    over: usize,
    succeeded: usize,
}

/// The phase that the containers' statuses make.
pub(super) fn phase(pod: &Pod, statuses: &[&ContainerStatus], facts: &Facts<'_>) -> &'static str {
    let of = |spec: &Container| statuses.iter().find(|status| status.name == spec.name);
    let (mut pending_init, mut pending_sidecars, mut failed) = (0, 0, 0);
    let mut count = Count::default();
    for spec in init_containers(pod) {
        let status = of(spec);
        let state = status.and_then(|status| seen(status));
        if is_sidecar(spec) {
            match (status, state) {
                (None, _) => count.unknown += 1,
                (Some(status), Some(Seen::Running)) => {
                    pending_sidecars += usize::from(status.started != Some(true));
                    count.running += 1;
                }
                // One that ended does not count.
                (_, Some(Seen::Ended(_) | Seen::Reset)) => {}
                (_, Some(Seen::Waiting)) => {
                    pending_sidecars += 1;
                    count.waiting += 1;
                }
                (_, None) => {
                    pending_sidecars += 1;
                    count.unknown += 1;
                }
            }
            continue;
        }
        match state {
            Some(Seen::Ended(0) | Seen::Reset) => {}
            Some(Seen::Ended(code)) => failed += usize::from(!should_restart(spec, pod, code)),
            _ => pending_init += 1,
        }
    }
    for spec in containers(pod) {
        match of(spec).and_then(|status| seen(status)) {
            None => count.unknown += 1,
            Some(Seen::Running) => count.running += 1,
            Some(Seen::Waiting) => count.waiting += 1,
            Some(Seen::Reset) => count.ended += 1,
            Some(Seen::Ended(code)) => {
                count.ended += 1;
                count.over += usize::from(!should_restart(spec, pod, code));
                count.succeeded += usize::from(code == 0);
            }
        }
    }
    if failed > 0 {
        return "Failed";
    }
    let has_begun = || {
        let begun = |spec: &Container| {
            facts.view.container(&spec.name).is_some_and(|c| matches!(c.state, State::Running | State::Exited))
        };
        containers(pod).iter().any(begun)
    };
    if pending_init > 0 || (pending_sidecars > 0 && !has_begun()) || count.waiting > 0 {
        return "Pending";
    }
    if count.unknown > 0 {
        return "Pending";
    }
    if count.running > 0 {
        return "Running";
    }
    if count.ended == 0 {
        return "Pending";
    }
    let ended = if count.ended == count.succeeded { "Succeeded" } else { "Failed" };
    if facts.is_terminal && !is_static(pod) {
        return ended;
    }
    if count.ended == count.over { ended } else { "Running" }
}
