//! The container runtime of a node that brings none of its own: a containerd that Kiln configures, starts, watches over and
//! starts again when it ends. In come the node's folders and what is on the PATH; out comes a socket for [`crate::cri`].
//!
//! Containers belong to their shims, so neither the end of containerd nor that of Kiln stops a pod. What the CRI has no call
//! for is done through containerd's own API: [`events`] tells of containers that end, [`import`] loads image archives, [`view`]
//! shows images as volumes.
//! Nothing here knows what a Pod is.

mod api;
pub(crate) mod archive;
mod config;
pub(crate) mod events;
pub(crate) mod import;
pub(crate) mod pause;
pub mod registries;
mod supervise;
pub(crate) mod view;

use std::path::{Path, PathBuf};

pub use supervise::run;

/// Where the folders and programs of a containerd are.
#[derive(Debug, Clone)]
pub struct Options {
    /// What is to last: images, layers.
    pub root: PathBuf,
    /// What ends with the machine's uptime: sockets, bundles.
    pub state: PathBuf,
    /// The folder that CNI networks are configured in.
    pub cni_conf: PathBuf,
    /// The folders of CNI plugins, as far as they are there.
    pub cni_bin: Vec<PathBuf>,
    /// The image of pod sandboxes.
    pub pause_image: String,
    /// Mirrors and credentials of registries.
    pub registries: registries::Registries,
    /// The program.
    pub program: PathBuf,
    /// Where its log goes.
    pub log: PathBuf,
}

impl Options {
    /// The socket that it serves.
    pub fn socket(&self) -> PathBuf {
        self.state.join("containerd.sock")
    }

    /// Images as volumes.
    pub(crate) fn views(&self) -> view::Views {
        view::Views { socket: self.socket(), snapshotter: config::snapshotter(&self.root) }
    }

    fn config(&self) -> PathBuf {
        self.state.join("config.toml")
    }

    fn pid_file(&self) -> PathBuf {
        self.state.join("containerd.pid")
    }
}

/// Containerd could not be made ready to start.
#[derive(Debug, thiserror::Error)]
pub enum ContainerdError {
    /// A file or folder that it needs cannot be written.
    #[error("{}: {error}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The program does not start.
    #[error("cannot start {}: {error}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
}

/// Programs that were installed with Kiln, which go before the machine's.
const OWN_PROGRAMS: &str = "/usr/local/lib/kiln/bin";
/// Folders of programs beside those on the PATH.
const PROGRAMS: &[&str] =
    &["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/opt/containerd/bin"];
/// Folders that distributions put CNI plugins into.
const PLUGINS: &[&str] = &["/usr/local/lib/kiln/cni", "/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];

/// The path of a program, if it came with Kiln, is on the PATH or in one of the usual folders.
pub fn find_program(name: &str) -> Option<PathBuf> {
    folders().into_iter().map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// Folders of programs, those that go first before the others.
fn folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = vec![PathBuf::from(OWN_PROGRAMS)];
    for folder in std::env::split_paths(&path).chain(PROGRAMS.iter().map(PathBuf::from)) {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// The folders of CNI plugins that this machine has.
pub fn find_plugins() -> Vec<PathBuf> {
    PLUGINS.iter().map(PathBuf::from).filter(|folder| folder.join("bridge").is_file()).collect()
}

/// The PATH for containerd, which looks there for runc and its shim.
fn search_path() -> std::ffi::OsString {
    std::env::join_paths(folders()).unwrap_or_else(|_| std::env::var_os("PATH").unwrap_or_default())
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> ContainerdError {
    let path = path.to_owned();
    move |error| ContainerdError::File { path, error }
}
