//! The last status of a pod of which nothing runs any more.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus};

use super::is_terminal;
use crate::pods::{init_containers, is_static};

/// Says of containers that may have run, and of whose end nothing is known, that they failed; and of a pod that has not
/// reached the end of its phases the same.
pub(crate) fn settle(status: &mut PodStatus, pod: &Pod) {
    let has_begun = |status: &ContainerStatus| !is_waiting(status) || last_ended(status).is_some();
    let containers = status.container_statuses.iter().flatten();
    let last_init = status.init_container_statuses.iter().flatten().next_back();
    let is_initialized = init_containers(pod).is_empty()
        || containers.clone().any(has_begun)
        || last_init.is_some_and(|last| ended(last).or(last_ended(last)).is_some_and(|ended| ended.exit_code == 0));
    if is_initialized {
        status.container_statuses.iter_mut().flatten().for_each(fail);
    }
    if let Some(inits) = &mut status.init_container_statuses {
        let begun = inits.iter().rposition(has_begun).unwrap_or(0);
        inits.iter_mut().take(begun + 1).for_each(fail);
    }
    if !is_terminal(status.phase.as_deref()) && !is_static(pod) {
        status.phase = Some("Failed".to_owned());
    }
}

fn is_waiting(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_none_or(|state| state.running.is_none() && state.terminated.is_none())
}

fn ended(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    status.state.as_ref()?.terminated.as_ref()
}

fn last_ended(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    status.last_state.as_ref()?.terminated.as_ref()
}

fn fail(status: &mut ContainerStatus) {
    if ended(status).is_some() {
        return;
    }
    let terminated = ContainerStateTerminated {
        reason: Some("ContainerStatusUnknown".to_owned()),
        message: Some("The container could not be located when the pod was terminated".to_owned()),
        exit_code: 137,
        ..ContainerStateTerminated::default()
    };
    status.state = Some(ContainerState { terminated: Some(terminated), ..ContainerState::default() });
}
