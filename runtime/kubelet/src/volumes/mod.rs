//! Pods' volumes: everything of a pod's spec that is to be seen in its containers' file systems. In flows a pod, out flow places
//! on this machine that [`crate::spec`] turns into mounts. What a volume takes from the API is waited for by watches and kept
//! fresh by them; what is on disk is made in steps that a crash cannot leave half done, and is found again from the disk alone
//! after a restart. Containers are never touched here.

mod atomic;
mod claims;
mod cleanup;
mod csi;
mod dirs;
mod empty_dir;
mod gather;
mod host_path;
pub(crate) mod local_path;
mod mounts;
mod nested;
mod ownership;
mod payload;
mod refresh;
mod set_up;
pub(crate) mod subpath;
mod tokens;
mod usage;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kiln_client::{Backoff, Client, Clock, WorkQueue};
use tokio::sync::{Notify, watch};

pub use csi::InUse;
pub use dirs::Dirs;
pub(crate) use dirs::Plugin;
pub use usage::{MeasuredBy, VolumeAt};

use crate::csi::Drivers;
use crate::resources::Amounts;
use crate::sources::Sources;

/// The first and the longest wait before a volume that failed is tried again, if nothing changes before.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(122);
/// How long a volume may take to be attached before its pod is told that it waits.
const ATTACHING: Duration = Duration::from_secs(123);

/// A pod's volumes can't be used yet, or can't be removed yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VolumeError {
    /// A volume could not be set up; it is tried again when what it needs changes, and from time to time.
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {why}")]
    SetUp {
        /// Its name in the pod, or that of its PersistentVolume.
        volume: String,
        /// What is missing or failed.
        why: String,
    },
    /// A claim cannot be used as it is; likewise tried again.
    #[error("error processing PVC {namespace}/{claim}: {why}")]
    Claim {
        /// The pod's namespace.
        namespace: String,
        /// The claim's name.
        claim: String,
        /// Why not.
        why: String,
    },
    /// A step of several could not be done; likewise tried again.
    #[error("{step} failed for volume \"{volume}\" : {why}")]
    Step {
        /// As `MountVolume.MountDevice`.
        step: &'static str,
        /// The PersistentVolume's name.
        volume: String,
        /// What the driver says, or what is missing.
        why: String,
    },
    /// The cluster has not attached a volume to this node yet.
    #[error(
        "Unable to attach or mount volumes: unmounted volumes=[{volume}], unattached volumes=[{volume}], failed to process \
         volumes=[]: context deadline exceeded"
    )]
    NotAttached {
        /// The PersistentVolume's name.
        volume: String,
    },
    /// The pod's folders could not be made.
    #[error("error making pod data directories: {0}")]
    Folders(String),
    /// Something of a pod could not be unmounted or removed; to be tried again.
    #[error("cannot remove the volumes of pod {uid}: {why}")]
    Remove {
        /// The pod's uid.
        uid: String,
        /// What failed.
        why: String,
    },
}

/// Where a volume is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file or folder of this machine.
    Path(PathBuf),
    /// A folder of this machine that the kernel lets nobody write to, and whose mount lets nobody run programs from it.
    Sealed(PathBuf),
    /// A block device, for `volumeDevices`.
    Device(PathBuf),
    /// A container image, which the runtime mounts; see `spec::ContainerContext::image_volumes`.
    Image {
        /// Its reference.
        reference: String,
        /// `Always`, `IfNotPresent` or `Never`.
        pull_policy: String,
    },
}

/// A volume that is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Where it is.
    pub place: Place,
    /// Containers cannot write to it, whatever their mounts say.
    pub read_only: bool,
    /// It may be labelled for the pod, where the kernel has SELinux.
    pub relabel: bool,
}

/// Is told of a fault of a pod's volumes.
pub type Report = Arc<dyn Fn(&Pod, &VolumeError) + Send + Sync>;

/// What the volumes must know about the node.
#[derive(Clone)]
pub struct Config {
    /// The kubelet's folders.
    pub dirs: Dirs,
    /// What pods can have of the node, which bounds folders in memory.
    pub allocatable: Arc<dyn Fn() -> Amounts + Send + Sync>,
    /// The node's labels, which the places of local volumes are checked against.
    pub labels: Arc<dyn Fn() -> BTreeMap<String, String> + Send + Sync>,
    /// The node's name.
    pub node_name: String,
    /// The Node as the API has it, which says what is attached.
    pub node: watch::Receiver<Option<Arc<Node>>>,
    /// The drivers of volumes.
    pub drivers: Drivers,
    /// Where volumes are noted that must not be detached: the Node's status shows them.
    pub in_use: InUse,
    /// The time of day.
    pub clock: Clock,
    /// Is told why a pod waits for its volumes: a warning event of reason `FailedMount`.
    pub report: Report,
}

/// The volumes of this node's pods. Cloning it is cheap and shares them.
#[derive(Clone)]
pub struct Volumes(Arc<Shared>);

struct Shared {
    client: Client,
    config: Config,
    sources: Sources,
    pods: Arc<Mutex<HashMap<String, Entry>>>,
    /// Pods whose files may be out of date, by uid.
    stale: WorkQueue<String>,
    csi: csi::Known,
}

/// What is known of a pod with volumes.
struct Entry {
    pod: Arc<Pod>,
    /// Told when something changes that the pod takes from.
    changed: Arc<Notify>,
    mounted: Option<BTreeMap<String, Mounted>>,
    /// Its files are there, and to be kept fresh.
    is_kept: bool,
    /// When tokens must be fetched anew, by the volumes' names and the tokens' paths.
    tokens: BTreeMap<(String, String), tokens::Due>,
    /// It has volumes that must be looked at from time to time.
    checks: bool,
}

impl Volumes {
    /// No volumes yet. The second part of the answer keeps volumes fresh; it must run as long as there are pods, and this must
    /// be called within tokio.
    pub fn new(client: Client, config: Config) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let pods: Arc<Mutex<HashMap<String, Entry>>> = Arc::default();
        let stale = WorkQueue::default();
        let sources = Sources::new(&client, {
            let (pods, stale) = (pods.clone(), stale.clone());
            Arc::new(move |_, _, uids| {
                let pods = lock(&pods);
                for uid in uids {
                    let Some(entry) = pods.get(uid) else { continue };
                    entry.changed.notify_one();
                    if entry.is_kept {
                        stale.add(uid.clone());
                    }
                }
            })
        });
        let volumes = Self(Arc::new(Shared { client, config, sources, pods, stale, csi: csi::Known::default() }));
        volumes.recall();
        (volumes.clone(), async move { volumes.keep_fresh().await })
    }

    /// The ConfigMaps and Secrets that pods hold from [`Volumes::mount`] to [`Volumes::unmount`].
    pub fn sources(&self) -> &Sources {
        &self.0.sources
    }

    /// The kubelet's folders.
    pub fn dirs(&self) -> &Dirs {
        &self.0.config.dirs
    }

    /// Sets up all volumes of a pod, waiting for what is missing; does nothing to those that are there. Safe to cancel, as when
    /// the pod is deleted.
    ///
    /// # Errors
    /// Only if the pod can never run here: its folders cannot be made. All else is reported, and tried again.
    pub async fn mount(&self, pod: &Arc<Pod>) -> Result<BTreeMap<String, Mounted>, VolumeError> {
        let uid = uid(pod);
        self.dirs().make_pod(uid).map_err(|error| VolumeError::Folders(error.to_string()))?;
        let changed = self.0.enter(pod);
        self.0.sources.hold(pod);
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        let mut reported = None;
        let (mut node, mut drivers) = (self.0.config.node.clone(), self.0.config.drivers.news());
        let began = tokio::time::Instant::now();
        loop {
            node.mark_unchanged();
            drivers.mark_unchanged();
            let error = match self.set_up(pod).await {
                Ok(mounted) => {
                    self.0.mounted(uid, mounted.clone());
                    self.await_tokens(uid);
                    self.await_check(uid);
                    return Ok(mounted);
                }
                Err(error) => error,
            };
            // The same fault is told again with each wait, as a reminder, but not for each change of something else.
            let wait = backoff.next_wait();
            let attaches = matches!(error, VolumeError::NotAttached { .. });
            if reported.as_ref() != Some(&error) && (!attaches || began.elapsed() >= ATTACHING) {
                (self.0.config.report)(pod, &error);
                reported = Some(error);
            }
            tokio::select! {
                () = changed.notified() => {}
                () = news(&mut drivers) => {}
                () = news(&mut node), if attaches => {}
                () = tokio::time::sleep(wait) => reported = None,
            }
        }
    }

    /// Takes over the volumes of a pod that runs already when the kubelet starts: what changed meanwhile is written, and they are
    /// kept fresh from now on. Waits for nothing.
    pub fn adopt(&self, pod: &Arc<Pod>) {
        self.0.enter(pod);
        self.0.sources.hold(pod);
        let uid = uid(pod).to_owned();
        if let Some(entry) = self.0.pods().get_mut(&uid) {
            entry.is_kept = true;
            entry.checks = true;
        }
        self.0.stale.add(uid);
    }

    /// The volumes of a pod that are set up.
    pub fn mounted(&self, uid: &str) -> Option<BTreeMap<String, Mounted>> {
        self.0.pods().get(uid)?.mounted.clone()
    }

    /// To be called when a pod's object has changed: files that show its labels or annotations are written anew.
    pub fn update(&self, pod: &Arc<Pod>) {
        let uid = uid(pod);
        let is_stale = {
            let mut pods = self.0.pods();
            let Some(entry) = pods.get_mut(uid) else { return };
            let before = std::mem::replace(&mut entry.pod, pod.clone());
            let differs = before.metadata.labels != pod.metadata.labels
                || before.metadata.annotations != pod.metadata.annotations
                || before.spec.as_ref().map(|spec| &spec.containers) != pod.spec.as_ref().map(|spec| &spec.containers);
            differs && entry.is_kept
        };
        // Ephemeral containers may have been added, and they name ConfigMaps and Secrets too.
        self.0.sources.hold(pod);
        if is_stale {
            self.0.stale.add(uid.to_owned());
        }
    }
}

impl Shared {
    fn pods(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        lock(&self.pods)
    }

    fn enter(&self, pod: &Arc<Pod>) -> Arc<Notify> {
        let mut pods = self.pods();
        let entry = pods.entry(uid(pod).to_owned()).or_insert_with(|| Entry {
            pod: pod.clone(),
            changed: Arc::default(),
            mounted: None,
            is_kept: false,
            tokens: BTreeMap::new(),
            checks: false,
        });
        entry.pod = pod.clone();
        entry.changed.clone()
    }

    fn mounted(&self, uid: &str, mounted: BTreeMap<String, Mounted>) {
        if let Some(entry) = self.pods().get_mut(uid) {
            entry.mounted = Some(mounted);
            entry.is_kept = true;
        }
    }
}

/// Waits until a value changes; for ever, if nobody is left to change it.
async fn news<T>(watched: &mut watch::Receiver<T>) {
    if watched.changed().await.is_err() {
        std::future::pending().await
    }
}

/// No code panics while it holds the lock, so a poisoned lock still guards a whole map.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// Runs what may wait for a disk where that holds up nobody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// A folder whose file system cannot be written, however it is mounted elsewhere, as [`Place::Sealed`]; another one as what it is.
pub(crate) fn sealed(path: PathBuf) -> Place {
    match mounts::at(&path) {
        Ok(Some(mount)) if mount.fs_type == "overlay" => Place::Sealed(path),
        _ => Place::Path(path),
    }
}

/// Whether something is mounted at just this path.
pub(crate) fn is_mounted(path: &std::path::Path) -> bool {
    mounts::at(path).is_ok_and(|mount| mount.is_some())
}

#[cfg(test)]
mod tests;
