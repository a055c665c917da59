//! A pod's conditions, with upstream's reasons and messages.

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Facts;
use crate::pods::plan::{could_restart_all, is_sidecar, restarts_all};
use crate::pods::resize;
use crate::pods::{containers, init_containers};

/// The conditions that a kubelet makes; those of others are kept.
const OURS: &[&str] =
    &["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled", RESTARTING];
const RESTARTING: &str = "AllContainersRestarting";

fn is_ours(kind: &str) -> bool {
    OURS.contains(&kind) || resize::CONDITIONS.contains(&kind)
}

struct Verdict {
    holds: bool,
    reason: &'static str,
    message: String,
}

const HOLDS: Verdict = Verdict { holds: true, reason: "", message: String::new() };

fn fails(reason: &'static str, message: String) -> Verdict {
    Verdict { holds: false, reason, message }
}

/// All conditions: those of others as they are, then ours.
pub(super) fn all(facts: &Facts<'_>, status: &PodStatus) -> Vec<PodCondition> {
    let api = facts.pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let mut conditions: Vec<PodCondition> =
        api.iter().filter(|condition| !is_ours(&condition.type_)).cloned().collect();
    for own in facts.old.conditions.iter().flatten() {
        // What the kubelet itself wrote when it evicted the pod is not made anew.
        let is_known = conditions.iter().any(|known| known.type_ == own.type_);
        if own.type_ == "DisruptionTarget" && !is_known {
            conditions.push(own.clone());
        }
    }
    conditions.extend(facts.resizing.conditions());
    let can_start = facts.view.sandbox(facts.pod).is_some();
    let ready = containers_ready(facts, status);
    let gates = if ready.holds { gates(facts, &conditions) } else { fails(ready.reason, ready.message.clone()) };
    let rows = [
        ("PodReadyToStartContainers", if can_start { HOLDS } else { fails("", String::new()) }),
        ("Initialized", initialized(facts, status)),
        ("Ready", gates),
        ("ContainersReady", ready),
        ("PodScheduled", HOLDS),
    ];
    for (kind, verdict) in rows {
        conditions.push(condition(facts, kind, verdict));
    }
    if could_restart_all(facts.pod) {
        conditions.push(condition(facts, RESTARTING, restarting(facts, status)));
    }
    conditions
}

/// Whether all containers are being removed to run anew (KEP-5532).
fn restarting(facts: &Facts<'_>, status: &PodStatus) -> Verdict {
    match status.phase.as_deref() {
        Some("Succeeded") => fails("PodCompleted", String::new()),
        Some("Failed") => fails("PodFailed", String::new()),
        _ if restarts_all(facts.pod, facts.view) => Verdict {
            holds: true,
            reason: "RestartAllContainersStarted",
            message: "container exited with restart policy rule".to_owned(),
        },
        _ => fails("", String::new()),
    }
}

/// Whether it was so when the status was made last.
pub(super) fn was_restarting(facts: &Facts<'_>) -> bool {
    let mut known = facts.old.conditions.iter().flatten();
    known.any(|condition| condition.type_ == RESTARTING && condition.status == "True")
}

fn condition(facts: &Facts<'_>, kind: &str, verdict: Verdict) -> PodCondition {
    let state = if verdict.holds { "True" } else { "False" };
    let some = |text: String| if text.is_empty() { None } else { Some(text) };
    let api = facts.pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let known = facts.old.conditions.iter().chain(api).flatten().find(|known| known.type_ == kind);
    let since = known.filter(|known| known.status == state).and_then(|known| known.last_transition_time.clone());
    PodCondition {
        type_: kind.to_owned(),
        status: state.to_owned(),
        reason: some(verdict.reason.to_owned()),
        message: some(verdict.message),
        last_transition_time: Some(since.unwrap_or(Time(facts.now))),
        observed_generation: facts.pod.metadata.generation,
        ..PodCondition::default()
    }
}

/// Names as Go prints a slice of strings.
fn list(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

fn unready(unknown: &[&str], what: &str, others: &[&str]) -> String {
    let mut parts = Vec::new();
    if !unknown.is_empty() {
        parts.push(format!("containers with unknown status: {}", list(unknown)));
    }
    if !others.is_empty() {
        parts.push(format!("containers with {what} status: {}", list(others)));
    }
    parts.join(", ")
}

fn of<'a>(status: &'a PodStatus, name: &str) -> Option<&'a ContainerStatus> {
    super::all_containers(status).into_iter().find(|status| status.name == name)
}

fn containers_ready(facts: &Facts<'_>, status: &PodStatus) -> Verdict {
    let sidecars = init_containers(facts.pod).iter().filter(|spec| is_sidecar(spec));
    let (mut unknown, mut not_ready) = (Vec::new(), Vec::new());
    for spec in sidecars.chain(containers(facts.pod)) {
        match of(status, &spec.name) {
            None => unknown.push(spec.name.as_str()),
            Some(status) if !status.ready => not_ready.push(spec.name.as_str()),
            Some(_) => {}
        }
    }
    match status.phase.as_deref() {
        Some("Succeeded") if unknown.is_empty() => return fails("PodCompleted", String::new()),
        Some("Failed") => return fails("PodFailed", String::new()),
        _ => {}
    }
    let message = unready(&unknown, "unready", &not_ready);
    if message.is_empty() { HOLDS } else { fails("ContainersNotReady", message) }
}

fn gates(facts: &Facts<'_>, conditions: &[PodCondition]) -> Verdict {
    let gates = facts.pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
    let mut messages = Vec::new();
    for gate in gates {
        let kind = &gate.condition_type;
        match conditions.iter().find(|condition| condition.type_ == *kind) {
            None => messages.push(format!("corresponding condition of pod readiness gate \"{kind}\" does not exist.")),
            Some(condition) if condition.status != "True" => messages
                .push(format!("the status of pod readiness gate \"{kind}\" is not \"True\", but {}", condition.status)),
            Some(_) => {}
        }
    }
    if messages.is_empty() { HOLDS } else { fails("ReadinessGatesNotReady", messages.join(", ")) }
}

fn initialized(facts: &Facts<'_>, status: &PodStatus) -> Verdict {
    let (mut unknown, mut incomplete) = (Vec::new(), Vec::new());
    for spec in init_containers(facts.pod) {
        match of(status, &spec.name) {
            None => unknown.push(spec.name.as_str()),
            Some(known) => {
                let done = if is_sidecar(spec) { known.started == Some(true) } else { known.ready };
                if !done {
                    incomplete.push(spec.name.as_str());
                }
            }
        }
    }
    if status.phase.as_deref() == Some("Succeeded") && unknown.is_empty() {
        return Verdict { holds: true, reason: "PodCompleted", message: String::new() };
    }
    let has_begun = containers(facts.pod).iter().any(|spec| {
        of(status, &spec.name).is_some_and(|status| {
            let state = |state: &k8s_openapi::api::core::v1::ContainerState| {
                state.running.is_some() || state.terminated.is_some()
            };
            status.state.as_ref().is_some_and(state)
                || status.last_state.as_ref().is_some_and(|last| last.terminated.is_some())
        })
    });
    let message = unready(&unknown, "incomplete", &incomplete);
    if has_begun || message.is_empty() { HOLDS } else { fails("ContainersNotInitialized", message) }
}

/// The condition that tells others that the pod was ended by its node.
pub(crate) fn disrupt(status: &mut PodStatus, message: &str, facts: &Facts<'_>) {
    const KIND: &str = "DisruptionTarget";
    let conditions = status.conditions.get_or_insert_default();
    if conditions.iter().any(|condition| condition.type_ == KIND) {
        return;
    }
    conditions.push(PodCondition {
        type_: KIND.to_owned(),
        status: "True".to_owned(),
        reason: Some("TerminationByKubelet".to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(Time(facts.now)),
        observed_generation: facts.pod.metadata.generation,
        ..PodCondition::default()
    });
}
