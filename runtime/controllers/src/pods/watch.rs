//! Hearing of pods.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kiln_client::{Informers, ObjectRef, Store, WorkQueue};

use crate::children::{self, Workload};
use crate::expectations::Expectations;

/// Puts into `queue` the key of each workload whose pods change, or that may adopt one, and tells `expectations` what is seen.
/// The shared mirror of pods can then find them by their owner.
pub(crate) fn subscribe<W: Workload>(
    informers: &mut Informers,
    queue: &WorkQueue<ObjectRef>,
    expectations: &Arc<Expectations>,
) -> Store<Pod> {
    children::subscribe::<W, Pod>(informers, queue, expectations)
}
