//! Volumes of CSI drivers: attached by the cluster, staged once on the node, published to each pod, and taken back in reverse.
//!
//! What was asked of a driver is written down beside the volume before it is asked, in the files that upstream's kubelet has
//! there, so that all is taken back by what the disk says (`tear_down`), whoever made it. `places` knows where things are,
//! `driver` makes the calls, `set_up` has their order.

mod driver;
mod expand;
mod inline;
mod places;
mod set_up;
mod tear_down;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, watch};

use super::{Dirs, Place};

/// The volumes that this node uses or is about to, by the names that the Node has for them.
pub type InUse = Arc<watch::Sender<BTreeSet<String>>>;

/// How an attachable volume is called in a Node's status.
pub(super) fn unique_name(driver: &str, handle: &str) -> String {
    format!("kubernetes.io/csi/{driver}^{handle}")
}

/// Driver and handle of a pod's volume, if it is a driver's.
pub(super) fn driven(dirs: &Dirs, uid: &str, place: &Place) -> Option<(String, String)> {
    let data = places::at(dirs, uid, place)?;
    Some((data.driver_name, data.volume_handle))
}

/// What is known of the volumes of drivers, whatever pods they are for.
#[derive(Default)]
pub(super) struct Known {
    /// Whether each is staged. Who holds the lock is the only one that does something with the volume.
    volumes: Mutex<HashMap<String, Arc<AsyncMutex<bool>>>>,
}

impl Known {
    fn volume(&self, name: &str) -> Arc<AsyncMutex<bool>> {
        let mut volumes = self.volumes.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody holds and that are not staged need not be remembered.
        volumes.retain(|_, volume| Arc::strong_count(volume) > 1 || volume.try_lock().is_ok_and(|staged| *staged));
        volumes.entry(name.to_owned()).or_default().clone()
    }
}
