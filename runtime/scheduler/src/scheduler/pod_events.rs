//! Pods that come, change and go.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod as ApiPod;
use kiln_client::Change;
use tokio::time::Instant;

use super::{Scheduler, profile_of};
use crate::framework::{Event, PodChange};
use crate::model::Pod;

/// Whether a pod takes nothing of its node any more.
fn is_over(pod: &ApiPod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

impl Scheduler {
    pub(super) fn pod_changed(&mut self, change: Change<ApiPod>) {
        match change {
            Change::Applied { object, previous, .. } => {
                // One of the same name took its place while the watch was down.
                if let Some(previous) = previous.filter(|previous| previous.metadata.uid != object.metadata.uid) {
                    self.pod_gone(previous.metadata.uid.as_deref().unwrap_or_default());
                }
                if is_over(&object) {
                    return self.pod_gone(object.metadata.uid.as_deref().unwrap_or_default());
                }
                let pod = Arc::new(self.projector.pod(&object));
                if pod.node.is_some() {
                    self.pod_on_node(pod);
                } else {
                    self.pod_waits(pod);
                }
            }
            Change::Deleted { object, .. } => self.pod_gone(object.metadata.uid.as_deref().unwrap_or_default()),
            Change::Synced => {}
        }
    }

    fn pod_on_node(&mut self, pod: Arc<Pod>) {
        let was_assumed = self.cache.is_assumed(&pod.uid);
        let old = self.cache.pod(&pod.uid).cloned().filter(|_| !was_assumed);
        self.queue.remove(&pod.uid);
        self.nominator.remove(&pod.uid);
        self.cache.set_pod(Arc::clone(&pod));
        match old {
            None => self.on_event(&Event::PodPlaced(&pod)),
            Some(old) => {
                let change = PodChange::between(&old, &pod);
                if !change.is_nothing() {
                    self.on_event(&Event::PodUpdated { old: &old, new: &pod, change });
                }
            }
        }
    }

    fn pod_waits(&mut self, pod: Arc<Pod>) {
        // One that is being bound does not wait; and others' pods are not ours.
        if profile_of(&self.profiles, &pod).is_none() || self.cache.is_assumed(&pod.uid) {
            return;
        }
        let now = Instant::now();
        let old = self.queue.get(&pod.uid).map(|queued| Arc::clone(&queued.pod));
        match (&pod.nominated, old.as_ref().and_then(|old| old.nominated.as_ref())) {
            (Some(node), known) if known != Some(node) => self.nominator.add(&pod, node),
            (None, Some(_)) => _ = self.nominator.remove(&pod.uid),
            _ => {}
        }
        let gate = self.gate(&pod);
        let Some(old) = old else { return self.queue.add(pod, gate, now) };
        self.queue.update(Arc::clone(&pod));
        let change = PodChange::between(&old, &pod);
        if self.queue.get(&pod.uid).is_some_and(|queued| queued.gate != gate) {
            self.queue.set_gate(&pod.uid, gate, now);
        }
        if !change.is_nothing() {
            self.on_own_event(&Event::SelfUpdated { old: &old, new: &pod, change }, &pod);
        }
    }

    fn pod_gone(&mut self, uid: &str) {
        let waited = self.queue.remove(uid).map(|queued| queued.pod);
        let promised = self.nominator.remove(uid);
        self.binding.remove(uid);
        self.listers.assumed_volumes.forget(uid);
        self.listers.assumed_devices.forget(uid);
        if let Some(pod) = self.cache.remove_pod(uid) {
            self.on_event(&Event::PodGone(&pod));
        } else if let (Some(pod), Some(node)) = (waited, promised) {
            // The room that it was promised is free for others.
            let pod = Pod { nominated: Some(node), ..(*pod).clone() };
            self.on_event(&Event::PodGone(&pod));
        }
    }
}
