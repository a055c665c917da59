//! What the controllers of `apps` mean where they say nothing.

use serde_json::{Value, json};

use crate::registry::strategy::default_to;
use crate::registry::workloads::defaults::{template, volume};
use crate::registry::workloads::view::{fill, get_mut, is_zero, items_mut, make, text};

const HISTORY: i64 = 10;
const ROLLING: &str = "RollingUpdate";

pub(super) fn deployment(object: &mut Value) {
    let spec = make(object, "spec");
    default_to(spec, "replicas", 1);
    let strategy = make(spec, "strategy");
    fill(strategy, "type", ROLLING);
    if text(strategy, "type") == ROLLING {
        let rolling = make(strategy, "rollingUpdate");
        default_to(rolling, "maxUnavailable", "25%");
        default_to(rolling, "maxSurge", "25%");
    }
    default_to(spec, "revisionHistoryLimit", HISTORY);
    default_to(spec, "progressDeadlineSeconds", 600);
    make(spec, "template");
    template(spec);
    make(object, "status");
}

pub(super) fn replica_set(object: &mut Value) {
    let spec = make(object, "spec");
    default_to(spec, "replicas", 1);
    template(spec);
    default_to(make(object, "status"), "replicas", 0);
}

pub(super) fn stateful_set(object: &mut Value) {
    let spec = make(object, "spec");
    fill(spec, "podManagementPolicy", "OrderedReady");
    let strategy = make(spec, "updateStrategy");
    if is_zero(strategy.get("type")) {
        fill(strategy, "type", ROLLING);
        default_to(strategy, "rollingUpdate", json!({}));
    }
    if text(strategy, "type") == ROLLING
        && let Some(rolling) = get_mut(strategy, "rollingUpdate")
    {
        default_to(rolling, "partition", 0);
    }
    let retention = make(spec, "persistentVolumeClaimRetentionPolicy");
    fill(retention, "whenDeleted", "Retain");
    fill(retention, "whenScaled", "Retain");
    default_to(spec, "replicas", 1);
    default_to(spec, "revisionHistoryLimit", HISTORY);
    make(spec, "template");
    template(spec);
    for claim in items_mut(spec, "volumeClaimTemplates") {
        fill(claim, "kind", "PersistentVolumeClaim");
        fill(claim, "apiVersion", "v1");
        volume::claim_spec(make(claim, "spec"));
        fill(make(claim, "status"), "phase", "Pending");
    }
    let status = make(object, "status");
    default_to(status, "replicas", 0);
    default_to(status, "availableReplicas", 0);
}

pub(super) fn daemon_set(object: &mut Value) {
    let spec = make(object, "spec");
    let strategy = make(spec, "updateStrategy");
    fill(strategy, "type", ROLLING);
    if text(strategy, "type") == ROLLING {
        let rolling = make(strategy, "rollingUpdate");
        default_to(rolling, "maxUnavailable", 1);
        default_to(rolling, "maxSurge", 0);
    }
    default_to(spec, "revisionHistoryLimit", HISTORY);
    make(spec, "template");
    template(spec);
    daemon_set_status(object);
}

/// Counts that the status of a daemon set always has.
pub(super) fn daemon_set_status(object: &mut Value) {
    let status = make(object, "status");
    for key in ["currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady"] {
        default_to(status, key, 0);
    }
}
