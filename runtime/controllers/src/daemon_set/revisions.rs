//! The templates that a set has had.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetSpec};
use k8s_openapi::api::core::v1::Pod;
use kiln_client::{PatchKind, path};
use serde::de::IgnoredAny;
use serde_json::json;

use super::{Engine, HASH_LABEL, pod};
use crate::history::{is_of, next_number};
use crate::labels;
use crate::owned::{name, namespace};
use crate::reconcile::Failure;

/// A set's revisions.
pub(super) struct Revisions {
    /// Of the present template.
    pub(super) hash: String,
    /// All but the present one, the oldest first.
    pub(super) old: Vec<Arc<ControllerRevision>>,
    pub(super) collisions: Option<i32>,
}

fn hash_of(revision: &ControllerRevision) -> Option<&str> {
    revision.metadata.labels.as_ref()?.get(HASH_LABEL).map(String::as_str)
}

impl Engine {
    /// The set's revisions, having noted the present template as the latest.
    pub(super) async fn revisions(
        &self,
        set: &DaemonSet,
        spec: &DaemonSetSpec,
        mine: &[Arc<Pod>],
    ) -> Result<Revisions, Failure> {
        let selects = |labels: Option<&labels::Labels>| labels::selects(&spec.selector, labels);
        let mut labelled = Vec::new();
        for revision in self.history.of(set, selects).await? {
            labelled.push(match hash_of(&revision) {
                Some(_) => revision,
                None => Arc::new(self.history.label(&revision, json!({HASH_LABEL: name(&*revision)})).await?),
            });
        }
        let (mut present, old): (Vec<_>, Vec<_>) =
            labelled.into_iter().partition(|revision| is_of(revision, &spec.template));
        let (number, known) = (next_number(&old), set.status.as_ref().and_then(|status| status.collision_count));
        let Some(kept) = present.pop() else {
            let mut collisions = known.unwrap_or(0);
            let revision = self.history.compose(set, &spec.template, number, collisions)?;
            let made = self.history.create(set, revision, &mut collisions).await?;
            let hash = hash_of(&made).unwrap_or_default().to_owned();
            // None is as good as no collision.
            let collisions = if collisions == known.unwrap_or(0) { known } else { Some(collisions) };
            return Ok(Revisions { hash, old, collisions });
        };
        let hash = hash_of(&kept).unwrap_or_default().to_owned();
        for twin in present {
            self.merge(mine, &twin, &hash).await?;
        }
        if kept.revision < number {
            self.history.renumber(&kept, number).await?;
        }
        Ok(Revisions { hash, old, collisions: known })
    }

    /// Removes a second revision of the present template, after its pods have been given the hash of the first.
    async fn merge(&self, mine: &[Arc<Pod>], twin: &ControllerRevision, hash: &str) -> Result<(), Failure> {
        let theirs = hash_of(twin);
        for pod in mine.iter().filter(|pod| Some(pod::hash(pod)) == theirs) {
            let patch = json!({"metadata": {"uid": pod.metadata.uid, "labels": {HASH_LABEL: hash}}});
            let path = path::<Pod>(namespace(&**pod), name(&**pod));
            self.client.patch::<IgnoredAny>(&path, PatchKind::Merge, &patch).await?;
        }
        self.history.delete(twin).await
    }

    /// Removes the oldest revisions without pods beyond the history's limit.
    pub(super) async fn keep_history(
        &self,
        spec: &DaemonSetSpec,
        old: &[Arc<ControllerRevision>],
        mine: &[Arc<Pod>],
    ) -> Result<(), Failure> {
        let limit = usize::try_from(spec.revision_history_limit.unwrap_or(10)).unwrap_or(0);
        let is_live = |revision: &ControllerRevision| {
            let hash = hash_of(revision).unwrap_or_default();
            mine.iter().any(|pod| pod::hash(pod) == hash)
        };
        let idle = old.iter().filter(|revision| !is_live(revision));
        for revision in idle.take(old.len().saturating_sub(limit)) {
            self.history.delete(revision).await?;
        }
        Ok(())
    }
}
