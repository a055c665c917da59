//! Where things of pods lie below the kubelet's root. The places are those of the upstream kubelet, since node plugins and
//! people know them.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// A kind of volume, as it is part of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plugin {
    ConfigMap,
    DownwardApi,
    EmptyDir,
    Image,
    Local,
    Projected,
    Secret,
}

impl Plugin {
    /// The plugin's name with its slash written so that it can be a folder's.
    const fn folder(self) -> &'static str {
        match self {
            Self::ConfigMap => "kubernetes.io~configmap",
            Self::DownwardApi => "kubernetes.io~downward-api",
            Self::EmptyDir => "kubernetes.io~empty-dir",
            Self::Image => "kubernetes.io~image",
            Self::Local => "kubernetes.io~local-volume",
            Self::Projected => "kubernetes.io~projected",
            Self::Secret => "kubernetes.io~secret",
        }
    }
}

/// The kubelet's folders.
#[derive(Debug, Clone)]
pub struct Dirs {
    root: PathBuf,
}

impl Dirs {
    /// The folders below a root, which need not be there yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The root itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of all pods.
    pub fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// The folder of one pod.
    pub fn pod(&self, uid: &str) -> PathBuf {
        self.root.join("pods").join(uid)
    }

    /// The folder of a container's termination messages.
    pub fn container(&self, uid: &str, container: &str) -> PathBuf {
        self.pod(uid).join("containers").join(container)
    }

    /// A pod's file of host names.
    pub fn hosts(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("etc-hosts")
    }

    /// The folder of a pod's volumes.
    pub(crate) fn volumes(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("volumes")
    }

    pub(crate) fn volume(&self, uid: &str, plugin: Plugin, name: &str) -> PathBuf {
        self.volumes(uid).join(plugin.folder()).join(name)
    }

    /// Where the parts of volumes are mounted that containers get instead of whole volumes.
    pub(crate) fn sub_paths(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("volume-subpaths")
    }

    /// The folder of node plugins.
    pub fn plugins(&self) -> PathBuf {
        self.root.join("plugins")
    }

    /// Where node plugins leave their sockets to be found.
    pub fn plugins_registry(&self) -> PathBuf {
        self.root.join("plugins_registry")
    }

    /// Where profiles of system calls lie that pods name.
    pub fn seccomp(&self) -> PathBuf {
        self.root.join("seccomp")
    }

    /// Makes the folders that a pod needs before anything of it starts.
    ///
    /// # Errors
    /// If one can't be made.
    pub fn make_pod(&self, uid: &str) -> io::Result<()> {
        make(&self.volumes(uid), 0o750)?;
        make(&self.pod(uid).join("plugins"), 0o750)
    }
}

/// Makes a folder and those above it that are missing, with these permissions less the umask.
pub(crate) fn make(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(path)
}

/// The names in a folder; none if there is no such folder.
pub(crate) fn names(path: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned())).collect()
}
