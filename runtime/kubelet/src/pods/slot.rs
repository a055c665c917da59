//! The table of pods: what a worker shares with the rest of the kubelet.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::sync::{Mutex as AsyncMutex, Notify};
use tokio_util::sync::CancellationToken;

use super::view::{Container, Shared, View};
use super::{logs, name, namespace, uid};
use crate::metrics::Metrics;
use crate::probes::counts::Counts;
use crate::volumes::{VolumeAt, Volumes};

/// A pod and its worker's side of it.
pub(crate) struct Slot {
    pub(crate) uid: String,
    /// When the kubelet first saw it.
    pub(crate) seen: Instant,
    state: Mutex<Current>,
    /// Something changed: the worker looks.
    pub(crate) wake: Notify,
    /// The pod is to end, or to end sooner: whatever the worker does now is dropped.
    pub(crate) interrupt: Notify,
    /// Held while the runtime makes or starts something: half made it would look like something that failed.
    pub(crate) making: AsyncMutex<()>,
    /// Nothing of the pod runs any more, and the API knows.
    pub(crate) ended: CancellationToken,
}

#[derive(Clone)]
pub(crate) struct Current {
    /// The pod as it is to run.
    pub(crate) pod: Arc<Pod>,
    /// The object in the API that shows it: itself, or the mirror of a static pod, if it has been made.
    pub(crate) api: Option<Arc<Pod>>,
    /// It is no longer wanted: deleted from the API, or its file is gone.
    pub(crate) gone: bool,
    /// It is to end as failed, for a reason of the node's.
    pub(crate) eviction: Option<Eviction>,
    /// The node has taken it: it counts when others are judged.
    pub(crate) admitted: bool,
    /// It asks for more than it was given.
    pub(crate) waits_for_room: bool,
    /// The status as it was made last.
    pub(crate) status: Option<Arc<PodStatus>>,
    pub(crate) view: Shared,
}

/// Why the node ends a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Eviction {
    pub(crate) reason: String,
    pub(crate) message: String,
    /// Seconds, in place of the pod's own.
    pub(crate) grace: Option<i64>,
    /// The message of the condition that tells others of it, if it was not the pod's own fault.
    pub(crate) disruption: Option<String>,
}

impl Slot {
    pub(crate) fn new(pod: Arc<Pod>, api: Option<Arc<Pod>>) -> Self {
        let current = Current {
            pod: pod.clone(),
            api,
            gone: false,
            eviction: None,
            admitted: false,
            waits_for_room: false,
            status: None,
            view: Arc::default(),
        };
        let uid = uid(&pod).to_owned();
        Self {
            uid,
            seen: Instant::now(),
            state: Mutex::new(current),
            wake: Notify::new(),
            interrupt: Notify::new(),
            making: AsyncMutex::default(),
            ended: CancellationToken::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn current(&self) -> Current {
        self.lock().clone()
    }

    pub(crate) fn pod(&self) -> Arc<Pod> {
        self.lock().pod.clone()
    }

    /// Changes the state, and wakes the worker.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Current)) {
        let interrupts = {
            let mut state = self.lock();
            let before = (ending(&state), grace(&state));
            change(&mut state);
            before != (ending(&state), grace(&state))
        };
        if interrupts {
            self.interrupt.notify_one();
        }
        self.wake.notify_one();
    }

    /// Waits until the pod is to end, or to end sooner, and the runtime has made what it is making.
    pub(crate) async fn interrupted(&self) {
        self.interrupt.notified().await;
        drop(self.making.lock().await);
    }

    /// Takes note of what the worker found; wakes nobody.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Current)) {
        change(&mut self.lock());
    }
}

/// Whether the pod is to end.
pub(crate) fn ending(current: &Current) -> bool {
    let phase = current.pod.status.as_ref().and_then(|status| status.phase.as_deref());
    current.gone
        || current.pod.metadata.deletion_timestamp.is_some()
        || current.eviction.is_some()
        || (super::status::is_terminal(phase) && !super::is_static(&current.pod))
}

/// The seconds that its containers have to end in.
pub(crate) fn grace(current: &Current) -> i64 {
    let spec = current.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    let evicted = current.eviction.as_ref().and_then(|eviction| eviction.grace);
    match (current.pod.metadata.deletion_grace_period_seconds, evicted) {
        (Some(deletion), Some(evicted)) => deletion.min(evicted),
        (deletion, evicted) => deletion.or(evicted).or(spec).unwrap_or(0),
    }
}

/// All pods of this node. Cloning it is cheap and shares them.
#[derive(Clone)]
pub struct Pods(Arc<Table>);

struct Table {
    logs: PathBuf,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
    /// The pod of each container and sandbox that may be running.
    owners: Mutex<HashMap<String, Arc<Slot>>>,
    probes: Counts,
    metrics: Metrics,
    /// The pods' volumes, once somebody runs pods.
    volumes: OnceLock<Volumes>,
}

/// A pod as it is now.
#[derive(Clone)]
pub struct RunningPod {
    /// Its object, with the spec that it runs by.
    pub pod: Arc<Pod>,
    /// Its status, once one was made: newer than that of the object.
    pub status: Option<Arc<PodStatus>>,
    view: Shared,
    logs: PathBuf,
}

impl RunningPod {
    /// The runtime's id of the sandbox, if one is ready.
    pub fn sandbox(&self) -> Option<&str> {
        self.view.sandbox(&self.pod).map(|sandbox| sandbox.id.as_str())
    }

    /// Its containers as the runtime has them, the newest first; of each name there may be two.
    pub fn containers(&self) -> &[Container] {
        &self.view.containers
    }

    /// The newest container of this name.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.view.container(name)
    }

    /// The folder of its containers' logs: in it one folder a container, in it one file an attempt.
    pub fn log_folder(&self) -> PathBuf {
        logs::folder(&self.logs, &self.pod)
    }

    /// The log of a container's attempt.
    pub fn log(&self, container: &str, attempt: u32) -> PathBuf {
        self.log_folder().join(container).join(format!("{attempt}.log"))
    }
}

impl Pods {
    /// No pods yet; `logs` is the folder of all pods' logs.
    pub fn new(logs: &Path) -> Self {
        Self(Arc::new(Table {
            logs: logs.to_owned(),
            slots: Mutex::default(),
            owners: Mutex::default(),
            probes: Counts::default(),
            metrics: Metrics::default(),
            volumes: OnceLock::new(),
        }))
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<String, Arc<Slot>>> {
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn owners(&self) -> MutexGuard<'_, HashMap<String, Arc<Slot>>> {
        self.0.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self, slot: &Slot) -> RunningPod {
        let current = slot.current();
        RunningPod { pod: current.pod, status: current.status, view: current.view, logs: self.0.logs.clone() }
    }

    /// The pod of this name; of a static pod the name is its mirror's.
    pub fn get(&self, namespace: &str, name: &str) -> Option<RunningPod> {
        let of = |pod: &Pod| self::name(pod) == name && self::namespace(pod) == namespace;
        // A pod that was made anew under its name may still have a predecessor that ends.
        let mut found: Vec<RunningPod> =
            self.slots().values().map(|slot| self.running(slot)).filter(|running| of(&running.pod)).collect();
        found.sort_by_key(|running| running.pod.metadata.creation_timestamp.clone());
        found.pop()
    }

    /// The pod with this uid.
    pub fn by_uid(&self, uid: &str) -> Option<RunningPod> {
        self.slot(uid).map(|slot| self.running(&slot))
    }

    /// All pods, in no order.
    pub fn list(&self) -> Vec<RunningPod> {
        self.slots().values().map(|slot| self.running(slot)).collect()
    }

    pub(crate) fn slot(&self, uid: &str) -> Option<Arc<Slot>> {
        self.slots().get(uid).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Slot>> {
        self.slots().values().cloned().collect()
    }

    pub(crate) fn insert(&self, slot: Arc<Slot>) {
        self.slots().insert(slot.uid.clone(), slot);
    }

    /// Forgets a pod of which nothing is left.
    pub(crate) fn remove(&self, slot: &Slot) {
        self.slots().remove(&slot.uid);
        self.owners().retain(|_, owner| owner.uid != slot.uid);
        self.0.probes.forget(&slot.uid);
    }

    /// What is counted of the work on them.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// How often probes were made.
    pub(crate) fn probes(&self) -> &Counts {
        &self.0.probes
    }

    /// Shows the pods' volumes.
    pub(crate) fn show_volumes(&self, volumes: Volumes) {
        // They are the same as those that were shown before, if any were.
        _ = self.0.volumes.set(volumes);
    }

    /// The volumes of pods that have room of their own.
    pub(crate) fn volumes(&self) -> Vec<VolumeAt> {
        self.0.volumes.get().map(Volumes::measurable).unwrap_or_default()
    }

    /// Takes note of a container or sandbox, before it can end.
    pub(crate) fn own(&self, id: &str, slot: &Arc<Slot>) {
        self.owners().insert(id.to_owned(), slot.clone());
    }

    /// Takes note of what of a pod may be running, and of nothing else of it.
    pub(crate) fn own_all(&self, view: &View, slot: &Arc<Slot>) {
        let running = view.running().map(|container| &container.id);
        let ready = view.sandboxes.iter().filter(|sandbox| sandbox.ready).map(|sandbox| &sandbox.id);
        let mut owners = self.owners();
        owners.retain(|_, owner| owner.uid != slot.uid);
        owners.extend(running.chain(ready).map(|id| (id.clone(), slot.clone())));
    }

    /// The pod of a container or sandbox.
    pub(crate) fn owner(&self, id: &str) -> Option<Arc<Slot>> {
        self.owners().get(id).cloned()
    }

    /// Tells pods that ask for more than they were given that some room may have become free.
    pub(crate) fn wake_waiting(&self) {
        for slot in self.all().into_iter().filter(|slot| slot.current().waits_for_room) {
            slot.wake.notify_one();
        }
    }

    /// Has the worker of one pod look what there is.
    pub(crate) fn wake(&self, uid: &str) {
        if let Some(slot) = self.slot(uid) {
            slot.wake.notify_one();
        }
    }

    /// Has every worker look at the runtime.
    pub(crate) fn wake_all(&self) {
        for slot in self.all() {
            slot.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use serde_json::json;

    use super::super::testing;
    use super::*;

    #[tokio::test]
    async fn what_the_runtime_is_making_is_made_before_the_pod_ends() {
        let slot = Slot::new(Arc::new(testing::pod(json!({}))), None);
        let mut interrupted = Box::pin(slot.interrupted());
        let making = slot.making.lock().await;
        slot.change(|current| current.gone = true);
        assert!((&mut interrupted).now_or_never().is_none(), "the start goes on");
        drop(making);
        // The next start waits behind the end.
        let mut next = Box::pin(slot.making.lock());
        assert!((&mut next).now_or_never().is_none());
        assert!((&mut interrupted).now_or_never().is_some());
    }
}
