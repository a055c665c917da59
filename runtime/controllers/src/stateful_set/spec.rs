//! What a StatefulSet's spec comes to, with the defaults that the API gives.

use std::sync::LazyLock;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PodTemplateSpec};

use crate::intstr::scaled;

pub(super) fn template(set: &StatefulSet) -> &PodTemplateSpec {
    static NONE: LazyLock<PodTemplateSpec> = LazyLock::new(PodTemplateSpec::default);
    set.spec.as_ref().map_or(&NONE, |spec| &spec.template)
}

pub(super) fn replicas(spec: &StatefulSetSpec) -> i32 {
    spec.replicas.unwrap_or(1).max(0)
}

/// The first ordinal.
pub(super) fn start(spec: &StatefulSetSpec) -> i32 {
    spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0)
}

/// Whether a pod of this ordinal is asked for.
pub(super) fn has_ordinal(spec: &StatefulSetSpec, ordinal: i32) -> bool {
    (start(spec)..start(spec).saturating_add(replicas(spec))).contains(&ordinal)
}

/// Whether pods are made and deleted in any order.
pub(super) fn is_parallel(spec: &StatefulSetSpec) -> bool {
    spec.pod_management_policy.as_deref() == Some("Parallel")
}

pub(super) fn is_on_delete(spec: &StatefulSetSpec) -> bool {
    spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete")
}

/// Where among its pods an update ends, counted from the first.
pub(super) fn partition(spec: &StatefulSetSpec) -> i32 {
    let rolling = spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
    rolling.and_then(|rolling| rolling.partition).unwrap_or(0)
}

/// How many pods may lack during an update, if the set says so.
pub(super) fn max_unavailable(spec: &StatefulSetSpec) -> Option<i32> {
    let rolling = spec.update_strategy.as_ref()?.rolling_update.as_ref()?;
    rolling.max_unavailable.as_ref().map(|value| scaled(value, replicas(spec), false).max(1))
}

pub(super) fn claim_templates(spec: &StatefulSetSpec) -> &[PersistentVolumeClaim] {
    spec.volume_claim_templates.as_deref().unwrap_or_default()
}

/// Whether claims go with the set, and with a pod that is scaled away.
pub(super) fn claims_go(spec: &StatefulSetSpec) -> (bool, bool) {
    let policy = spec.persistent_volume_claim_retention_policy.as_ref();
    let goes = |when: Option<&String>| when.is_some_and(|policy| policy == "Delete");
    let with_set = goes(policy.and_then(|policy| policy.when_deleted.as_ref()));
    (with_set, goes(policy.and_then(|policy| policy.when_scaled.as_ref())))
}
