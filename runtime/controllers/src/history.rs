//! ControllerRevisions: the templates that a StatefulSet or a DaemonSet has had.
//!
//! Each holds the strategic merge patch that brings its template back, as `kubectl rollout undo` sends it.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kiln_client::{Client, Object as _, PatchKind, Store, path};
use serde_json::{Value, json};

use crate::hash::hash;
use crate::labels::Labels;
use crate::owned::{Owned, claim, claimable, name, namespace, reference};
use crate::reconcile::{Failure, to_value};
use crate::status_patch::unless_gone;

/// The most of an owner's name that is in the name of a revision.
const MAX_PREFIX: usize = 223;

/// The revisions of one kind of owners.
pub(crate) struct History {
    client: Client,
    revisions: Store<ControllerRevision>,
    /// The label that holds the hash in a revision's name.
    label: &'static str,
}

impl History {
    /// Of a mirror that has the index of owners.
    pub(crate) fn new(client: Client, revisions: Store<ControllerRevision>, label: &'static str) -> Self {
        Self { client, revisions, label }
    }

    /// Waits until the mirror is filled.
    pub(crate) async fn synced(&self) {
        self.revisions.synced().await;
    }

    /// An owner's revisions, the oldest first, having adopted those without an owner that it selects.
    pub(crate) async fn of<O: Owned>(
        &self,
        owner: &O,
        selects: impl Fn(Option<&Labels>) -> bool,
    ) -> Result<Vec<Arc<ControllerRevision>>, Failure> {
        let found = claimable(&self.revisions, owner);
        let mut revisions = claim(&self.client, owner, found, |labels, _| selects(labels), &[]).await?;
        sort(&mut revisions);
        Ok(revisions)
    }

    /// A revision of a template, with the annotations of its owner. Its name is that which no collision has changed.
    pub(crate) fn compose<O: Owned>(
        &self,
        owner: &O,
        template: &PodTemplateSpec,
        number: i64,
        collisions: i32,
    ) -> Result<ControllerRevision, Failure> {
        let mut template_json = to_value(template)?;
        template_json["$patch"] = json!("replace");
        let mut revision = ControllerRevision {
            metadata: ObjectMeta {
                namespace: Some(namespace(owner).to_owned()),
                labels: template.metadata.as_ref().and_then(|meta| meta.labels.clone()),
                annotations: owner.metadata().annotations.clone(),
                owner_references: Some(vec![reference(owner)]),
                ..ObjectMeta::default()
            },
            data: Some(RawExtension(json!({"spec": {"template": template_json}}))),
            revision: number,
        };
        self.rename(&mut revision, name(owner), collisions)?;
        Ok(revision)
    }

    /// Names and labels a revision after its template and the collisions so far.
    fn rename(&self, revision: &mut ControllerRevision, owner: &str, collisions: i32) -> Result<(), Failure> {
        let hash = hash(&revision.data, Some(collisions))?;
        let prefix: String = owner.chars().take(MAX_PREFIX).collect();
        revision.metadata.name = Some(format!("{prefix}-{hash}"));
        revision.metadata.labels.get_or_insert_default().insert(self.label.to_owned(), hash);
        Ok(())
    }

    /// Writes a revision under a name that no other has. Each name that is taken by another template raises `collisions`.
    pub(crate) async fn create<O: Owned>(
        &self,
        owner: &O,
        mut revision: ControllerRevision,
        collisions: &mut i32,
    ) -> Result<ControllerRevision, Failure> {
        let collection = path::<ControllerRevision>(namespace(owner), "");
        loop {
            self.rename(&mut revision, name(owner), *collisions)?;
            match self.client.create::<ControllerRevision>(&collection, &revision).await {
                Err(error) if error.is_already_exists() => {}
                made => return Ok(made?),
            }
            let path = path::<ControllerRevision>(namespace(owner), name(&revision));
            let there: ControllerRevision = self.client.get(&path).await?;
            if there.data == revision.data {
                return Ok(there);
            }
            *collisions += 1;
        }
    }

    /// Gives a revision another number.
    pub(crate) async fn renumber(
        &self,
        revision: &ControllerRevision,
        number: i64,
    ) -> Result<ControllerRevision, Failure> {
        let path = path::<ControllerRevision>(namespace(revision), name(revision));
        let patch = json!({"metadata": {"uid": revision.uid()}, "revision": number});
        Ok(self.client.patch(&path, PatchKind::Merge, &patch).await?)
    }

    /// Changes labels of a revision.
    pub(crate) async fn label(
        &self,
        revision: &ControllerRevision,
        labels: Value,
    ) -> Result<ControllerRevision, Failure> {
        let path = path::<ControllerRevision>(namespace(revision), name(revision));
        let patch = json!({"metadata": {"uid": revision.uid(), "labels": labels}});
        Ok(self.client.patch(&path, PatchKind::Merge, &patch).await?)
    }

    /// Removes the oldest of the revisions that are in use nowhere, until as many are left as `limit` says.
    pub(crate) async fn truncate(
        &self,
        revisions: &[Arc<ControllerRevision>],
        is_live: impl Fn(&ControllerRevision) -> bool,
        limit: Option<i32>,
    ) -> Result<(), Failure> {
        let Ok(limit) = usize::try_from(limit.unwrap_or(10)) else { return Ok(()) };
        let past: Vec<_> = revisions.iter().filter(|revision| !is_live(revision)).collect();
        for revision in past.iter().take(past.len().saturating_sub(limit)) {
            self.delete(revision).await?;
        }
        Ok(())
    }

    /// Removes one revision.
    pub(crate) async fn delete(&self, revision: &ControllerRevision) -> Result<(), Failure> {
        let path = path::<ControllerRevision>(namespace(revision), name(revision));
        unless_gone(self.client.delete(&path, &Value::Null).await)
    }
}

/// By number, and those of one number by age and name.
pub(crate) fn sort(revisions: &mut [Arc<ControllerRevision>]) {
    let created = |revision: &ControllerRevision| revision.metadata.creation_timestamp.as_ref().map(|time| time.0);
    revisions.sort_by(|a, b| {
        let order = a.revision.cmp(&b.revision).then_with(|| created(a).cmp(&created(b)));
        order.then_with(|| name(&**a).cmp(name(&**b)))
    });
}

/// The number of the next revision.
pub(crate) fn next_number(revisions: &[Arc<ControllerRevision>]) -> i64 {
    revisions.iter().map(|revision| revision.revision).max().unwrap_or(0) + 1
}

/// The template that a revision brings back.
pub(crate) fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.pointer("/spec/template")?.clone();
    template.as_object_mut()?.remove("$patch");
    kiln_client::typed(&template).ok()
}

/// Whether a revision is of this template, however it is written.
pub(crate) fn is_of(revision: &ControllerRevision, template: &PodTemplateSpec) -> bool {
    template_of(revision).as_ref() == Some(template)
}
