//! A bench on which a plugin is tried.

use std::sync::Arc;

use crate::cache::{Cache, Nominator};
use crate::framework::{Event, NodeChange, Plugin, PreFilter, Refusal, World};
use crate::listers::Listers;
use crate::model::{Node, Pod};

/// A cluster and nothing that moves.
pub(crate) struct Bench {
    pub(crate) cache: Cache,
    pub(crate) nominator: Nominator,
    pub(crate) listers: Listers,
}

impl Bench {
    /// With these nodes, in the order of their names.
    pub(crate) fn new(nodes: impl IntoIterator<Item = Arc<Node>>) -> Self {
        let mut cache = Cache::default();
        nodes.into_iter().for_each(|node| cache.set_node(node));
        Self { cache, nominator: Nominator::default(), listers: Listers::default() }
    }

    /// And these pods on them.
    pub(crate) fn with(mut self, pods: impl IntoIterator<Item = Arc<Pod>>) -> Self {
        pods.into_iter().for_each(|pod| self.cache.set_pod(pod));
        self
    }

    pub(crate) fn world(&self) -> World<'_> {
        World { cache: &self.cache, nominator: &self.nominator, listers: &self.listers }
    }

    /// The reasons of each node; none where the pod can go.
    pub(crate) fn verdicts(&self, plugin: &dyn Plugin, pod: &Pod) -> Vec<Vec<String>> {
        let words = |refusal: Refusal| refusal.reasons.iter().map(|reason| reason.to_string()).collect();
        let filter = match plugin.pre_filter(self.world(), pod) {
            Err(refusal) => return vec![words(refusal); self.cache.nodes().len()],
            Ok(PreFilter::Skip) => return vec![Vec::new(); self.cache.nodes().len()],
            Ok(PreFilter::Check(filter) | PreFilter::Among(filter, _)) => filter,
        };
        self.cache.nodes().iter().map(|node| filter.check(node).map_or_else(words, |()| Vec::new())).collect()
    }

    /// Which nodes can do.
    pub(crate) fn fits(&self, plugin: &dyn Plugin, pod: &Pod) -> Vec<bool> {
        self.verdicts(plugin, pod).iter().map(Vec::is_empty).collect()
    }

    /// The points of each node; `None` if the plugin gives none.
    pub(crate) fn scores(&self, plugin: &dyn Plugin, pod: &Pod) -> Option<Vec<i64>> {
        let nodes: Vec<_> = self.cache.nodes().iter().collect();
        let scorer = plugin.pre_score(self.world(), pod, &nodes)?;
        let mut scores: Vec<_> = nodes.iter().map(|node| scorer.score(node)).collect();
        scorer.normalize(&nodes, &mut scores);
        Some(scores)
    }

    /// Whether a change of a node may help a pod.
    pub(crate) fn node_update_helps(&self, plugin: &dyn Plugin, pod: &Pod, old: &Node, new: &Node) -> bool {
        plugin.may_help(self.world(), pod, &Event::NodeUpdated { old, new, change: NodeChange::between(old, new) })
    }
}
