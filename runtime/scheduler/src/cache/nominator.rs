//! Pods that were promised room on a node and wait for others to leave it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{Name, Pod};

/// Which pod was promised which node.
#[derive(Default)]
pub(crate) struct Nominator {
    nodes: HashMap<Name, Vec<Arc<Pod>>>,
    by_pod: HashMap<Name, Name>,
}

impl Nominator {
    /// Promises a node to a pod, in place of another it was promised.
    pub(crate) fn add(&mut self, pod: &Arc<Pod>, node: &Name) {
        self.remove(&pod.uid);
        self.by_pod.insert(pod.uid.clone(), node.clone());
        self.nodes.entry(node.clone()).or_default().push(Arc::clone(pod));
    }

    /// The pod waits no more; answers the node it was promised.
    pub(crate) fn remove(&mut self, uid: &str) -> Option<Name> {
        let node = self.by_pod.remove(uid)?;
        if let Some(pods) = self.nodes.get_mut(&node) {
            pods.retain(|pod| *pod.uid != *uid);
            if pods.is_empty() {
                self.nodes.remove(&node);
            }
        }
        Some(node)
    }

    /// The pods that were promised a node.
    pub(crate) fn on(&self, node: &str) -> &[Arc<Pod>] {
        self.nodes.get(node).map_or(&[], Vec::as_slice)
    }
}
