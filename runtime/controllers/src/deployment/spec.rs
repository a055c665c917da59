//! What a Deployment's spec comes to, with the defaults that the API gives.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::intstr::scaled;

/// Whether all old pods are to be gone before new ones come.
pub(super) fn is_recreate(deployment: &Deployment) -> bool {
    deployment.spec.as_ref().is_some_and(|spec| !is_rolling(spec))
}

pub(super) fn is_rolling(spec: &DeploymentSpec) -> bool {
    let strategy = spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
    strategy != Some("Recreate")
}

pub(super) fn replicas(spec: &DeploymentSpec) -> i32 {
    spec.replicas.unwrap_or(1)
}

/// How many pods there may be beyond, and how many may lack, while it rolls.
fn limits(spec: &DeploymentSpec) -> (i32, i32) {
    if !is_rolling(spec) {
        return (0, 0);
    }
    let rolling = spec.strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
    let resolve = |value: Option<&IntOrString>, up| value.map_or(0, |value| scaled(value, replicas(spec), up));
    let surge = resolve(rolling.and_then(|rolling| rolling.max_surge.as_ref()), true);
    let unavailable = resolve(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), false);
    // Rounding may leave nothing of either, and then nothing would ever move.
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

pub(super) fn max_surge(spec: &DeploymentSpec) -> i32 {
    limits(spec).0
}

pub(super) fn max_unavailable(spec: &DeploymentSpec) -> i32 {
    if replicas(spec) == 0 { 0 } else { limits(spec).1.min(replicas(spec)) }
}

/// How many pods there may be at most.
pub(super) fn max_total(spec: &DeploymentSpec) -> i32 {
    replicas(spec).saturating_add(max_surge(spec))
}

/// Seconds within which there has to be progress; `None` if there is no such limit.
pub(super) fn progress_deadline(spec: &DeploymentSpec) -> Option<i32> {
    spec.progress_deadline_seconds.filter(|seconds| *seconds != i32::MAX)
}

/// How many pods a ReplicaSet is to have.
pub(super) fn set_replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().map_or(0, |spec| spec.replicas.unwrap_or(1))
}

/// How many pods of a ReplicaSet are available.
pub(super) fn set_available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn limits_are_those_of_the_documentation() {
        for (replicas, surge, unavailable, expected) in [
            (10, json!("25%"), json!("25%"), (3, 2)),
            (3, json!("25%"), json!("25%"), (1, 0)),
            (10, json!("30%"), json!("30%"), (3, 3)),
            (1, json!(0), json!("25%"), (0, 1)),
            (2, json!(0), json!(5), (0, 2)),
            (0, json!("25%"), json!("25%"), (0, 0)),
        ] {
            let spec: DeploymentSpec =
                serde_json::from_value(json!({"replicas": replicas, "selector": {}, "template": {},
                "strategy": {"type": "RollingUpdate",
                    "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}}))
                .unwrap();
            assert_eq!((max_surge(&spec), max_unavailable(&spec)), expected, "{replicas} {surge} {unavailable}");
        }
    }
}
