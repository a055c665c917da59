//! Marks of disruptions that never came to pass: a pod that was to be evicted and still is there two minutes later is not about
//! to go any more.

use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kiln_client::{Client, Clock, ObjectRef, PatchKind, Store, path};
use serde::de::IgnoredAny;
use serde_json::json;

use crate::owned::is_going;
use crate::pods::{condition, is_terminal};
use crate::reconcile::{Failure, Next};
use crate::status_patch::unless_gone;

const TIMEOUT: SignedDuration = SignedDuration::from_secs(120);
const TARGET: &str = "DisruptionTarget";

/// The mark, if it may be stale one day. Those of a kubelet stay, however long it takes.
fn mark(pod: &Pod) -> Option<&PodCondition> {
    let mark = condition(pod, TARGET).filter(|_| !is_going(pod) && !is_terminal(pod))?;
    (mark.status == "True" && mark.reason.as_deref() != Some("TerminationByKubelet")).then_some(mark)
}

/// Whether a pod has such a mark.
pub(super) fn is_marked(pod: &Pod) -> bool {
    mark(pod).is_some()
}

/// Takes stale marks off.
pub(super) struct Cleaner {
    pub(super) client: Client,
    pub(super) clock: Clock,
    pub(super) pods: Store<Pod>,
}

impl Cleaner {
    pub(super) async fn reconcile(&self, key: ObjectRef) -> Result<Next, Failure> {
        let Some(pod) = self.pods.get(&key) else { return Ok(Next::Settled) };
        let Some(mark) = mark(&pod) else { return Ok(Next::Settled) };
        let now = self.clock.now();
        let since = mark.last_transition_time.as_ref().map_or(now, |time| time.0);
        let left = (since + TIMEOUT).duration_since(now);
        if left.is_positive() {
            return Ok(Next::After(Duration::try_from(left).unwrap_or_default()));
        }
        let patch = json!({
            "metadata": {"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version},
            "status": {"conditions": [{"type": TARGET, "status": "False", "reason": null, "message": null,
                "observedGeneration": mark.observed_generation, "lastTransitionTime": Time(now)}]},
        });
        let path = format!("{}/status", path::<Pod>(&key.namespace, &key.name));
        unless_gone(self.client.patch::<IgnoredAny>(&path, PatchKind::Strategic, &patch).await)?;
        Ok(Next::Settled)
    }
}
