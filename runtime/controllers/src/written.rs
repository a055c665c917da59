//! What a controller wrote and a mirror may not show yet (KEP-5647). A key is looked at again only when the mirrors have come as
//! far as its last write, so that nothing is decided by a state from before it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kiln_client::{ObjectRef, Store};

/// The newest revision that was written to one collection, for each key that has writes which the mirror does not show.
pub(crate) struct Written<K = ObjectRef>(Mutex<HashMap<K, u64>>);

impl<K> Default for Written<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash> Written<K> {
    fn revisions(&self) -> MutexGuard<'_, HashMap<K, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the answer to a write.
    pub(crate) fn note(&self, key: &K, object: &impl Metadata<Ty = ObjectMeta>) {
        self.note_revision(key, object.metadata().resource_version.as_deref().unwrap_or_default());
    }

    /// Notes the `resourceVersion` that a write was answered with.
    pub(crate) fn note_revision(&self, key: &K, revision: &str) {
        if let Ok(revision) = revision.parse::<u64>() {
            let mut revisions = self.revisions();
            let newest = revisions.entry(key.clone()).or_insert(0);
            *newest = revision.max(*newest);
        }
    }

    /// Waits until the mirror shows all that was written for a key: for what is looked at one after the other anyway.
    pub(crate) async fn settled<T>(&self, key: &K, mirror: &Store<T>) {
        let revision = self.revisions().remove(key);
        mirror.reaches(revision.unwrap_or(0)).await;
    }

    /// Whether the mirror shows all that was written for a key.
    pub(crate) fn shown<T>(&self, key: &K, mirror: &Store<T>) -> bool {
        let mut revisions = self.revisions();
        let shown = revisions.get(key).is_none_or(|revision| mirror.revision() >= *revision);
        if shown {
            revisions.remove(key);
        }
        shown
    }
}
