//! The cluster as the scheduler sees it: nodes with the pods on them, those included that it has placed and that the API has not
//! confirmed yet.
//!
//! Watches flow in; plugins read. One task owns it, so that nothing is locked and nothing is copied for a cycle.

mod images;
mod node_info;
mod nominator;
mod order;

use std::collections::HashMap;
use std::sync::Arc;

pub(crate) use node_info::NodeInfo;
pub(crate) use nominator::Nominator;

use self::images::Images;
use crate::metrics::Metrics;
use crate::model::{Name, Node, Pod};

/// Nodes and the pods on them.
#[derive(Default)]
pub(crate) struct Cache {
    /// In the order in which they are tried; see [`order`].
    nodes: Vec<NodeInfo>,
    index: HashMap<Name, usize>,
    /// Nodes came or went since they were last ordered.
    unordered: bool,
    /// Pods on nodes that are not there (any more).
    homeless: HashMap<Name, Vec<Arc<Pod>>>,
    /// All pods on nodes, by uid.
    pods: HashMap<Name, Placed>,
    images: Images,
    /// How many were placed and are not confirmed yet.
    assumed: usize,
    /// How many pods say something of the pods near them.
    pub(crate) with_affinity: usize,
}

struct Placed {
    pod: Arc<Pod>,
    /// Placed by the scheduler and not confirmed yet.
    assumed: bool,
}

impl Cache {
    /// All nodes, in the order in which they are tried.
    pub(crate) fn nodes(&self) -> &[NodeInfo] {
        &self.nodes
    }

    /// A node by its name.
    pub(crate) fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.index_of(name).map(|at| &self.nodes[at])
    }

    /// A node's place among [`Self::nodes`].
    pub(crate) fn index_of(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// How many nodes have an image.
    pub(crate) fn nodes_with_image(&self, image: &Name) -> usize {
        self.images.count(image)
    }

    /// The pods on all nodes.
    pub(crate) fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.values().map(|placed| &placed.pod)
    }

    /// A pod that is on a node, or assumed to be.
    pub(crate) fn pod(&self, uid: &str) -> Option<&Arc<Pod>> {
        self.pods.get(uid).map(|placed| &placed.pod)
    }

    /// Has counted what is in it.
    pub(crate) fn count(&self, metrics: &Metrics) {
        metrics.cached(self.nodes.len(), self.pods.len(), self.assumed);
    }

    /// Whether the pod was placed and that is not confirmed yet.
    pub(crate) fn is_assumed(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|placed| placed.assumed)
    }

    /// Takes in a new or changed node.
    pub(crate) fn set_node(&mut self, node: Arc<Node>) {
        self.images.add(&node);
        if let Some(&at) = self.index.get(&node.name) {
            self.unordered |= self.nodes[at].node.zone() != node.zone();
            self.images.remove(&self.nodes[at].node);
            self.nodes[at].node = node;
            return;
        }
        let mut info = NodeInfo::new(Arc::clone(&node));
        for pod in self.homeless.remove(&node.name).unwrap_or_default() {
            info.add(pod);
        }
        self.index.insert(node.name.clone(), self.nodes.len());
        self.nodes.push(info);
        self.unordered = true;
    }

    /// Takes a node out. The pods on it stay known.
    pub(crate) fn remove_node(&mut self, name: &str) {
        let Some(at) = self.index.remove(name) else { return };
        let info = self.nodes.remove(at);
        self.images.remove(&info.node);
        if !info.pods.is_empty() {
            self.homeless.insert(info.node.name.clone(), info.pods);
        }
        self.reindex();
        self.unordered = true;
    }

    /// Orders the nodes, if any came or went.
    pub(crate) fn settle(&mut self) {
        if std::mem::take(&mut self.unordered) {
            order::by_zones(&mut self.nodes);
            self.reindex();
        }
    }

    fn reindex(&mut self) {
        self.index = self.nodes.iter().enumerate().map(|(at, info)| (info.node.name.clone(), at)).collect();
    }

    /// Places a pod on the node it names, before the API knows of it.
    pub(crate) fn assume(&mut self, pod: Arc<Pod>) {
        self.put(pod, true);
    }

    /// Takes back what was assumed; answers the pod as it was placed.
    pub(crate) fn forget(&mut self, uid: &str) -> Option<Arc<Pod>> {
        if self.is_assumed(uid) { self.remove_pod(uid) } else { None }
    }

    /// Takes in a pod that the API says is on a node.
    pub(crate) fn set_pod(&mut self, pod: Arc<Pod>) {
        self.put(pod, false);
    }

    fn put(&mut self, pod: Arc<Pod>, assumed: bool) {
        self.remove_pod(&pod.uid);
        let Some(node) = &pod.node else { return };
        self.with_affinity += usize::from(pod.spec.inter_pod.is_some());
        match self.index.get(node) {
            Some(&at) => self.nodes[at].add(Arc::clone(&pod)),
            None => self.homeless.entry(node.clone()).or_default().push(Arc::clone(&pod)),
        }
        self.assumed += usize::from(assumed);
        self.pods.insert(pod.uid.clone(), Placed { pod, assumed });
    }

    /// Takes a pod out; answers it as it was placed.
    pub(crate) fn remove_pod(&mut self, uid: &str) -> Option<Arc<Pod>> {
        let Placed { pod, assumed } = self.pods.remove(uid)?;
        self.assumed -= usize::from(assumed);
        self.with_affinity -= usize::from(pod.spec.inter_pod.is_some());
        let node = pod.node.as_ref()?;
        if let Some(&at) = self.index.get(node) {
            self.nodes[at].remove(&pod);
        } else if let Some(homeless) = self.homeless.get_mut(node) {
            homeless.retain(|other| other.uid != pod.uid);
            if homeless.is_empty() {
                self.homeless.remove(node);
            }
        }
        Some(pod)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod};

    #[test]
    fn a_pod_counts_on_its_node_from_the_moment_it_is_placed_until_it_is_gone() {
        let mut cache = Cache::default();
        cache.set_node(node("n").cpu("4").build());
        let placed = pod("a").cpu("1").on("n").build();
        cache.assume(Arc::clone(&placed));
        let used = |cache: &Cache| cache.node("n").map(|info| (info.requested.milli_cpu, info.pods.len()));
        assert_eq!((used(&cache), cache.is_assumed(&placed.uid)), (Some((1000, 1)), true));
        cache.set_pod(Arc::clone(&placed));
        assert_eq!((used(&cache), cache.is_assumed(&placed.uid)), (Some((1000, 1)), false));
        assert!(cache.forget(&placed.uid).is_none(), "what is confirmed is not forgotten");
        cache.remove_pod(&placed.uid);
        assert_eq!(used(&cache), Some((0, 0)));
        cache.assume(Arc::clone(&placed));
        assert!(cache.forget(&placed.uid).is_some());
        assert_eq!(used(&cache), Some((0, 0)));
    }

    #[test]
    fn pods_on_a_node_that_is_not_there_count_when_it_comes_back() {
        let mut cache = Cache::default();
        let placed = pod("a").cpu("1").on("n").build();
        cache.set_pod(Arc::clone(&placed));
        cache.set_node(node("n").cpu("4").build());
        assert_eq!(cache.node("n").map(|info| info.requested.milli_cpu), Some(1000));
        cache.remove_node("n");
        assert!(cache.node("n").is_none());
        cache.set_node(node("n").cpu("8").build());
        assert_eq!(cache.node("n").map(|info| info.requested.milli_cpu), Some(1000));
        cache.remove_node("n");
        cache.remove_pod(&placed.uid);
        cache.set_node(node("n").build());
        assert_eq!(cache.node("n").map(|info| info.requested.milli_cpu), Some(0));
    }

    #[test]
    fn zones_take_turns_in_the_order_of_nodes() {
        let mut cache = Cache::default();
        for (name, zone) in [("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("c1", "c"), ("c2", "c")] {
            cache.set_node(node(name).label("topology.kubernetes.io/zone", zone).build());
        }
        cache.settle();
        let names: Vec<_> = cache.nodes().iter().map(|info| info.node.name.to_string()).collect();
        assert_eq!(names, ["a1", "b1", "c1", "a2", "c2", "a3"]);
        assert_eq!(cache.index_of("c2"), Some(4));
    }
}
