//! Whether this node takes a pod that was given to it. The scheduler has seen to most of it, but it may have known less, and not
//! every pod comes from it. In flow a pod, those that the node has taken already (each with the resources allocated to it) and the
//! Node's object; out flows a verdict with the upstream kubelet's reasons and messages. Pods that run are never judged again.

pub(crate) mod affinity;
mod fit;
mod ports;
mod preempt;
pub(crate) mod sysctls;
mod taints;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::resources::is_critical;
use fit::Shortage;
pub use sysctls::Sysctls;
pub(crate) use taints::tolerates;

const OS: &str = "kubernetes.io/os";
const LINUX: &str = "linux";

/// Why a pod is not taken: it fails, with these in its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// One word.
    pub reason: String,
    /// The whole of it.
    pub message: String,
    /// The Node's labels may be newer than known: to be judged once more by a Node that was fetched since.
    pub with_fresh_node: bool,
}

/// What becomes of a pod.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// It is taken.
    Admit,
    /// It is taken once these have made room: they fail with [`PREEMPTED`] as their reason.
    Preempt(Vec<Arc<Pod>>),
    /// It is not taken.
    Reject(Rejection),
}

/// The reason of pods that made room for a critical one, and the message of their condition `DisruptionTarget`.
pub const PREEMPTED: &str = "Preempting";
/// The message in the status of such pods.
pub const PREEMPTED_MESSAGE: &str = "Preempted in order to admit critical pod";
/// The message of their condition.
pub const PREEMPTED_CONDITION: &str = "Pod was preempted by Kubelet to accommodate a critical pod.";

/// A check that failed.
#[derive(Debug)]
enum Failure {
    Short(Shortage),
    Predicate(&'static str, &'static str),
}

/// Judges a pod. `others` are the pods that the node has taken and that are not over, without this one.
pub fn admit(pod: &Pod, others: &[Arc<Pod>], node: &Node) -> Verdict {
    if let Some(rejection) = unsupported(pod, node) {
        return Verdict::Reject(rejection);
    }
    let mut failures: Vec<Failure> = fit::shortages(pod, others, node).into_iter().map(Failure::Short).collect();
    failures.extend(mismatches(pod, others, node));
    if failures.is_empty() {
        return Verdict::Admit;
    }
    if is_critical(pod) {
        // A critical pod cannot fail for want of room, only for other reasons.
        let (short, other): (Vec<_>, Vec<_>) = failures.into_iter().partition(|f| matches!(f, Failure::Short(_)));
        failures = other;
        if failures.is_empty() {
            let shortages: Vec<Shortage> = short.into_iter().filter_map(Failure::short).collect();
            return match preempt::choose(pod, others, &shortages) {
                Ok(victims) => Verdict::Preempt(victims),
                Err(why) => Verdict::Reject(rejection(
                    "UnexpectedAdmissionError",
                    format!("Unexpected error while attempting to recover from admission failure: {why}"),
                )),
            };
        }
    }
    let only_affinity = failures.iter().all(|failure| matches!(failure, Failure::Predicate("NodeAffinity", _)));
    let first = failures.swap_remove(0);
    Verdict::Reject(Rejection { with_fresh_node: only_affinity, ..first.into_rejection() })
}

impl Failure {
    fn short(self) -> Option<Shortage> {
        match self {
            Self::Short(shortage) => Some(shortage),
            Self::Predicate(..) => None,
        }
    }

    fn into_rejection(self) -> Rejection {
        match self {
            Self::Short(shortage) => rejection(&format!("OutOf{}", shortage.resource), shortage.to_string()),
            Self::Predicate(name, why) => rejection(name, format!("Predicate {name} failed: {why}")),
        }
    }
}

fn rejection(reason: &str, message: impl Into<String>) -> Rejection {
    Rejection { reason: reason.to_owned(), message: message.into(), with_fresh_node: false }
}

/// What no room would help.
fn unsupported(pod: &Pod, node: &Node) -> Option<Rejection> {
    let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get(OS));
    if label.is_some_and(|os| os != LINUX) {
        let why = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label";
        return Some(rejection("PodOSSelectorNodeLabelDoesNotMatch", why));
    }
    let spec = pod.spec.as_ref()?;
    if spec.os.as_ref().is_some_and(|os| os.name != LINUX) {
        let why = "Failed to admit pod as the OS field doesn't match node OS";
        return Some(rejection("PodOSNotSupported", why));
    }
    let policy = spec.security_context.as_ref().and_then(|security| security.supplemental_groups_policy.as_deref());
    let features = node.status.as_ref().and_then(|status| status.features.as_ref());
    let supported = features.and_then(|features| features.supplemental_groups_policy) == Some(true);
    if policy == Some("Strict") && !supported {
        let why = "SupplementalGroupsPolicy=Strict is not supported in this node";
        return Some(rejection("SupplementalGroupsPolicyNotSupported", why));
    }
    None
}

fn mismatches(pod: &Pod, others: &[Arc<Pod>], node: &Node) -> Vec<Failure> {
    let mut failures = Vec::new();
    let name = node.metadata.name.as_deref().unwrap_or_default();
    if !is_selected(pod, node, name) {
        failures.push(Failure::Predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector"));
    }
    let wanted = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
    if !wanted.is_empty() && wanted != name {
        failures.push(Failure::Predicate("NodeName", "node(s) didn't match the requested node name"));
    }
    if ports::conflict(pod, others) {
        failures.push(Failure::Predicate("NodePorts", "node(s) didn't have free ports for the requested pod ports"));
    }
    if !taints::are_tolerated(pod, node) {
        failures.push(Failure::Predicate("TaintToleration", "node(s) had taints that the pod didn't tolerate"));
    }
    failures
}

fn is_selected(pod: &Pod, node: &Node, name: &str) -> bool {
    let none = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    let Some(spec) = &pod.spec else { return true };
    let selector = spec.node_selector.iter().flatten();
    let selected = selector.into_iter().all(|(key, value)| labels.get(key) == Some(value));
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|required| affinity::matches(required, labels, name))
}

#[cfg(test)]
mod tests;
