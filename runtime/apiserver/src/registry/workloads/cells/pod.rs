//! Pods: how many containers are ready, in one word how it goes, and how often they were started again.

use jiff::Timestamp;
use kiln_apimachinery::{meta, time};
use serde_json::Value;

use super::since;
use crate::registry::cells::{NONE, or};
use crate::registry::workloads::defaults::resources::is_sidecar;
use crate::registry::workloads::view::{get, int, is, items, text};

/// What a pod's row says.
struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: i64,
    restarted: Option<Timestamp>,
}

fn status(pod: &Value) -> &Value {
    pod.get("status").unwrap_or(&Value::Null)
}

fn spec(pod: &Value) -> &Value {
    pod.get("spec").unwrap_or(&Value::Null)
}

fn has_condition(pod: &Value, kind: &str) -> bool {
    items(status(pod), "conditions").iter().any(|c| text(c, "type") == kind && text(c, "status") == "True")
}

/// A state of a container: `state` or `lastState`, and which of the three.
fn state<'a>(container: &'a Value, when: &str, which: &str) -> Option<&'a Value> {
    container.get(when).and_then(|s| get(s, which))
}

fn last_end(container: &Value) -> Option<Timestamp> {
    state(container, "lastState", "terminated").and_then(|t| time::parse(text(t, "finishedAt")))
}

/// How a container ended: its reason, or the signal or exit code.
fn ended(terminated: &Value) -> String {
    match (text(terminated, "reason"), int(terminated, "signal").unwrap_or(0)) {
        ("", 0) => format!("ExitCode:{}", int(terminated, "exitCode").unwrap_or(0)),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

/// What the init containers make of a pod.
struct Init {
    /// Set while they are at work or failed.
    reason: Option<String>,
    ready: usize,
    restarts: i64,
    restarted: Option<Timestamp>,
    sidecar_restarts: i64,
    sidecar_restarted: Option<Timestamp>,
}

fn init(pod: &Value) -> Init {
    let containers = items(spec(pod), "initContainers");
    let mut out =
        Init { reason: None, ready: 0, restarts: 0, restarted: None, sidecar_restarts: 0, sidecar_restarted: None };
    for (i, container) in items(status(pod), "initContainerStatuses").iter().enumerate() {
        let named = containers.iter().find(|c| text(c, "name") == text(container, "name"));
        let sidecar = named.is_some_and(is_sidecar);
        let count = int(container, "restartCount").unwrap_or(0);
        out.restarts += count;
        out.restarted = out.restarted.max(last_end(container));
        if sidecar {
            out.sidecar_restarts += count;
            out.sidecar_restarted = out.sidecar_restarted.max(last_end(container));
        }
        let terminated = state(container, "state", "terminated");
        let waiting = state(container, "state", "waiting").map(|w| text(w, "reason"));
        match (terminated, waiting) {
            (Some(t), _) if int(t, "exitCode").unwrap_or(0) == 0 => continue,
            _ if sidecar && is(container, "started") => {
                out.ready += usize::from(is(container, "ready"));
                continue;
            }
            (Some(t), _) => out.reason = Some(format!("Init:{}", ended(t))),
            (None, Some(reason)) if !matches!(reason, "" | "PodInitializing") => {
                out.reason = Some(format!("Init:{reason}"));
            }
            _ => out.reason = Some(format!("Init:{i}/{}", containers.len())),
        }
        break;
    }
    out
}

fn summary(pod: &Value) -> Summary {
    let (spec, status) = (spec(pod), status(pod));
    let mut reason = match text(status, "reason") {
        "" => text(status, "phase"),
        reason => reason,
    }
    .to_owned();
    let gated = |c: &Value| text(c, "type") == "PodScheduled" && text(c, "reason") == "SchedulingGated";
    if items(status, "conditions").iter().any(gated) {
        reason = "SchedulingGated".into();
    }
    let sidecars = items(spec, "initContainers").iter().filter(|c| is_sidecar(c)).count();
    let total = items(spec, "containers").len() + sidecars;
    let init = init(pod);
    let mut out = Summary { ready: init.ready, total, reason, restarts: init.restarts, restarted: init.restarted };
    let initializing = init.reason.is_some();
    if let Some(reason) = init.reason {
        out.reason = reason;
    }
    if !initializing || has_condition(pod, "Initialized") {
        (out.restarts, out.restarted) = (init.sidecar_restarts, init.sidecar_restarted);
        containers(pod, &mut out);
    }
    if meta::is_terminating(pod) {
        let over = matches!(text(status, "phase"), "Succeeded" | "Failed");
        if text(status, "reason") == "NodeLost" {
            out.reason = "Unknown".into();
        } else if !over {
            out.reason = "Terminating".into();
        }
    }
    out
}

fn containers(pod: &Value, out: &mut Summary) {
    let (mut running, mut error) = (false, None);
    for container in items(status(pod), "containerStatuses").iter().rev() {
        out.restarts += int(container, "restartCount").unwrap_or(0);
        out.restarted = out.restarted.max(last_end(container));
        let waiting = state(container, "state", "waiting").map(|w| text(w, "reason")).filter(|r| !r.is_empty());
        if let Some(reason) = waiting {
            out.reason = reason.to_owned();
        } else if let Some(terminated) = state(container, "state", "terminated") {
            out.reason = ended(terminated);
            if int(terminated, "exitCode").unwrap_or(0) != 0 {
                error = Some(out.reason.clone());
            }
        } else if is(container, "ready") && state(container, "state", "running").is_some() {
            running = true;
            out.ready += 1;
        }
    }
    // A pod with one container that ended well has not ended while others run.
    if out.reason == "Completed" {
        if running && has_condition(pod, "Ready") {
            out.reason = "Running".into();
        } else if let Some(error) = error {
            out.reason = error;
        } else if running {
            out.reason = "NotReady".into();
        }
    }
}

pub(in crate::registry::workloads) fn ready(pod: &Value, _: Timestamp) -> Value {
    let summary = summary(pod);
    format!("{}/{}", summary.ready, summary.total).into()
}

pub(in crate::registry::workloads) fn word(pod: &Value, _: Timestamp) -> Value {
    summary(pod).reason.into()
}

pub(in crate::registry::workloads) fn restarts(pod: &Value, now: Timestamp) -> Value {
    let summary = summary(pod);
    match (summary.restarts, summary.restarted) {
        (n, Some(at)) if n != 0 => format!("{n} ({} ago)", since(&time::rfc3339(at), now)).into(),
        (n, _) => n.to_string().into(),
    }
}

pub(in crate::registry::workloads) fn ip(pod: &Value, _: Timestamp) -> Value {
    let first = items(status(pod), "podIPs").first().map_or("", |a| text(a, "ip"));
    or(first.to_owned(), NONE)
}

pub(in crate::registry::workloads) fn node(pod: &Value, _: Timestamp) -> Value {
    or(text(spec(pod), "nodeName").to_owned(), NONE)
}

pub(in crate::registry::workloads) fn nominated(pod: &Value, _: Timestamp) -> Value {
    or(text(status(pod), "nominatedNodeName").to_owned(), NONE)
}

pub(in crate::registry::workloads) fn gates(pod: &Value, _: Timestamp) -> Value {
    let gates = items(spec(pod), "readinessGates");
    if gates.is_empty() {
        return NONE.into();
    }
    let holds = |gate: &&Value| {
        let found = items(status(pod), "conditions").iter().find(|c| text(c, "type") == text(gate, "conditionType"));
        found.is_some_and(|c| text(c, "status") == "True")
    };
    format!("{}/{}", gates.iter().filter(holds).count(), gates.len()).into()
}
