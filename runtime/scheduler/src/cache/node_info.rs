//! A node with the pods on it.

use std::sync::Arc;

use crate::model::{HostPort, Node, NonZero, Pod, Resources};

/// A node and what its pods take of it. A copy of it is what a "what if" is tried on.
#[derive(Debug, Clone)]
pub(crate) struct NodeInfo {
    pub(crate) node: Arc<Node>,
    pub(crate) pods: Vec<Arc<Pod>>,
    /// Those of its pods that say something of the pods near them.
    pub(crate) with_affinity: Vec<Arc<Pod>>,
    /// What its pods ask for.
    pub(crate) requested: Resources,
    /// What they ask for with the defaults that count for scores.
    pub(crate) nonzero: NonZero,
    /// The node's ports that they take.
    pub(crate) ports: Vec<HostPort>,
}

impl NodeInfo {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self {
            node,
            pods: Vec::new(),
            with_affinity: Vec::new(),
            requested: Resources::default(),
            nonzero: NonZero::default(),
            ports: Vec::new(),
        }
    }

    /// Adds a pod.
    pub(crate) fn add(&mut self, pod: Arc<Pod>) {
        self.count(&pod, 1);
        self.ports.extend(pod.spec.ports.iter().cloned());
        if pod.spec.inter_pod.is_some() {
            self.with_affinity.push(Arc::clone(&pod));
        }
        self.pods.push(pod);
    }

    /// Takes a pod out.
    pub(crate) fn remove(&mut self, pod: &Pod) {
        let Some(at) = self.pods.iter().position(|other| other.uid == pod.uid) else { return };
        let pod = self.pods.swap_remove(at);
        self.count(&pod, -1);
        self.with_affinity.retain(|other| other.uid != pod.uid);
        for port in &pod.spec.ports {
            if let Some(at) = self.ports.iter().position(|taken| taken == port) {
                self.ports.swap_remove(at);
            }
        }
    }

    fn count(&mut self, pod: &Pod, times: i64) {
        self.requested.add(&pod.spec.requests, times);
        self.nonzero.milli_cpu += pod.spec.nonzero.milli_cpu * times;
        self.nonzero.memory += pod.spec.nonzero.memory * times;
    }
}
