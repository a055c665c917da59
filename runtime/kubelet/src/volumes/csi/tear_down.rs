//! Taking volumes back, by what the disk says.

use std::fs;
use std::io;
use std::path::Path;

use super::super::Volumes;
use super::driver::{self, Driver};
use super::places::{self, Data};
use super::unique_name;
use crate::csi::messages::Capability;

impl Volumes {
    /// Takes over what an earlier kubelet left: volumes that pods have stay in use.
    pub(in super::super) fn recall(&self) {
        let found = match places::all(self.dirs()) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "volumes of CSI drivers are not known");
                return;
            }
        };
        let attached = found.into_values().flatten().map(|(_, data)| data).filter(|data| !data.attachment.is_empty());
        let names: Vec<String> = attached.map(|data| unique_name(&data.driver_name, &data.volume_handle)).collect();
        if !names.is_empty() {
            self.0.config.in_use.send_modify(|in_use| in_use.extend(names));
        }
    }

    /// Takes back a pod's volumes of drivers.
    pub(in super::super) async fn tear_down_csi(&self, uid: &str) -> Result<(), String> {
        let found = places::of(self.dirs(), uid).map_err(|error| error.to_string())?;
        for (is_device, data) in found {
            let unique = unique_name(&data.driver_name, &data.volume_handle);
            let volume = self.0.csi.volume(&unique);
            let mut staged = volume.lock().await;
            self.unpublish(uid, is_device, &data).await?;
            if data.volume_lifecycle_mode != "Ephemeral" && !self.has_users(&data).map_err(|e| e.to_string())? {
                self.unstage(is_device, &data).await?;
                *staged = false;
                self.0.config.in_use.send_if_modified(|names| names.remove(&unique));
            }
        }
        Ok(())
    }

    async fn unpublish(&self, uid: &str, is_device: bool, data: &Data) -> Result<(), String> {
        let dirs = self.dirs();
        let (folder, target) = if is_device {
            (places::device_of_pod(dirs, uid, &data.volume), places::device(dirs, uid, &data.volume))
        } else {
            let folder = places::of_pod(dirs, uid, &data.volume);
            let target = folder.join("mount");
            (folder, target)
        };
        let socket = self.0.config.drivers.socket(&data.driver_name);
        let socket =
            socket.map_err(|why| format!("kubernetes.io/csi: Unmounter.TearDownAt failed to get CSI client: {why}"))?;
        let done = driver::unpublish(&socket, &data.volume_handle, &target).await;
        done.map_err(|error| format!("kubernetes.io/csi: Unmounter.TearDownAt failed: {error}"))?;
        let cleaned = places::forget(&folder, &target);
        cleaned.map_err(|error| {
            format!("kubernetes.io/csi: Unmounter.TearDownAt failed to clean mount dir [{}]: {error}", target.display())
        })
    }

    /// Whether some pod has the volume.
    fn has_users(&self, data: &Data) -> io::Result<bool> {
        let same = |other: &Data| other.driver_name == data.driver_name && other.volume_handle == data.volume_handle;
        Ok(places::all(self.dirs())?.into_values().flatten().any(|(_, other)| same(&other)))
    }

    /// The last pod is gone.
    async fn unstage(&self, is_device: bool, data: &Data) -> Result<(), String> {
        let dirs = self.dirs();
        let shared = places::staged(dirs, &data.driver_name, &data.volume_handle);
        let place = match is_device {
            true => places::staged_device(dirs, &data.volume),
            false => shared.join("globalmount"),
        };
        if is_device {
            let folder = places::device(dirs, "", &data.volume);
            remove_empty(&folder).map_err(|error| error.to_string())?;
        }
        if !place.exists() {
            return places::forget(&shared, &place).map_err(|error| error.to_string());
        }
        let socket = self.0.config.drivers.socket(&data.driver_name);
        let socket = socket.map_err(|why| {
            format!("kubernetes.io/csi: attacher.UnmountDevice failed to create newCsiDriverClient: {why}")
        })?;
        let driver = Driver::at(socket).await.map_err(|error| error.to_string())?;
        if driver.can(Capability::StageUnstageVolume) {
            let done = driver::unstage(&driver.socket, &data.volume_handle, &place).await;
            done.map_err(|error| format!("kubernetes.io/csi: attacher.UnmountDevice failed: {error}"))?;
        }
        if is_device { remove_empty(&place) } else { places::forget(&shared, &place) }
            .map_err(|error| error.to_string())
    }

    /// Has volumes unstaged that no pod has: a kubelet before this one was ended in between. Answers whether none is left.
    pub(in super::super) async fn unstage_unused(&self) -> bool {
        let staged = places::all_staged(self.dirs()).unwrap_or_default();
        let mut is_clean = true;
        for data in staged {
            let volume = self.0.csi.volume(&unique_name(&data.driver_name, &data.volume_handle));
            let mut is_staged = volume.lock().await;
            if self.has_users(&data).unwrap_or(true) {
                continue;
            }
            match self.unstage(false, &data).await {
                Ok(()) => *is_staged = false,
                Err(error) => {
                    tracing::debug!(volume = data.volume_handle, error, "a volume that no pod has is still staged");
                    is_clean = false;
                }
            }
        }
        is_clean
    }
}

fn remove_empty(folder: &Path) -> io::Result<()> {
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
