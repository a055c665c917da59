//! From the API and from files to workers: one for each pod, told of every change.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node as ApiNode, Pod};
use kiln_client::{Change, Client, Clock, Informer, ListParams, collection};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::events::Recorder;
use super::machine_end::MachineEnd;
use super::slot::{Pods, Slot};
use super::{Config, MIRROR, annotation, orphans, rotate, statics, uid, worker};
use crate::cri::Runtime;
use crate::health::Health;
use crate::images::Images;
use crate::machine::Pressure;
use crate::prepare::Preparer;

/// What all workers share.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) config: Config,
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    pub(crate) runtime: Runtime,
    pub(crate) health: watch::Receiver<Health>,
    pub(crate) recorder: Recorder,
    pub(crate) images: Images,
    pub(crate) preparer: Preparer,
    pub(crate) pods: Pods,
    /// The Node as the API has it, once it is known.
    pub(crate) object: watch::Receiver<Option<Arc<ApiNode>>>,
    /// What the machine is short of.
    pub(crate) pressure: watch::Receiver<Option<Pressure>>,
    /// Pods are judged one after the other.
    pub(crate) admission: tokio::sync::Mutex<()>,
    /// Whether the machine is about to end.
    pub(crate) end: MachineEnd,
    /// When the kubelet started.
    pub(crate) started: jiff::Timestamp,
}

/// What changed about the pods that are wanted.
pub(super) enum News {
    /// The API shows a pod, or shows it changed.
    Applied(Arc<Pod>),
    /// The API does not show it any more.
    Deleted(Arc<Pod>),
    /// The API has shown all that it has.
    Synced,
    /// The manifests are these now.
    Statics(Vec<Arc<Pod>>),
}

/// Runs the pods of this node until the shutdown; they go on running after it.
pub(crate) async fn run(node: Arc<Node>, shutdown: CancellationToken) {
    let (sender, news) = mpsc::unbounded_channel();
    let params = ListParams { fields: format!("spec.nodeName={}", node.name), ..ListParams::default() };
    let informer = Informer::<Pod>::new(node.client.clone(), collection::<Pod>(), params);
    let told = sender.clone();
    let mirror = informer.run(shutdown.clone(), move |change| {
        // The receiver lives as long as this function.
        _ = told.send(match change {
            Change::Applied { object, .. } => News::Applied(object.clone()),
            Change::Deleted { object, .. } => News::Deleted(object.clone()),
            Change::Synced => News::Synced,
        });
    });
    let manifests = statics::watch(node.config.manifests.clone(), node.name.clone(), sender);
    let rotating = rotate::run(node.clone());
    let manager = Manager { node, workers: TaskTracker::new(), mirrors: HashMap::new(), statics: None, synced: false };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = mirror => {}
        () = manifests => {}
        () = rotating => {}
        () = manager.follow(news, &shutdown) => {}
    }
}

struct Manager {
    node: Arc<Node>,
    workers: TaskTracker,
    /// Mirror pods by the uids of their static pods.
    mirrors: HashMap<String, Arc<Pod>>,
    statics: Option<HashSet<String>>,
    synced: bool,
}

impl Manager {
    async fn follow(mut self, mut news: mpsc::UnboundedReceiver<News>, shutdown: &CancellationToken) {
        while let Some(news) = news.recv().await {
            match news {
                News::Applied(pod) => self.applied(pod, shutdown),
                News::Deleted(pod) => self.deleted(&pod),
                News::Synced => {
                    self.synced = true;
                    self.clean(shutdown);
                }
                News::Statics(pods) => self.replaced(pods, shutdown),
            }
        }
    }

    fn applied(&mut self, pod: Arc<Pod>, shutdown: &CancellationToken) {
        if let Some(static_uid) = annotation(&pod, MIRROR) {
            let static_uid = static_uid.to_owned();
            if let Some(slot) = self.node.pods.slot(&static_uid) {
                slot.change(|current| current.api = Some(pod.clone()));
            }
            self.mirrors.insert(static_uid, pod.clone());
            if self.statics.is_some() {
                statics::mend(&self.node, &pod, &self.workers);
            }
            return;
        }
        match self.node.pods.slot(uid(&pod)) {
            Some(slot) => {
                slot.change(|current| {
                    // It runs with what it was given, whatever it asks for now.
                    current.pod = self.node.preparer.allocations().apply(&pod);
                    current.api = Some(pod.clone());
                });
                self.node.preparer.update(&pod);
            }
            None => self.begin(&pod, Some(pod.clone()), shutdown),
        }
    }

    fn deleted(&mut self, pod: &Arc<Pod>) {
        if let Some(static_uid) = annotation(pod, MIRROR) {
            self.mirrors.remove(static_uid);
            if let Some(slot) = self.node.pods.slot(static_uid) {
                slot.change(|current| current.api = None);
                statics::mirror(&self.node, &slot, &self.workers);
            }
            return;
        }
        if let Some(slot) = self.node.pods.slot(uid(pod)) {
            slot.change(|current| {
                // The last state tells how long its containers have to end.
                current.pod = pod.clone();
                current.gone = true;
            });
        }
    }

    fn replaced(&mut self, pods: Vec<Arc<Pod>>, shutdown: &CancellationToken) {
        let wanted: HashSet<String> = pods.iter().map(|pod| uid(pod).to_owned()).collect();
        for slot in self.node.pods.all() {
            if super::is_static(&slot.pod()) && !wanted.contains(&slot.uid) {
                slot.change(|current| current.gone = true);
                if let Some(mirror) = self.mirrors.remove(&slot.uid) {
                    statics::remove_mirror(&self.node, mirror, &self.workers);
                }
            }
        }
        for pod in pods {
            if self.node.pods.slot(uid(&pod)).is_some() {
                continue;
            }
            let mirror = self.mirrors.get(uid(&pod)).cloned();
            self.begin(&pod, mirror.clone(), shutdown);
            if mirror.is_none()
                && let Some(slot) = self.node.pods.slot(uid(&pod))
            {
                statics::mirror(&self.node, &slot, &self.workers);
            }
        }
        let is_first = self.statics.replace(wanted).is_none();
        if is_first {
            self.clean(shutdown);
        }
    }

    fn begin(&self, pod: &Arc<Pod>, api: Option<Arc<Pod>>, shutdown: &CancellationToken) {
        let slot = Arc::new(Slot::new(self.node.preparer.allocations().apply(pod), api));
        self.node.pods.insert(slot.clone());
        let (node, shutdown) = (self.node.clone(), shutdown.clone());
        self.workers.spawn(async move {
            tokio::select! {
                // What it did is found again after the next start.
                () = shutdown.cancelled() => {}
                () = worker::run(node, slot) => {}
            }
        });
    }

    /// Once it is known which pods are wanted: ends what the runtime has of others.
    fn clean(&self, shutdown: &CancellationToken) {
        let Some(statics) = self.statics.as_ref().filter(|_| self.synced) else { return };
        let (node, shutdown) = (self.node.clone(), shutdown.clone());
        // A mirror without its static pod is removed as it is seen.
        for (uid, mirror) in &self.mirrors {
            if !statics.contains(uid) {
                statics::remove_mirror(&self.node, mirror.clone(), &self.workers);
            }
        }
        self.workers.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = orphans::end(&node) => {}
            }
        });
    }
}

/// The uids of all pods that have a worker.
pub(super) fn known(node: &Node) -> HashSet<String> {
    node.pods.all().into_iter().map(|slot| slot.uid.clone()).collect()
}
