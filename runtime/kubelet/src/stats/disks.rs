//! What is on the node's disks.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::stat::{major, minor};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::node::FileSystem;
use super::usage;
use super::volumes::{self, Rooms};
use crate::cgroups::{Cgroups, root_of};
use crate::cri::{FilesystemUsage, ImageFsInfoRequest, Runtime, UInt64Value};
use crate::eviction::{self, Meter};
use crate::server::PodView;
use crate::volumes::{Dirs, VolumeAt};

/// How long what pods have on disks is taken for what they have now: their folders are walked for it.
const FRESH: Duration = Duration::from_secs(60);

/// Something that is found out of others when someone asks: of the same not more often than once in [`FRESH`].
struct Cached<K, T>(Mutex<Option<(Instant, K, Arc<T>)>>);

impl<K: PartialEq, T> Cached<K, T> {
    const fn new() -> Self {
        Self(Mutex::const_new(None))
    }

    async fn get(&self, of: K, find: impl AsyncFnOnce(&K) -> T) -> Arc<T> {
        // Who asks meanwhile gets the same answer.
        let mut last = self.0.lock().await;
        if let Some((at, known, found)) = &*last
            && at.elapsed() < FRESH
            && *known == of
        {
            return found.clone();
        }
        let found = Arc::new(find(&of).await);
        *last = Some((Instant::now(), of, found.clone()));
        found
    }
}

/// What pods have on the node's disks.
pub(crate) struct Disks {
    meter: Meter,
    root: PathBuf,
    measured: Cached<(), Measured>,
    layers: Cached<(), HashMap<String, u64>>,
    rooms: Cached<Vec<VolumeAt>, Rooms>,
}

/// What pods use, by their uids.
pub(super) type Measured = HashMap<String, eviction::PodUsage>;

impl Disks {
    /// Nothing is measured yet. `root` is the kubelet's folder, `logs` that of pods' logs.
    pub(crate) fn new(runtime: Runtime, root: &Path, logs: &Path) -> Self {
        // A machine without control groups runs no pods.
        let cgroups = Cgroups::here(&root_of(root)).ok();
        let meter = Meter { runtime, cgroups, dirs: Dirs::new(root), pod_logs: logs.to_owned() };
        Self { meter, root: root.to_owned(), measured: Cached::new(), layers: Cached::new(), rooms: Cached::new() }
    }

    /// The control groups of pods, if the kernel has any.
    pub(super) fn cgroups(&self) -> Option<&Cgroups> {
        self.meter.cgroups.as_ref()
    }

    /// What pods use, their folders included.
    pub(super) async fn measured(&self, pods: &[PodView]) -> Arc<Measured> {
        let pods: Vec<_> = pods.iter().map(|view| view.pod.clone()).collect();
        self.measured.get((), async |()| self.meter.measure(&pods, true).await).await
    }

    /// Bytes that containers have in their own layers, by the runtime's ids.
    pub(super) async fn layers(&self) -> Arc<HashMap<String, u64>> {
        self.layers.get((), async |()| usage::layers(&self.meter.runtime).await).await
    }

    /// How much room is in these volumes.
    pub(super) async fn rooms(&self, volumes: Vec<VolumeAt>) -> Arc<Rooms> {
        self.rooms.get(volumes, async |volumes| volumes::measure(volumes).await).await
    }

    /// The disk of the kubelet's folder.
    pub(super) fn own(&self) -> Option<FileSystem> {
        FileSystem::of(&self.root).or_else(|| FileSystem::of(Path::new("/")))
    }

    /// The major and minor number of that disk.
    pub(super) fn numbers(&self) -> Option<(u32, u32)> {
        let device = fs::metadata(&self.root).ok()?.dev();
        Some((u32::try_from(major(device)).ok()?, u32::try_from(minor(device)).ok()?))
    }

    /// The disk of images, with what the runtime has on it of images and of containers.
    pub(super) async fn images(&self) -> Option<(FileSystem, Used, Used)> {
        let answer = self.meter.runtime.image_fs_info(&ImageFsInfoRequest::default()).await.ok()?;
        let first = |all: &[FilesystemUsage]| all.first().cloned();
        let images = first(&answer.image_filesystems)?;
        let place = images.fs_id.as_ref().map(|id| id.mountpoint.clone())?;
        let used = |usage: &FilesystemUsage| {
            let value = |v: &Option<UInt64Value>| v.map(|v| v.value).unwrap_or_default();
            (value(&usage.used_bytes), value(&usage.inodes_used))
        };
        let containers = first(&answer.container_filesystems);
        Some((
            FileSystem::of(Path::new(&place))?,
            used(&images),
            containers.as_ref().map_or_else(|| used(&images), used),
        ))
    }
}

/// Bytes and inodes.
pub(super) type Used = (u64, u64);
