//! How often probes were made, by what they found, and how long they took: `/metrics/probes`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use kiln_apimachinery::metrics::Histogram;

use super::Kind;
use crate::metrics::usual;
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

/// What is known of one probe.
#[derive(Debug, Clone)]
pub struct Count {
    /// How often it was successful, failed, and could not be made.
    pub found: [u64; 3],
    /// How long it took when it was made.
    pub times: Arc<Histogram>,
}

impl Default for Count {
    fn default() -> Self {
        Self { found: [0; 3], times: Arc::new(usual()) }
    }
}

/// The counts of all pods that there are.
#[derive(Default)]
pub(crate) struct Counts(Mutex<BTreeMap<Key, Count>>);

impl Counts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Count>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, pod: &Pod, container: &str, kind: Kind, found: Found, time: Duration) {
        let [namespace, name, uid] = [namespace(pod), name(pod), uid(pod)].map(str::to_owned);
        let mut counts = self.lock();
        let counted = counts.entry((namespace, name, uid, container.to_owned(), kind.text())).or_default();
        counted.found[found as usize] += 1;
        if found != Found::Unknown {
            counted.times.observe_time(time);
        }
    }

    /// Forgets a pod that is gone.
    pub(crate) fn forget(&self, uid: &str) {
        self.lock().retain(|(_, _, of, ..), _| of != uid);
    }

    pub(crate) fn all(&self) -> Vec<(Key, Count)> {
        self.lock().iter().map(|(key, count)| (key.clone(), count.clone())).collect()
    }
}
