//! Asks pods to leave.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kiln_client::{Client, ClientError, Clock, PatchKind, path};
use serde_json::{Value, json};

use crate::conditions;
use crate::recorder::{Recorder, Regarding, Told};

/// Who is asked, and for whom.
pub(crate) struct Order {
    /// The pod that is to come.
    pub(crate) preemptor: Arc<Pod>,
    /// The scheduler's name.
    pub(crate) scheduler: String,
    /// The node.
    pub(crate) node: String,
    /// Those that are to leave.
    pub(crate) victims: Vec<Arc<Pod>>,
    /// Less important pods that were promised the node, whose promise is void now.
    pub(crate) nominated: Vec<Arc<Pod>>,
}

/// Carries an order out.
///
/// # Errors
/// The first request to victims that failed; those that are gone already are no failure.
pub(crate) async fn carry_out(
    client: &Client,
    recorder: &Recorder,
    clock: &Clock,
    order: &Order,
) -> Result<(), ClientError> {
    for pod in &order.nominated {
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"nominatedNodeName": null}});
        let voided = allow_gone(client.patch::<Value>(&status_path(pod), PatchKind::Strategic, &patch).await);
        if let Err(error) = voided {
            // Its next attempt writes what it is promised then.
            tracing::warn!(%error, "a promise that is void stays in a pod's status");
        }
    }
    for victim in &order.victims {
        if victim.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let message = format!("{}: preempting to accommodate a higher priority pod", order.scheduler);
        let condition =
            conditions::changed(victim, "DisruptionTarget", "True", "PreemptionByScheduler", &message, clock.now());
        if let Some(condition) = condition {
            let patch = json!({"metadata": {"uid": victim.metadata.uid}, "status": {"conditions": [condition]}});
            if !allow_gone(client.patch::<Value>(&status_path(victim), PatchKind::Strategic, &patch).await)? {
                continue;
            }
        }
        let options = json!({"preconditions": {"uid": victim.metadata.uid}});
        if !allow_gone(client.delete(&pod_path(victim), &options).await)? {
            continue;
        }
        recorder.tell(Told {
            regarding: Regarding::of(victim),
            related: Some(Regarding::of(&order.preemptor)),
            warning: false,
            reason: "Preempted",
            action: "Preempting",
            note: format!(
                "Preempted by pod {} on node {}",
                order.preemptor.metadata.uid.as_deref().unwrap_or_default(),
                order.node
            ),
            by: order.scheduler.clone(),
        });
    }
    Ok(())
}

fn pod_path(pod: &Pod) -> String {
    let meta = &pod.metadata;
    path::<Pod>(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

fn status_path(pod: &Pod) -> String {
    format!("{}/status", pod_path(pod))
}

/// Whether the object is there; `false` if it, or the one of this uid, is gone.
fn allow_gone(result: Result<Value, ClientError>) -> Result<bool, ClientError> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(false),
        Err(error) => Err(error),
    }
}
