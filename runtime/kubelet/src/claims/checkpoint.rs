//! What of claims is prepared, on disk: a kubelet after this one knows what to give to containers and what to take back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The file below the kubelet's root.
const FILE: &str = "dra_manager_state";

/// A claim that is prepared, or that drivers may have been asked to prepare.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Info {
    pub(super) uid: String,
    pub(super) name: String,
    pub(super) namespace: String,
    /// The uids of the pods that use it.
    pub(super) pods: BTreeSet<String>,
    /// What each driver has prepared.
    pub(super) drivers: BTreeMap<String, Vec<Device>>,
    /// Whether this kubelet knows that all drivers have prepared it.
    #[serde(skip)]
    pub(super) is_prepared: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Device {
    pub(super) pool: String,
    pub(super) device: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) share: Option<String>,
    /// The requests that it is for; all, if there are none.
    pub(super) requests: Vec<String>,
    #[serde(rename = "cdiDeviceIDs")]
    pub(super) cdi: Vec<String>,
}

/// Claims by their namespace and name.
pub(super) type Infos = BTreeMap<(String, String), Info>;

#[derive(Serialize, Deserialize)]
struct File {
    /// The claims, as JSON.
    data: String,
    checksum: String,
}

/// The claims on disk are not to be trusted.
#[derive(Debug, thiserror::Error)]
pub(super) enum CheckpointError {
    /// The file can't be read or written.
    #[error("{path}: {why}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What failed.
        why: io::Error,
    },
    /// The file is not what was written: nobody knows what drivers have prepared.
    #[error("{0}: checkpoint is corrupted; please drain the node and remove the file")]
    Corrupt(PathBuf),
}

fn checksum(data: &str) -> String {
    Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What was written down below a root; nothing, if there is no file.
pub(super) fn load(root: &Path) -> Result<Infos, CheckpointError> {
    let path = root.join(FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Infos::new()),
        Err(why) => return Err(CheckpointError::File { path, why }),
    };
    let file = serde_json::from_slice::<File>(&bytes).ok().filter(|file| checksum(&file.data) == file.checksum);
    let infos = file.and_then(|file| serde_json::from_str::<Vec<Info>>(&file.data).ok());
    let infos = infos.ok_or(CheckpointError::Corrupt(path))?;
    Ok(infos.into_iter().map(|info| ((info.namespace.clone(), info.name.clone()), info)).collect())
}

/// Writes claims down, all or nothing.
pub(super) fn store(root: &Path, infos: &Infos) -> Result<(), CheckpointError> {
    let path = root.join(FILE);
    let write = || {
        let data = serde_json::to_string(&infos.values().collect::<Vec<_>>())?;
        let file = File { checksum: checksum(&data), data };
        let new = root.join(format!(".{FILE}.new"));
        fs::create_dir_all(root)?;
        let mut opened = fs::File::create(&new)?;
        io::Write::write_all(&mut opened, &serde_json::to_vec(&file)?)?;
        opened.sync_all()?;
        fs::rename(&new, &path)
    };
    write().map_err(|why| CheckpointError::File { path: path.clone(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_what_was_changed_is_refused() {
        let root = tempfile::tempdir().expect("a folder");
        assert!(load(root.path()).expect("no file").is_empty());
        let device = Device { pool: "p".to_owned(), device: "d".to_owned(), ..Device::default() };
        let info = Info {
            uid: "u".to_owned(),
            name: "c".to_owned(),
            namespace: "ns".to_owned(),
            pods: BTreeSet::from(["pod".to_owned()]),
            drivers: BTreeMap::from([("driver".to_owned(), vec![device])]),
            is_prepared: true,
        };
        let known = Infos::from([(("ns".to_owned(), "c".to_owned()), info.clone())]);
        store(root.path(), &known).expect("written");
        let read = load(root.path()).expect("read");
        let expected = Info { is_prepared: false, ..info };
        assert_eq!(read.into_values().collect::<Vec<_>>(), [expected]);
        let path = root.path().join(FILE);
        let changed = fs::read_to_string(&path).expect("a file").replace("driver", "drivel");
        fs::write(&path, changed).expect("written");
        assert!(matches!(load(root.path()), Err(CheckpointError::Corrupt(_))));
    }
}
