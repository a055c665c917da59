//! What is to be done about a pod: pure, of its spec, of what the runtime has, and of what probes say.

use k8s_openapi::api::core::v1::{Container as Spec, Pod};

use super::view::{Container, State, View};
use crate::probes::{Kind, Outcome};

const RESTART_ALL: &str = "RestartAllContainers";

/// Why a container is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The pod ends, or something that has no grace of its own.
    Other,
    /// Its startup probe failed.
    StartupProbe,
    /// Its liveness probe failed.
    LivenessProbe,
}

/// A container that is to be killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kill {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) message: String,
    pub(crate) cause: Cause,
}

/// A container that is to be removed, as all of its pod are to run anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reset {
    pub(crate) id: String,
    pub(crate) name: String,
    /// It is to be killed first.
    pub(crate) runs: bool,
}

/// What is to be done. Indices are those of the lists in the spec.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Everything of the pod is to be killed first.
    pub(crate) kill_pod: bool,
    /// A new sandbox is to be made.
    pub(crate) create_sandbox: bool,
    /// Containers that are to be removed before anything starts anew, in this order.
    pub(crate) reset: Vec<Reset>,
    pub(crate) kill: Vec<Kill>,
    pub(crate) ephemeral: Vec<usize>,
    pub(crate) init: Vec<usize>,
    pub(crate) containers: Vec<usize>,
}

impl Plan {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Answers what a probe of a container (by the runtime's id) has found; nothing if it did not run yet.
pub(crate) type Probed<'a> = &'a dyn Fn(Kind, &str) -> Option<Outcome>;

/// Whether an init container goes on running beside the others.
pub(crate) fn is_sidecar(container: &Spec) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn restarts_on_failure(pod: &Pod) -> bool {
    super::restart_policy(pod) != "Never"
}

/// What a container's rules want when it has ended with this code: the first rule that applies counts.
fn rule(container: &Spec, exit_code: i32) -> Option<&str> {
    let mut rules = container.restart_policy_rules.iter().flatten();
    let found = rules.find(|rule| {
        let Some(codes) = &rule.exit_codes else { return false };
        let is_in = codes.values.as_ref().is_some_and(|values| values.contains(&exit_code));
        match codes.operator.as_str() {
            "In" => is_in,
            "NotIn" => !is_in,
            _ => false,
        }
    });
    found.map(|rule| rule.action.as_str())
}

/// Whether a container has a rule by which all of its pod are run anew (KEP-5532).
pub(crate) fn could_restart_all(pod: &Pod) -> bool {
    let specs = super::init_containers(pod).iter().chain(super::containers(pod));
    specs.flat_map(|spec| spec.restart_policy_rules.iter().flatten()).any(|rule| rule.action == RESTART_ALL)
}

fn triggers(spec: &Spec, container: &Container) -> bool {
    container.state == State::Exited && rule(spec, container.exit_code) == Some(RESTART_ALL)
}

/// Whether a container has ended so that all are to be run anew.
pub(crate) fn restarts_all(pod: &Pod, view: &View) -> bool {
    let mut specs = super::init_containers(pod).iter().chain(super::containers(pod));
    specs.any(|spec| view.container(&spec.name).is_some_and(|container| triggers(spec, container)))
}

/// All containers, those last that made it so: until they are gone it is known what is to be done.
fn reset(pod: &Pod, view: &View) -> Vec<Reset> {
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for specs in [super::containers(pod), super::init_containers(pod)] {
        for spec in specs {
            for container in view.containers.iter().filter(|container| container.name == spec.name) {
                let runs = container.state != State::Exited;
                let one = Reset { id: container.id.clone(), name: spec.name.clone(), runs };
                if triggers(spec, container) { last.push(one) } else { first.push(one) }
            }
        }
    }
    first.append(&mut last);
    first
}

/// Whether a container that ended with this code is started again: by its own rules, its own policy, or the pod's.
pub(crate) fn should_restart(container: &Spec, pod: &Pod, exit_code: i32) -> bool {
    if matches!(rule(container, exit_code), Some("Restart" | RESTART_ALL)) {
        return true;
    }
    match container.restart_policy.as_deref().unwrap_or_else(|| super::restart_policy(pod)) {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        _ => true,
    }
}

/// Whether a container is to be started, seeing its last state.
pub(crate) fn is_to_start(spec: &Spec, pod: &Pod, last: Option<&Container>) -> bool {
    if pod.metadata.deletion_timestamp.is_some() {
        return false;
    }
    match last {
        None => true,
        Some(last) => match last.state {
            State::Running => false,
            State::Created | State::Unknown => true,
            State::Exited => should_restart(spec, pod, last.exit_code),
        },
    }
}

/// Whether any container beside the init containers was made: then all init containers are done.
pub(crate) fn has_regular(pod: &Pod, view: &View) -> bool {
    super::containers(pod).iter().any(|container| view.container(&container.name).is_some())
}

/// What is to be done.
pub(crate) fn plan(pod: &Pod, view: &View, probed: Probed<'_>) -> Plan {
    let specs = super::containers(pod);
    let inits = super::init_containers(pod);
    if restarts_all(pod, view) {
        return Plan { reset: reset(pod, view), ..Plan::default() };
    }
    if view.sandbox(pod).is_none() {
        return with_new_sandbox(pod, view);
    }
    let mut plan = Plan::default();
    for (index, ephemeral) in super::ephemeral_containers(pod).iter().enumerate() {
        if view.container(&ephemeral.name).is_none() {
            plan.ephemeral.push(index);
        }
    }
    let initialized = plan_init(pod, inits, view, probed, &mut plan);
    if plan.kill_pod || !initialized {
        return plan;
    }
    let mut kept = 0;
    for (index, spec) in specs.iter().enumerate() {
        let Some(container) = view.container(&spec.name).filter(|container| container.state == State::Running) else {
            let last = view.container(&spec.name);
            if is_to_start(spec, pod, last) {
                plan.containers.push(index);
                if let Some(last) = last.filter(|last| last.state == State::Unknown) {
                    let message = "Container is in \"unknown\" state, try killing it before restart".to_owned();
                    plan.kill.push(kill(last, message, Cause::Other));
                }
            }
            continue;
        };
        let mut restart = match spec.restart_policy.as_deref() {
            Some(policy) => policy != "Never",
            None => restarts_on_failure(pod),
        };
        let failed = |kind| probed(kind, &container.id) == Some(Outcome::Failure);
        let (message, cause) = if container.hash != super::hash(spec) {
            restart = true;
            (format!("Container {} definition changed", spec.name), Cause::Other)
        } else if failed(Kind::Liveness) {
            (format!("Container {} failed liveness probe", spec.name), Cause::LivenessProbe)
        } else if failed(Kind::Startup) {
            (format!("Container {} failed startup probe", spec.name), Cause::StartupProbe)
        } else {
            kept += 1;
            continue;
        };
        let message = if restart { format!("{message}, will be restarted") } else { message };
        if restart {
            plan.containers.push(index);
        }
        plan.kill.push(kill(container, message, cause));
    }
    if kept == 0 && plan.containers.is_empty() {
        plan.kill_pod = true;
        // Sidecars do not keep a pod alive.
        plan.init.clear();
    }
    plan
}

fn kill(container: &Container, message: String, cause: Cause) -> Kill {
    Kill { id: container.id.clone(), name: container.name.clone(), message, cause }
}

/// The pod has no sandbox that can be used: everything begins anew.
fn with_new_sandbox(pod: &Pod, view: &View) -> Plan {
    let mut plan = Plan { kill_pod: !view.sandboxes.is_empty(), create_sandbox: true, ..Plan::default() };
    let is_over = !restarts_on_failure(pod) && !view.sandboxes.is_empty() && !view.containers.is_empty();
    let succeeded = |name: &str| view.container(name).is_some_and(|c| c.state == State::Exited && c.exit_code == 0);
    let runs_once =
        |spec: &Spec| spec.restart_policy.as_deref().unwrap_or_else(|| super::restart_policy(pod)) == "OnFailure";
    let specs = super::containers(pod).iter().enumerate();
    let to_start: Vec<usize> =
        specs.filter(|(_, spec)| !(runs_once(spec) && succeeded(&spec.name))).map(|(index, _)| index).collect();
    if is_over || (to_start.is_empty() && has_regular(pod, view)) {
        plan.create_sandbox = false;
        plan.kill_pod = true;
        return plan;
    }
    if super::init_containers(pod).is_empty() {
        plan.containers = to_start;
    } else {
        plan.init = vec![0];
    }
    plan
}

/// Which init containers are to be started; answers whether the pod is initialized.
///
/// They are looked at from the last to the first, since those that are done may be gone from the runtime: the last that is known
/// tells how far it is.
fn plan_init(pod: &Pod, inits: &[Spec], view: &View, probed: Probed<'_>, plan: &mut Plan) -> bool {
    let Some(last) = inits.len().checked_sub(1) else { return true };
    let is_up =
        |spec: &Spec| view.container(&spec.name).is_some_and(|c| matches!(c.state, State::Created | State::Running));
    let mut initialized = super::containers(pod).iter().any(is_up);
    // Whether something after the one that is looked at has begun.
    let mut is_past = initialized;
    for (index, spec) in inits.iter().enumerate().rev() {
        let sidecar = is_sidecar(spec);
        let Some(container) = view.container(&spec.name) else {
            if is_past && sidecar {
                plan.init.push(index);
            }
            continue;
        };
        if is_past && !sidecar {
            continue;
        }
        match container.state {
            State::Created => plan.init.push(index),
            State::Running if sidecar => {
                plan_sidecar(spec, index, container, probed, plan, (index == last, is_past), &mut initialized);
            }
            State::Running => {}
            State::Exited if sidecar => plan.init.push(index),
            State::Exited if container.exit_code == 0 => {
                if index == last {
                    initialized = true;
                } else {
                    plan.init.push(index + 1);
                }
            }
            State::Exited => {
                if !is_to_start(spec, pod, Some(container)) {
                    plan.kill_pod = true;
                    plan.init.clear();
                    return false;
                }
                plan.init.push(index);
            }
            State::Unknown => {
                let restart = match spec.restart_policy.as_deref() {
                    Some(policy) => policy != "Never",
                    None => restarts_on_failure(pod),
                };
                if !restart {
                    plan.kill_pod = true;
                    plan.init.clear();
                    return false;
                }
                let message = "Init container is in \"unknown\" state, try killing it before restart".to_owned();
                plan.kill.push(kill(container, message, Cause::Other));
                plan.init.push(index);
            }
        }
        is_past = true;
    }
    if !is_past {
        plan.init.push(0);
    }
    plan.init.reverse();
    initialized
}

fn plan_sidecar(
    spec: &Spec,
    index: usize,
    container: &Container,
    probed: Probed<'_>,
    plan: &mut Plan,
    (is_last, is_past): (bool, bool),
    initialized: &mut bool,
) {
    if spec.startup_probe.is_some() {
        match probed(Kind::Startup, &container.id) {
            Some(Outcome::Success) => {}
            Some(Outcome::Failure) => {
                let message = format!("Init container {} failed startup probe", spec.name);
                plan.kill.push(kill(container, message, Cause::StartupProbe));
                plan.init.push(index);
                return;
            }
            // It has not started up yet.
            _ => return,
        }
    }
    if is_last {
        *initialized = true;
    } else if !is_past {
        plan.init.push(index + 1);
    }
    if container.hash != super::hash(spec) {
        let message = format!("Init container {} definition changed", spec.name);
        plan.kill.push(kill(container, message, Cause::Other));
        plan.init.push(index);
    } else if spec.liveness_probe.is_some() && probed(Kind::Liveness, &container.id) == Some(Outcome::Failure) {
        let message = format!("Init container {} failed liveness probe", spec.name);
        plan.kill.push(kill(container, message, Cause::LivenessProbe));
        plan.init.push(index);
    }
}

#[cfg(test)]
mod tests;
