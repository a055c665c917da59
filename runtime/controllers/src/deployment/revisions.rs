//! Which ReplicaSet is of which revision, and what is noted on it.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;

use crate::labels::Labels;

/// Labels a ReplicaSet, its pods and its selector with the hash of its template.
pub(super) const HASH_LABEL: &str = "pod-template-hash";
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// How many pods the Deployment was to have when the ReplicaSet was last scaled.
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// How many it might have then.
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// Asks for a rollback, as a field of early versions of the API did.
pub(super) const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The longest list of past revisions, in characters.
const MAX_HISTORY: usize = 2_000;

/// What a Deployment's annotations and those of its ReplicaSets do not share.
const OWN: [&str; 6] = [LAST_APPLIED, REVISION, HISTORY, DESIRED, MAX, ROLLBACK_TO];

pub(super) type Annotations = BTreeMap<String, String>;

/// The revision of a ReplicaSet, 0 if it has none; `None` if it is no number.
pub(super) fn revision(set: &ReplicaSet) -> Option<i64> {
    annotation(set, REVISION).map_or(Some(0), |text| text.parse().ok())
}

pub(super) fn annotation<'a>(set: &'a ReplicaSet, key: &str) -> Option<&'a str> {
    set.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// A count that is noted on a ReplicaSet.
pub(super) fn noted_count(set: &ReplicaSet, key: &str) -> Option<i32> {
    annotation(set, key)?.parse().ok().filter(|count| *count >= 0)
}

/// Whether two templates make the same pods.
pub(super) fn is_same(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    without_hash(a) == without_hash(b)
}

/// A template without the label of its hash.
pub(super) fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    if let Some(meta) = &mut template.metadata {
        meta.creation_timestamp = None;
        if let Some(labels) = &mut meta.labels {
            labels.remove(HASH_LABEL);
        }
        meta.labels = meta.labels.take().filter(|labels| !labels.is_empty());
        meta.annotations = meta.annotations.take().filter(|annotations| !annotations.is_empty());
    }
    template
}

/// Labels with that of the hash.
pub(super) fn with_hash(labels: Option<&Labels>, hash: &str) -> Labels {
    let mut labels = labels.cloned().unwrap_or_default();
    labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
    labels
}

/// Brings the annotations of the ReplicaSet of the current template up to date: those of the Deployment, and the revision, which
/// only grows; past ones are kept as its history.
pub(super) fn annotate(annotations: &mut Annotations, deployment: &Deployment, revision: i64) {
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !OWN.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    let old = annotations.get(REVISION).cloned();
    let Ok(number) = old.as_deref().filter(|text| !text.is_empty()).unwrap_or("0").parse::<i64>() else { return };
    if number >= revision {
        return;
    }
    annotations.insert(REVISION.to_owned(), revision.to_string());
    if let Some(old) = old {
        let history = annotations.get(HISTORY).map(String::as_str).unwrap_or_default();
        if let Some(history) = extended(history, &old) {
            annotations.insert(HISTORY.to_owned(), history);
        }
    }
}

/// The history with one more, without as many of the oldest as make it too long; `None` if it is too long in any case.
fn extended(history: &str, next: &str) -> Option<String> {
    let mut past: Vec<&str> = history.split(',').filter(|revision| !revision.is_empty()).collect();
    past.push(next);
    let drop = (0..past.len()).find(|drop| past[*drop..].join(",").len() <= MAX_HISTORY)?;
    Some(past[drop..].join(","))
}

/// The annotations of a Deployment that goes back to a ReplicaSet: its own, and those that it had when that was made.
pub(super) fn restored(deployment: &Deployment, set: &ReplicaSet) -> Annotations {
    let kept = deployment.metadata.annotations.iter().flatten().filter(|(key, _)| OWN.contains(&key.as_str()));
    let back = set.metadata.annotations.iter().flatten().filter(|(key, _)| !OWN.contains(&key.as_str()));
    kept.chain(back).map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_that_is_rolled_back_to_keeps_its_past_revisions() {
        let mut deployment = Deployment::default();
        let own = [("change", "edit"), (REVISION, "9"), (LAST_APPLIED, "{}")];
        deployment.metadata.annotations = Some(own.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        let mut annotations = Annotations::new();
        for (revision, history) in [(1, None), (3, Some("1")), (2, Some("1")), (7, Some("1,3"))] {
            annotate(&mut annotations, &deployment, revision);
            assert_eq!(annotations.get(HISTORY).map(String::as_str), history);
        }
        assert_eq!(annotations.get(REVISION).map(String::as_str), Some("7"));
        assert_eq!(annotations.get("change").map(String::as_str), Some("edit"));
        assert!(!annotations.contains_key(LAST_APPLIED));
    }

    #[test]
    fn a_long_history_loses_its_oldest() {
        let long = (1_000..1_400).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        let history = extended(&long, "1400").unwrap();
        assert!(history.len() <= MAX_HISTORY && history.ends_with(",1399,1400") && history.starts_with("1001,"));
    }
}
