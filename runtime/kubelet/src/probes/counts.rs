//! How often probes were made, by what they found: `/metrics/probes`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Pod;

use super::Kind;
use crate::pods::{name, namespace, uid};

/// What one look of a probe found, as the metric has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Successful,
    Failed,
    Unknown,
}

/// The names of [`Found`], in its order.
pub(crate) const FOUND: [&str; 3] = ["successful", "failed", "unknown"];

/// Which probe: of which pod (by namespace, name and uid) and container, and its kind.
pub(crate) type Key = (String, String, String, String, &'static str);

/// The counts of all pods that there are.
#[derive(Default)]
pub(crate) struct Counts(Mutex<BTreeMap<Key, [u64; 3]>>);

impl Counts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, [u64; 3]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, pod: &Pod, container: &str, kind: Kind, found: Found) {
        let [namespace, name, uid] = [namespace(pod), name(pod), uid(pod)].map(str::to_owned);
        let mut counts = self.lock();
        let counted = counts.entry((namespace, name, uid, container.to_owned(), kind.text())).or_default();
        counted[found as usize] += 1;
    }

    /// Forgets a pod that is gone.
    pub(crate) fn forget(&self, uid: &str) {
        self.lock().retain(|(_, _, of, ..), _| of != uid);
    }

    pub(crate) fn all(&self) -> Vec<(Key, [u64; 3])> {
        self.lock().iter().map(|(key, counts)| (key.clone(), *counts)).collect()
    }
}
