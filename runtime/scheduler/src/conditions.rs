//! Conditions of pods.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kiln_apimachinery::time;
use serde_json::{Value, json};

/// A condition as it is to be written, with the time since which it has its status; `None` if the pod has it just so.
pub(crate) fn changed(
    pod: &Pod,
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Option<Value> {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let known = conditions.into_iter().flatten().find(|condition| condition.type_ == kind);
    let generation = pod.metadata.generation;
    if known.is_some_and(|known| {
        known.status == status
            && known.reason.as_deref() == Some(reason)
            && known.message.as_deref() == Some(message)
            && known.observed_generation == generation
    }) {
        return None;
    }
    let since = known.filter(|known| known.status == status).and_then(|known| known.last_transition_time.as_ref());
    let since = since.map_or(now, |time| time.0);
    let mut condition = json!({
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastProbeTime": null,
        "lastTransitionTime": time::rfc3339(since),
    });
    if let Some(generation) = generation {
        condition["observedGeneration"] = json!(generation);
    }
    Some(condition)
}
