//! Where CSI volumes and what is known of them lie.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::super::dirs::names;
use super::super::{Dirs, Place, mounts};

const CSI: &str = "kubernetes.io/csi";
const FOLDER: &str = "kubernetes.io~csi";
const FILE: &str = "vol_data.json";

/// What is to be known to take a volume back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Data {
    #[serde(rename = "specVolID", skip_serializing_if = "String::is_empty")]
    pub(super) volume: String,
    pub(super) volume_handle: String,
    pub(super) driver_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) node_name: String,
    /// `Persistent` or `Ephemeral`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) volume_lifecycle_mode: String,
    /// The VolumeAttachment, if there is to be one.
    #[serde(rename = "attachmentID", skip_serializing_if = "String::is_empty")]
    pub(super) attachment: String,
}

impl Data {
    /// What was written down in a folder, if anything was.
    pub(super) fn load(folder: &Path) -> io::Result<Option<Self>> {
        match fs::read(folder.join(FILE)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn save(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        // A crash must not leave half of it.
        let (file, fresh) = (folder.join(FILE), folder.join(".vol_data.json"));
        fs::write(&fresh, serde_json::to_vec(self)?)?;
        fs::rename(fresh, file)
    }
}

/// Removes a mount point that is none any more, what was written down about it, and their folder.
pub(super) fn forget(folder: &Path, point: &Path) -> io::Result<()> {
    if mounts::at(point)?.is_some() {
        return Err(io::Error::other(format!("{} is still mounted", point.display())));
    }
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    match fs::symlink_metadata(point) {
        Ok(meta) if meta.is_dir() => gone(fs::remove_dir(point))?,
        Ok(_) => gone(fs::remove_file(point))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    gone(fs::remove_file(folder.join(FILE)))?;
    gone(fs::remove_dir(folder))
}

pub(super) fn hex(text: &str) -> String {
    Sha256::digest(text).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

/// The folder of a pod's volume; the volume itself is `mount` in it.
pub(super) fn of_pod(dirs: &Dirs, uid: &str, volume: &str) -> PathBuf {
    dirs.volumes(uid).join(FOLDER).join(volume)
}

/// The folder that says which device a pod has.
pub(super) fn device_of_pod(dirs: &Dirs, uid: &str, volume: &str) -> PathBuf {
    dirs.pod(uid).join("volumeDevices").join(FOLDER).join(volume)
}

/// Where a pod's device is.
pub(super) fn device(dirs: &Dirs, uid: &str, volume: &str) -> PathBuf {
    dirs.plugins().join(CSI).join("volumeDevices/publish").join(volume).join(uid)
}

/// The folder where a device is staged.
pub(super) fn staged_device(dirs: &Dirs, volume: &str) -> PathBuf {
    dirs.plugins().join(CSI).join("volumeDevices/staging").join(volume)
}

/// The folder of a volume that pods share; it is staged in `globalmount` in it.
pub(super) fn staged(dirs: &Dirs, driver: &str, handle: &str) -> PathBuf {
    dirs.plugins().join(CSI).join(driver).join(hex(handle))
}

/// A pod's CSI volumes by the disk: whether each is a device, and what was written down.
pub(super) fn of(dirs: &Dirs, uid: &str) -> io::Result<Vec<(bool, Data)>> {
    let mut found = Vec::new();
    for (is_device, folder) in [(false, dirs.volumes(uid)), (true, dirs.pod(uid).join("volumeDevices"))] {
        let folder = folder.join(FOLDER);
        for name in names(&folder)? {
            if let Some(data) = Data::load(&folder.join(&name))? {
                found.push((is_device, Data { volume: name, ..data }));
            }
        }
    }
    Ok(found)
}

/// What was written down about the volume that a pod has at a place.
pub(super) fn at(dirs: &Dirs, uid: &str, place: &Place) -> Option<Data> {
    let folder = match place {
        Place::Path(path) if path.starts_with(dirs.volumes(uid)) => path.parent()?.to_owned(),
        Place::Device(path) if path.starts_with(dirs.plugins()) => {
            device_of_pod(dirs, uid, path.parent()?.file_name()?.to_str()?)
        }
        _ => return None,
    };
    Data::load(&folder).ok().flatten()
}

/// All CSI volumes of all pods, by the pods' uids.
pub(super) fn all(dirs: &Dirs) -> io::Result<BTreeMap<String, Vec<(bool, Data)>>> {
    names(&dirs.pods())?.into_iter().map(|uid| of(dirs, &uid).map(|found| (uid, found))).collect()
}

/// Volumes that are staged, by the disk.
pub(super) fn all_staged(dirs: &Dirs) -> io::Result<Vec<Data>> {
    let root = dirs.plugins().join(CSI);
    let mut found = Vec::new();
    for driver in names(&root)?.into_iter().filter(|name| name != "volumeDevices") {
        for volume in names(&root.join(&driver))? {
            found.extend(Data::load(&root.join(&driver).join(volume)).ok().flatten());
        }
    }
    Ok(found)
}
