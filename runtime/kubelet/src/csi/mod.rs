//! Drivers of the Container Storage Interface on this node: how they are found, and how they are asked.
//!
//! In flow sockets that registrars put into a folder (`registry`), out flow the Node's CSINode and annotation (`node_info`), calls
//! of drivers (`client`), and a table of who is there ([`Drivers`]). What is done with a pod's volumes is up to
//! [`crate::volumes`].

pub(crate) mod client;
pub(crate) mod messages;
mod node_info;
mod registry;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

pub(crate) use registry::{Registry, run};

/// The drivers that are registered. Cloning it is cheap and shares them.
#[derive(Clone)]
pub struct Drivers(Arc<watch::Sender<BTreeMap<String, Driver>>>);

/// A registered driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Driver {
    /// Where it listens.
    pub(crate) socket: PathBuf,
    /// The highest version of CSI that it speaks: the numbers between the dots.
    pub(crate) version: Vec<u64>,
}

impl Default for Drivers {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(BTreeMap::new())))
    }
}

impl Drivers {
    /// The socket of a driver.
    ///
    /// # Errors
    /// In upstream's words, if it is not registered.
    pub(crate) fn socket(&self, name: &str) -> Result<PathBuf, String> {
        let found = self.0.borrow().get(name).map(|driver| driver.socket.clone());
        found.ok_or_else(|| format!("driver name {name} not found in the list of registered CSI drivers"))
    }

    fn get(&self, name: &str) -> Option<Driver> {
        self.0.borrow().get(name).cloned()
    }

    pub(crate) fn set(&self, name: &str, driver: Driver) {
        self.0.send_modify(|drivers| _ = drivers.insert(name.to_owned(), driver));
    }

    fn remove(&self, name: &str) {
        self.0.send_if_modified(|drivers| drivers.remove(name).is_some());
    }

    /// Tells when a driver comes or goes.
    pub(crate) fn news(&self) -> watch::Receiver<BTreeMap<String, Driver>> {
        self.0.subscribe()
    }
}
