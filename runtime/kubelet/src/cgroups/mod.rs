//! The tree of control groups that pods run in: one for all pods, below it one for each class of service but the best, below
//! those one for each pod, in which the runtime makes one for each container. In flow pods and amounts, out flow folders and
//! numbers of the kernel's, of version 1 or 2. What is found in the kernel is what there is: nothing of it is remembered.

mod figures;
mod hierarchy;
mod limits;
mod remove;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;

pub use figures::{DiskIo, Figures, Stalled};
use hierarchy::Hierarchy;
pub use hierarchy::Version;
pub use limits::{Limits, PERIOD, pod_limits, quota, shares};

use crate::metrics::Metrics;
use crate::resources::{Amounts, CPU, MEMORY, Overhead, Qos, pod_requests, qos};

/// The group of all pods.
pub const PODS: &str = "/kubepods";
const POD: &str = "pod";
/// Where the kubelet's folder is if a machine is one node.
const USUAL: [&str; 2] = ["/var/lib/kiln/kubelet", "/var/lib/kubelet"];

/// The group of all pods of the kubelet with this folder. Several nodes on one machine must not take each other's pods for left
/// over ones, so all but the usual one have a group of their own.
pub fn root_of(folder: &Path) -> String {
    if USUAL.iter().any(|usual| folder == Path::new(usual)) {
        return PODS.to_owned();
    }
    let bytes = folder.as_os_str().as_encoded_bytes();
    let hash = bytes.iter().fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    format!("{PODS}-{hash:08x}")
}

/// Something about a group could not be done.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The kernel has no hierarchy mounted that pods could be put into.
    #[error("no cgroups are mounted, or not those of cpu and memory")]
    Missing,
    /// A file or folder of a group could not be made, written, read or removed.
    #[error("cgroup {}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        why: io::Error,
    },
}

/// The tree. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Cgroups {
    hierarchy: Hierarchy,
    root: String,
    metrics: Metrics,
}

impl Cgroups {
    /// The tree of this machine, below a group like [`PODS`].
    ///
    /// # Errors
    /// If the kernel has none.
    pub fn here(root: &str) -> Result<Self, CgroupError> {
        Ok(Self { hierarchy: Hierarchy::find()?, root: root.to_owned(), metrics: Metrics::default() })
    }

    /// The same tree, with what is done to pods' groups counted.
    pub fn counted(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// The kernel's version of control groups.
    pub fn version(&self) -> Version {
        self.hierarchy.version()
    }

    /// The group of all pods, as the runtime is told of it.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Whether groups count swap, so that it can be kept from containers. Asks the group of all pods, which must be there.
    pub fn counts_swap(&self) -> bool {
        self.hierarchy.counts_swap(&self.root)
    }

    /// Makes the groups of all pods and of the classes. `available` is what pods have together: the machine without what is
    /// reserved for the system.
    ///
    /// # Errors
    /// If one can't be made or limited.
    pub fn start(&self, available: &Amounts) -> Result<(), CgroupError> {
        let of = |name: &str| available.get(name).copied();
        let all = Limits {
            shares: of(CPU).map(|cpu| shares(cpu.milli_value())),
            memory: of(MEMORY).map(kiln_apimachinery::quantity::Quantity::value),
            huge_pages: None,
            ..Limits::default()
        };
        self.hierarchy.make(&self.root)?;
        self.hierarchy.set(&self.root, &all)?;
        for class in [Qos::Burstable, Qos::BestEffort] {
            let path = class_path(&self.root, class);
            self.hierarchy.make(&path)?;
            self.hierarchy.set(&path, &Limits { shares: Some(limits::LEAST_SHARES), ..Limits::default() })?;
        }
        Ok(())
    }

    /// Shares processor time among the classes by what their pods request. To be called when a pod comes or goes.
    ///
    /// # Errors
    /// If the kernel does not take it.
    pub fn share<'a>(&self, pods: impl Iterator<Item = &'a Pod>) -> Result<(), CgroupError> {
        let burstable = pods.filter(|pod| qos(pod) == Qos::Burstable);
        let requests = burstable.filter_map(|pod| pod_requests(pod, Overhead::With).get(CPU).copied());
        let sum: i64 = requests.map(|cpu| cpu.milli_value()).sum();
        let path = class_path(&self.root, Qos::Burstable);
        let began = Instant::now();
        let set = self.hierarchy.set(&path, &Limits { shares: Some(shares(sum)), ..Limits::default() });
        self.metrics.group("update", began);
        set
    }

    /// Makes a pod's group, or sets its limits anew if it is there. The pod must have the resources that the node has allocated
    /// to it. `pids` is how many processes and threads it may have, if that is limited.
    ///
    /// # Errors
    /// If it can't be made or limited.
    pub fn make_pod(&self, pod: &Pod, cpu_quota: bool, pids: Option<i64>) -> Result<(), CgroupError> {
        let (path, began) = (pod_path(&self.root, pod), Instant::now());
        let limits = Limits { pids, ..pod_limits(pod, cpu_quota) };
        let made = self.hierarchy.make(&path).and_then(|()| self.hierarchy.set(&path, &limits));
        self.metrics.group("create", began);
        made
    }

    /// Sets some of a pod's limits, leaving the others as they are.
    ///
    /// # Errors
    /// If the kernel does not take them: memory below what is used, say.
    pub fn set_pod(&self, pod: &Pod, limits: &Limits) -> Result<(), CgroupError> {
        let began = Instant::now();
        let set = self.hierarchy.set(&pod_path(&self.root, pod), limits);
        self.metrics.group("update", began);
        set
    }

    /// The limits that a pod has now.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn pod_limits(&self, pod: &Pod) -> Result<Limits, CgroupError> {
        self.hierarchy.get(&pod_path(&self.root, pod))
    }

    /// Bytes of memory that a group's processes cannot do without: all that is charged to it, less the files that nobody has used
    /// lately.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn working_set(&self, group: &str) -> Result<u64, CgroupError> {
        self.hierarchy.working_set(group)
    }

    /// All that the kernel tells of a group.
    pub fn figures(&self, group: &str) -> Figures {
        self.hierarchy.figures(group)
    }

    /// Whether there is such a group.
    pub fn has(&self, group: &str) -> bool {
        self.hierarchy.folder(group, "cpu").is_some_and(|folder| folder.is_dir())
    }

    /// The processes right in a group.
    pub fn pids(&self, group: &str) -> Vec<u32> {
        self.hierarchy.pids(group)
    }

    /// How many processes and threads a group has.
    pub fn processes(&self, group: &str) -> u64 {
        self.hierarchy.processes(group)
    }

    /// The groups of the classes, that of all pods first: the best class is right in it.
    pub fn classes(&self) -> [String; 3] {
        [Qos::Guaranteed, Qos::Burstable, Qos::BestEffort].map(|class| class_path(&self.root, class))
    }

    /// All groups of pods that there are, by the pods' uids.
    pub fn pods(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for class in self.classes() {
            for name in self.hierarchy.children(&class) {
                if let Some(uid) = name.strip_prefix(POD).filter(|uid| !uid.is_empty()) {
                    found.insert(uid.to_owned(), format!("{class}/{name}"));
                }
            }
        }
        found
    }

    /// Kills what runs in a pod's group and removes it, with those of its containers.
    ///
    /// # Errors
    /// If something of it is left; to be called again.
    pub async fn remove_pod(&self, uid: &str) -> Result<(), CgroupError> {
        let Some(path) = self.pods().remove(uid) else { return Ok(()) };
        let began = Instant::now();
        let removed = self.hierarchy.remove(&path).await;
        self.metrics.group("destroy", began);
        removed
    }

    /// Removes the whole tree: for tests and for an uninstalled node.
    ///
    /// # Errors
    /// If something of it is left.
    pub async fn remove(&self) -> Result<(), CgroupError> {
        self.hierarchy.remove(&self.root).await
    }
}

/// A pod's group below that of all pods, as the runtime is told of it.
pub fn pod_path(root: &str, pod: &Pod) -> String {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    format!("{}/{POD}{uid}", class_path(root, qos(pod)))
}

/// The best class has no group of its own: its pods are beside those of the others.
fn class_path(root: &str, class: Qos) -> String {
    match class {
        Qos::Guaranteed => root.to_owned(),
        Qos::Burstable => format!("{root}/burstable"),
        Qos::BestEffort => format!("{root}/besteffort"),
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> CgroupError + '_ {
    move |why| CgroupError::File { path: path.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use kiln_apimachinery::quantity::Quantity;
    use serde_json::{Value, json};

    use super::*;

    fn pod(uid: &str, requests: Value, limits: Value) -> Pod {
        let container = json!({"name": "c", "resources": {"requests": requests, "limits": limits}});
        serde_json::from_value(json!({"metadata": {"uid": uid}, "spec": {"containers": [container]}})).expect("a pod")
    }

    #[test]
    fn each_class_has_its_place() {
        let both = json!({"cpu": "1", "memory": "1Gi"});
        assert_eq!(pod_path(PODS, &pod("a", both.clone(), both.clone())), "/kubepods/poda");
        assert_eq!(pod_path(PODS, &pod("b", both, json!({}))), "/kubepods/burstable/podb");
        assert_eq!(pod_path(PODS, &pod("c", json!({}), json!({}))), "/kubepods/besteffort/podc");
    }

    #[tokio::test]
    async fn groups_are_made_limited_found_and_removed_in_this_kernel() {
        let root = format!("/kiln-test-{}", std::process::id());
        let cgroups = Cgroups::here(&root).expect("cgroups");
        let available = [("cpu", "2"), ("memory", "1Gi")];
        let available = available.map(|(name, text)| (name.to_owned(), Quantity::parse(text).expect("an amount")));
        cgroups.start(&available.into()).expect("started");
        let small = pod("small", json!({"cpu": "100m"}), json!({"cpu": "500m", "memory": "64Mi"}));
        cgroups.make_pod(&small, true, None).expect("made");
        cgroups.make_pod(&small, true, None).expect("it is there, which is fine");
        let found = cgroups.pod_limits(&small).expect("read");
        assert_eq!((found.quota, found.memory), (Some(50_000), Some(64 << 20)));
        assert!(found.shares.is_some_and(|shares| (80..=102).contains(&shares)), "{found:?}");
        assert_eq!(cgroups.pods().into_keys().collect::<Vec<_>>(), ["small"]);
        assert_eq!(cgroups.working_set(&pod_path(&root, &small)).expect("read"), 0);
        cgroups.set_pod(&small, &Limits { memory: Some(32 << 20), ..Limits::default() }).expect("set");
        assert_eq!(cgroups.pod_limits(&small).expect("read").memory, Some(32 << 20));
        cgroups.share([&small].into_iter()).expect("shared");

        let mut sleeper = std::process::Command::new("sleep").arg("1000").spawn().expect("a process");
        cgroups.hierarchy.join(&pod_path(&root, &small), sleeper.id()).expect("joined");
        // Whoever waits for the process may do so only after it was killed.
        let waiting = tokio::task::spawn_blocking(move || sleeper.wait());
        cgroups.remove_pod("small").await.expect("removed");
        assert!(!waiting.await.expect("no panic").expect("it ended").success());
        assert!(cgroups.pods().is_empty());
        cgroups.remove_pod("small").await.expect("it is gone, which is fine");
        cgroups.remove().await.expect("removed");
    }
}
