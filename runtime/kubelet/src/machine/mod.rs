//! The machine that the kubelet runs on: what it is, where it can be reached, and how it does.

mod addresses;
mod facts;
mod pressure;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;

pub use facts::Facts;
pub use pressure::Pressure;

/// The machine could not be read.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// A file of the kernel, or the data folder, is not there or not what it should be.
    #[error("{}: {why}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// The machine, real or a test's.
#[derive(Clone)]
pub struct Machine {
    /// What does not change while it runs.
    pub facts: Facts,
    /// The addresses that the cluster should reach it at, best first; empty while it has none.
    pub addresses: watch::Receiver<Vec<IpAddr>>,
    /// How it does now.
    pub pressure: Arc<dyn Fn() -> Pressure + Send + Sync>,
}

impl Machine {
    /// This machine. `data` is the folder whose disk the pods will use. `towards` is the API server's address, if it is
    /// known and on another machine: of several addresses the one that reaches it is taken, or one of the interface that
    /// it is on, else that of the default route. `news` says when addresses or routes may have changed. Must be called within tokio.
    pub fn here(data: &Path, towards: Option<SocketAddr>, news: watch::Receiver<()>) -> Result<Self, MachineError> {
        let facts = Facts::read(Path::new("/"), data)?;
        let data = data.to_owned();
        Ok(Self {
            facts,
            addresses: addresses::watch(towards, news),
            pressure: Arc::new(move || Pressure::read(Path::new("/"), &data)),
        })
    }
}
