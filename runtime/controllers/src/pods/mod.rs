//! What the controllers that own pods share: how a pod is, which of several goes first, making pods of a template, and
//! hearing of the pods that are theirs.

mod control;
mod rank;
mod trim;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodCondition};

pub(crate) use control::{PodControl, from_template, slow_start};
pub(crate) use rank::first_to_go;
#[allow(unused_imports, reason = "the Job controller is to use it")]
pub(crate) use rank::sort_by_activity;
pub use trim::trim;
pub(crate) use watch::subscribe;

/// `status.phase`; empty if it has none.
pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// The node that the pod is bound to; empty if it is not.
pub(crate) fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

/// Whether the pod's containers have ended for good.
pub(crate) fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether the pod runs or will, and is not being deleted.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// Whether the pod is being deleted and has not ended yet.
pub(crate) fn is_terminating(pod: &Pod) -> bool {
    !is_terminal(pod) && pod.metadata.deletion_timestamp.is_some()
}

/// One of the pod's conditions.
pub(crate) fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

/// Whether the pod is ready.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

/// Since when the pod is ready; `None` if it is not, or does not say.
pub(crate) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|ready| ready.status == "True")?;
    ready.last_transition_time.as_ref().map(|time| time.0)
}

/// Whether the pod has been ready for so many seconds.
pub(crate) fn is_available(pod: &Pod, min_ready: i32, now: Timestamp) -> bool {
    let long_enough = |since: Timestamp| since + SignedDuration::from_secs(min_ready.into()) <= now;
    is_ready(pod) && (min_ready == 0 || ready_since(pod).is_some_and(long_enough))
}

/// How long until the next of these pods will have been ready for so many seconds.
pub(crate) fn next_available(pods: &[Arc<Pod>], min_ready: i32, now: Timestamp) -> Option<Duration> {
    let min_ready = SignedDuration::from_secs(min_ready.into());
    let waits = pods.iter().filter_map(|pod| Some((ready_since(pod)? + min_ready).duration_since(now)));
    waits.filter(|wait| wait.is_positive()).min().and_then(|wait| wait.try_into().ok())
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// A pod of this phase that became ready so many seconds after the epoch.
    pub(crate) fn pod(name: &str, node: &str, phase: &str, ready: Option<i64>) -> Pod {
        let since = |second| Timestamp::from_second(second).unwrap().to_string();
        let conditions = ready.map(|at| json!([{"type": "Ready", "status": "True", "lastTransitionTime": since(at)}]));
        let node = (!node.is_empty()).then_some(node);
        let pod = json!({
            "metadata": {"name": name, "namespace": "ns", "uid": name, "creationTimestamp": since(0)},
            "spec": {"nodeName": node, "containers": []},
            "status": {"phase": phase, "conditions": conditions},
        });
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn a_pod_is_available_once_it_has_been_ready_for_long_enough() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let (ready, not) = (pod("a", "n", "Running", Some(100)), pod("b", "n", "Running", None));
        for (pod, min_ready, now, expected) in [
            (&ready, 0, 100, true),
            (&ready, 10, 109, false),
            (&ready, 10, 110, true),
            (&not, 0, 110, false),
            (&not, 10, 110, false),
        ] {
            assert_eq!(is_available(pod, min_ready, at(now)), expected, "{min_ready} {now}");
        }
        let pods = [Arc::new(ready), Arc::new(not), Arc::new(pod("c", "n", "Running", Some(105)))];
        assert_eq!(next_available(&pods, 10, at(108)), Some(Duration::from_secs(2)));
        assert_eq!(next_available(&pods, 10, at(112)), Some(Duration::from_secs(3)));
        assert_eq!(next_available(&pods, 10, at(115)), None);
    }
}
