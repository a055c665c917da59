//! What pods use.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Volume};

use super::uid;
use crate::cgroups::Cgroups;
use crate::cri::{ContainerStats, ListContainerStatsRequest, Runtime};
use crate::spec::log_directory;
use crate::volumes::Dirs;

/// What of a disk is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Bytes.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

impl DiskUsage {
    pub(super) fn plus(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(other.bytes), inodes: self.inodes.saturating_add(other.inodes) }
    }
}

/// What a container uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContainerUsage {
    /// Bytes of memory that it cannot do without.
    pub memory: Option<u64>,
    /// What it has written outside of volumes.
    pub root: Option<DiskUsage>,
    /// Its logs.
    pub logs: Option<DiskUsage>,
}

/// What a pod uses; of the disk only what was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodUsage {
    /// Bytes of memory that it cannot do without.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub processes: u64,
    /// By container.
    pub containers: BTreeMap<String, ContainerUsage>,
    /// By volume.
    pub volumes: BTreeMap<String, DiskUsage>,
}

impl PodUsage {
    /// All that it has on the node's disks.
    pub(crate) fn disk(&self) -> DiskUsage {
        let containers = self.containers.values().flat_map(|container| [container.root, container.logs]).flatten();
        containers.chain(self.volumes.values().copied()).fold(DiskUsage::default(), DiskUsage::plus)
    }
}

/// Measures pods.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    pub(crate) runtime: Runtime,
    pub(crate) cgroups: Option<Cgroups>,
    pub(crate) dirs: Dirs,
    pub(crate) pod_logs: PathBuf,
}

impl Meter {
    /// What these pods use. `disk` walks their folders.
    pub(crate) async fn measure(&self, pods: &[Arc<Pod>], disk: bool) -> HashMap<String, PodUsage> {
        // The runtime of a node that starts may not answer yet.
        if pods.is_empty() {
            return HashMap::new();
        }
        let stats = self.runtime.list_container_stats(&ListContainerStatsRequest::default()).await;
        let stats = stats.map(|answer| answer.stats).unwrap_or_else(|error| {
            tracing::warn!(%error, "the runtime does not tell what containers use");
            Vec::new()
        });
        let (meter, pods) = (self.clone(), pods.to_vec());
        let measured = tokio::task::spawn_blocking(move || meter.measure_now(&pods, &stats, disk)).await;
        measured.unwrap_or_default()
    }

    fn measure_now(&self, pods: &[Arc<Pod>], stats: &[ContainerStats], disk: bool) -> HashMap<String, PodUsage> {
        let mut found: HashMap<String, PodUsage> = HashMap::new();
        for pod in pods {
            let usage = found.entry(uid(pod).to_owned()).or_default();
            if let Some(cgroups) = &self.cgroups {
                let group = crate::cgroups::pod_path(cgroups.root(), pod);
                usage.memory = cgroups.working_set(&group).ok();
                usage.processes = cgroups.processes(&group);
            }
            if disk {
                for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
                    if let Some(path) = local_folder(&self.dirs, uid(pod), volume) {
                        usage.volumes.insert(volume.name.clone(), size_of(&path));
                    }
                }
            }
        }
        let logs: HashMap<&str, PathBuf> =
            pods.iter().map(|pod| (uid(pod), log_directory(&self.pod_logs, pod))).collect();
        for container in stats {
            let labels = container.attributes.as_ref().map(|attributes| &attributes.labels);
            let label = |name: &str| labels.and_then(|labels| labels.get(name)).map_or("", String::as_str);
            let (owner, name) = (label("io.kubernetes.pod.uid"), label("io.kubernetes.container.name"));
            let Some(usage) = found.get_mut(owner) else { continue };
            let memory = container.memory.as_ref().and_then(|memory| memory.working_set_bytes);
            let root = container.writable_layer.as_ref().map(|layer| DiskUsage {
                bytes: layer.used_bytes.unwrap_or_default().value,
                inodes: layer.inodes_used.unwrap_or_default().value,
            });
            let logs = logs.get(owner).filter(|_| disk).map(|folder| size_of(&folder.join(name)));
            let used = ContainerUsage { memory: memory.map(|memory| memory.value), root, logs };
            usage.containers.insert(name.to_owned(), used);
        }
        found
    }
}

/// The folder of a volume that takes room on the node's own disk.
fn local_folder(dirs: &Dirs, uid: &str, volume: &Volume) -> Option<PathBuf> {
    use crate::volumes::Plugin;
    let on_disk =
        volume.empty_dir.as_ref().is_some_and(|source| source.medium.as_deref().unwrap_or_default().is_empty());
    if on_disk {
        Some(dirs.volume(uid, Plugin::EmptyDir, &volume.name))
    } else if volume.config_map.is_some() {
        Some(dirs.volume(uid, Plugin::ConfigMap, &volume.name))
    } else {
        None
    }
}

/// What a folder takes: each file once, and nothing of what is mounted in it.
fn size_of(folder: &Path) -> DiskUsage {
    let Ok(root) = fs::symlink_metadata(folder) else { return DiskUsage::default() };
    let mut seen = HashSet::new();
    let mut usage = DiskUsage { bytes: root.blocks() * 512, inodes: 1 };
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.dev() != root.dev() || (meta.nlink() > 1 && !meta.is_dir() && !seen.insert(meta.ino())) {
                continue;
            }
            usage = usage.plus(DiskUsage { bytes: meta.blocks() * 512, inodes: 1 });
            if meta.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    usage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_measured_with_each_file_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let empty = size_of(dir.path());
        fs::create_dir(dir.path().join("d")).expect("a folder");
        fs::write(dir.path().join("d/f"), vec![1; 100_000]).expect("a file");
        fs::hard_link(dir.path().join("d/f"), dir.path().join("g")).expect("a link");
        let found = size_of(dir.path());
        assert_eq!(found.inodes, empty.inodes + 2);
        let bytes = found.bytes - empty.bytes;
        assert!((100_000..150_000).contains(&bytes), "{bytes}");
        assert_eq!(size_of(&dir.path().join("none")), DiskUsage::default());
    }
}
