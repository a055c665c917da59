//! Attaches the volumes of CSI drivers to the nodes whose Pods need them, and detaches them when none does.
//!
//! In come changes of Pods, claims, volumes, nodes and attachments; each node is looked at by itself. Out go VolumeAttachments, which the
//! driver's own attacher carries out, and the list of a node's attached volumes in its status, by which the kubelet knows that it
//! may mount. A volume that a node still says it uses is not detached, unless the node is out of service or is not ready six minutes
//! after the last Pod that needed it.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{AttachedVolume, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment, VolumeAttachmentSource, VolumeAttachmentSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kiln_client::{Change, Client, Informers, Object as _, ObjectRef, PatchKind, Store, WorkQueue, path};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::claim_of;
use crate::node_pods::{self, NODE, is_node_ready};
use crate::owned::{is_going, name, namespace};
use crate::pods::{is_terminal, node_name};
use crate::reconcile::{Failure, Next, work};
use crate::status_patch::unless_gone;
use crate::{Context, Recorder};

/// How long a node may say that it uses a volume that no Pod needs, before it is detached from one that is not ready.
const FORCE: Duration = Duration::from_secs(360);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// How the names of this controller's attachments begin; a hash follows.
const PREFIX: &str = "csi-";
/// The index of attachments by their volumes.
const VOLUME: &str = "volume";

/// Adds the controller to the mirrors; what is returned runs it until the shutdown.
pub fn build(informers: &mut Informers, context: &Context) -> impl Future<Output = ()> + use<> {
    let queue = WorkQueue::<ObjectRef>::default();
    let attacher = Arc::new(Attacher {
        client: context.client.clone(),
        recorder: context.events.recorder("attachdetach-controller"),
        queue: queue.clone(),
        nodes: informers.of::<Node>().store(),
        pods: informers.of::<Pod>().store(),
        claims: informers.of::<PersistentVolumeClaim>().store(),
        volumes: informers.of::<PersistentVolume>().store(),
        drivers: informers.of::<CSIDriver>().store(),
        attachments: informers.of::<VolumeAttachment>().store(),
        unneeded: Mutex::default(),
    });
    informers.of::<Node>().subscribe({
        let queue = queue.clone();
        move |change| {
            let Change::Applied { key, object, previous } = change else { return };
            let uses = |node: &Node| node.status.as_ref().and_then(|status| status.volumes_in_use.clone());
            let state = |node: &Node| (uses(node), is_node_ready(node), is_out_of_service(node));
            if previous.as_ref().is_none_or(|previous| state(previous) != state(object)) {
                queue.add(key.clone());
            }
        }
    });
    let pods = informers.of::<Pod>();
    node_pods::index(pods);
    pods.subscribe({
        let attacher = attacher.clone();
        move |change| attacher.on_pod(change)
    });
    informers.of::<PersistentVolumeClaim>().subscribe({
        let attacher = attacher.clone();
        move |change| {
            // Bound after its Pod got its node.
            if let Change::Applied { key, object, previous } = change {
                let bound =
                    |claim: &PersistentVolumeClaim| claim.spec.as_ref().and_then(|spec| spec.volume_name.clone());
                if bound(object).is_some() && previous.as_ref().is_none_or(|previous| bound(previous) != bound(object))
                {
                    attacher.users(key).into_iter().for_each(|node| attacher.queue.add(node));
                }
            }
        }
    });
    let attachments = informers.of::<VolumeAttachment>();
    attachments.index(NODE, |attachment| vec![attachment.spec.node_name.clone()]);
    attachments.index(VOLUME, |attachment| attachment.spec.source.persistent_volume_name.iter().cloned().collect());
    attachments.subscribe({
        let attacher = attacher.clone();
        move |change| {
            let (attachment, gone) = match change {
                Change::Applied { object, .. } => (object, false),
                Change::Deleted { object, .. } => (object, true),
                Change::Synced => return,
            };
            attacher.queue.add(ObjectRef::cluster(attachment.spec.node_name.as_str()));
            if gone {
                attacher.unneeded().remove(name(&**attachment));
            }
            // Another node may have waited for it.
            if let Some(volume) = attachment.spec.source.persistent_volume_name.as_ref().filter(|_| gone) {
                let volume = attacher.volumes.get(&ObjectRef::cluster(volume.as_str()));
                let claim = volume.and_then(|volume| volume.spec.as_ref()?.claim_ref.clone());
                let claim = claim.and_then(|claim| Some(ObjectRef::namespaced(claim.namespace?, claim.name?)));
                let nodes = claim.map(|claim| attacher.users(&claim)).unwrap_or_default();
                nodes.into_iter().for_each(|node| attacher.queue.add(node));
            }
        }
    });
    let shutdown = context.shutdown.clone();
    async move {
        work("attach-detach", &queue, &shutdown, |key| attacher.reconcile(key)).await;
    }
}

fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.into_iter().any(|taint| taint.key == OUT_OF_SERVICE)
}

/// Whether a volume that no Pod needs since a moment must stay, and for how long if that is known; `None` if it can go.
fn hold(node: &Node, unique: &str, since: Instant) -> Option<Option<Duration>> {
    let in_use = node.status.as_ref().and_then(|status| status.volumes_in_use.as_deref()).unwrap_or_default();
    if !in_use.iter().any(|used| used == unique) || is_out_of_service(node) {
        return None;
    }
    // While the node is ready, it says itself when it is done.
    if is_node_ready(node) {
        return Some(None);
    }
    let left = FORCE.saturating_sub(since.elapsed());
    (!left.is_zero()).then_some(Some(left))
}

/// A volume that a node needs.
struct Wanted {
    driver: String,
    handle: String,
    volume: String,
    /// More than one node may have it.
    shared: bool,
    pod: Arc<Pod>,
}

impl Wanted {
    /// As the kubelet calls it.
    fn unique_name(&self) -> String {
        format!("kubernetes.io/csi/{}^{}", self.driver, self.handle)
    }
}

/// The name of the attachment of a volume to a node.
fn attachment_name(driver: &str, handle: &str, node: &str) -> String {
    let hash = Sha256::digest(format!("{handle}{driver}{node}"));
    hash.iter().fold(PREFIX.to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

fn is_attached(attachment: &VolumeAttachment) -> bool {
    attachment.status.as_ref().is_some_and(|status| status.attached)
}

struct Attacher {
    client: Client,
    recorder: Recorder,
    queue: WorkQueue<ObjectRef>,
    nodes: Store<Node>,
    pods: Store<Pod>,
    claims: Store<PersistentVolumeClaim>,
    volumes: Store<PersistentVolume>,
    drivers: Store<CSIDriver>,
    attachments: Store<VolumeAttachment>,
    /// Since when no Pod needs an attachment that is held, by its name.
    unneeded: Mutex<HashMap<String, Instant>>,
}

impl Attacher {
    fn unneeded(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.unneeded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on_pod(&self, change: &Change<Pod>) {
        let pod = match change {
            Change::Applied { object, previous, .. } => {
                let state = |pod: &Pod| (node_name(pod).to_owned(), is_terminal(pod));
                if previous.as_ref().is_some_and(|previous| state(previous) == state(object)) {
                    return;
                }
                object
            }
            Change::Deleted { object, .. } => object,
            Change::Synced => return,
        };
        let mut volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        if !node_name(pod).is_empty() && volumes.any(|volume| claim_of(pod, volume).is_some()) {
            self.queue.add(ObjectRef::cluster(node_name(pod)));
        }
    }

    /// The nodes with Pods that use a claim.
    fn users(&self, claim: &ObjectRef) -> Vec<ObjectRef> {
        let uses = |pod: &Pod| {
            let mut volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
            volumes.any(|volume| claim_of(pod, volume).as_deref() == Some(claim.name.as_str()))
        };
        let pods = self.pods.in_namespace(&claim.namespace);
        let pods = pods.iter().filter(|pod| !node_name(pod).is_empty() && uses(pod));
        pods.map(|pod| ObjectRef::cluster(node_name(pod))).collect()
    }

    /// What the Pods of a node need, by the names of the attachments.
    fn wanted(&self, node: &str) -> BTreeMap<String, Wanted> {
        let mut wanted = BTreeMap::new();
        for pod in self.pods.by_index(NODE, node).into_iter().filter(|pod| !is_terminal(pod)) {
            for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
                let found = claim_of(&pod, volume).and_then(|claim| self.behind(&pod, &claim));
                if let Some(found) = found {
                    wanted.entry(attachment_name(&found.driver, &found.handle, node)).or_insert(found);
                }
            }
        }
        wanted
    }

    /// The volume behind a claim, if it is one to be attached.
    fn behind(&self, pod: &Arc<Pod>, claim: &str) -> Option<Wanted> {
        let claim = self.claims.get(&ObjectRef::namespaced(namespace(&**pod), claim))?;
        let volume = claim.spec.as_ref()?.volume_name.clone().filter(|name| !name.is_empty())?;
        let found = self.volumes.get(&ObjectRef::cluster(volume.as_str()))?;
        let spec = found.spec.as_ref()?;
        let csi = spec.csi.as_ref()?;
        let claimant = spec.claim_ref.as_ref()?;
        let driver = self.drivers.get(&ObjectRef::cluster(csi.driver.as_str()));
        let attaches = driver.is_none_or(|driver| driver.spec.attach_required != Some(false));
        let modes = spec.access_modes.as_deref().unwrap_or_default();
        (attaches && claimant.uid == claim.metadata.uid).then(|| Wanted {
            driver: csi.driver.clone(),
            handle: csi.volume_handle.clone(),
            volume,
            shared: modes.iter().any(|mode| mode == "ReadWriteMany" || mode == "ReadOnlyMany"),
            pod: pod.clone(),
        })
    }

    async fn reconcile(&self, key: ObjectRef) -> Result<Next, Failure> {
        tokio::join!(self.pods.synced(), self.claims.synced(), self.volumes.synced(), self.nodes.synced());
        tokio::join!(self.drivers.synced(), self.attachments.synced());
        let node = self.nodes.get(&key);
        let wanted = if node.is_some() { self.wanted(&key.name) } else { BTreeMap::new() };
        let mut existing = self.attachments.by_index(NODE, &key.name);
        existing.retain(|attachment| self.is_ours(attachment));
        let attached = existing.iter().filter(|attachment| is_attached(attachment) && !is_going(&***attachment));
        let attached: Vec<&Wanted> = attached.filter_map(|attachment| wanted.get(name(&**attachment))).collect();
        if let Some(node) = &node {
            self.tell_attached(node, &attached);
        }
        let mut reported: Vec<String> = attached.into_iter().map(Wanted::unique_name).collect();
        let (mut wait, mut doomed) = (None, Vec::new());
        for attachment in existing.iter().filter(|attachment| !is_going(&***attachment)) {
            let name_of = name(&**attachment);
            if wanted.contains_key(name_of) {
                self.unneeded().remove(name_of);
                continue;
            }
            let since = *self.unneeded().entry(name_of.to_owned()).or_insert_with(Instant::now);
            let Some(unique) = self.unique_name(attachment) else { continue };
            match node.as_deref().and_then(|node| hold(node, &unique, since)) {
                None => doomed.push(attachment),
                Some(left) => {
                    wait = wait.into_iter().chain(left).min();
                    reported.extend(Some(unique).filter(|_| is_attached(attachment)));
                }
            }
        }
        // The kubelet is told first, so that it mounts nothing that is about to go.
        if let Some(node) = &node {
            self.report(node, reported).await?;
        }
        for attachment in doomed {
            unless_gone(self.client.delete(&path::<VolumeAttachment>("", name(&**attachment)), &Value::Null).await)?;
        }
        for (name_of, wanted) in &wanted {
            if !existing.iter().any(|attachment| name(&**attachment) == name_of) {
                self.attach(&key.name, name_of, wanted).await?;
            }
        }
        Ok(wait.map_or(Next::Settled, Next::After))
    }

    /// Whether this controller made it, by its name: others may attach volumes too, and detach them.
    fn is_ours(&self, attachment: &VolumeAttachment) -> bool {
        match self.handle(attachment) {
            Some(handle) => {
                name(attachment) == attachment_name(&attachment.spec.attacher, &handle, &attachment.spec.node_name)
            }
            // Its volume is gone already.
            None => name(attachment).strip_prefix(PREFIX).is_some_and(|hash| {
                hash.len() == 2 * <Sha256 as Digest>::output_size() && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
            }),
        }
    }

    /// How the driver calls the volume, while that is there.
    fn handle(&self, attachment: &VolumeAttachment) -> Option<String> {
        let volume = attachment.spec.source.persistent_volume_name.as_ref()?;
        let volume = self.volumes.get(&ObjectRef::cluster(volume.as_str()))?;
        volume.spec.as_ref()?.csi.as_ref().map(|csi| csi.volume_handle.clone())
    }

    /// Tells the Pods of volumes that their node does not know of yet.
    fn tell_attached(&self, node: &Node, attached: &[&Wanted]) {
        let known = node.status.as_ref().and_then(|status| status.volumes_attached.as_deref()).unwrap_or_default();
        for wanted in attached.iter().filter(|wanted| known.iter().all(|known| known.name != wanted.unique_name())) {
            let message = format!("AttachVolume.Attach succeeded for volume {:?} ", wanted.volume);
            self.recorder.normal(&*wanted.pod, "SuccessfulAttachVolume", message);
        }
    }

    fn unique_name(&self, attachment: &VolumeAttachment) -> Option<String> {
        attachment.spec.source.persistent_volume_name.as_ref()?;
        let handle = self.handle(attachment).unwrap_or_default();
        Some(format!("kubernetes.io/csi/{}^{handle}", attachment.spec.attacher))
    }

    /// Writes which volumes a node has.
    async fn report(&self, node: &Node, mut names: Vec<String>) -> Result<(), Failure> {
        names.sort();
        names.dedup();
        let listed: Vec<AttachedVolume> =
            names.into_iter().map(|name| AttachedVolume { name, device_path: String::new() }).collect();
        let known = node.status.as_ref().and_then(|status| status.volumes_attached.clone()).unwrap_or_default();
        if known == listed {
            return Ok(());
        }
        let listed = (!listed.is_empty()).then_some(listed);
        let patch = json!({"metadata": {"uid": node.uid()}, "status": {"volumesAttached": listed}});
        let path = format!("{}/status", path::<Node>("", name(node)));
        unless_gone(self.client.patch::<IgnoredAny>(&path, PatchKind::Merge, &patch).await)
    }

    async fn attach(&self, node: &str, attachment: &str, wanted: &Wanted) -> Result<(), Failure> {
        let others = self.attachments.by_index(VOLUME, &wanted.volume);
        if !wanted.shared && others.iter().any(|other| other.spec.node_name != node) {
            let message = format!(
                "Multi-Attach error for volume {:?} Volume is already exclusively attached to one node and can't be attached to another",
                wanted.volume
            );
            self.recorder.warning(&*wanted.pod, "FailedAttachVolume", message);
            return Ok(());
        }
        let attachment = VolumeAttachment {
            metadata: ObjectMeta { name: Some(attachment.to_owned()), ..ObjectMeta::default() },
            spec: VolumeAttachmentSpec {
                attacher: wanted.driver.clone(),
                node_name: node.to_owned(),
                source: VolumeAttachmentSource {
                    persistent_volume_name: Some(wanted.volume.clone()),
                    ..VolumeAttachmentSource::default()
                },
            },
            status: None,
        };
        match self.client.create::<IgnoredAny>(&path::<VolumeAttachment>("", ""), &attachment).await {
            Err(error) if !error.is_already_exists() => Err(error.into()),
            _ => Ok(()),
        }
    }
}
