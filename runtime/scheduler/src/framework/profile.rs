//! The plugins that a scheduler of some name runs.

use std::sync::Arc;
use std::time::Duration;

use super::{Plugin, PluginId, Plugins};

/// A profile: which plugins have a say in what.
#[derive(Clone)]
pub(crate) struct Profile {
    /// The `schedulerName` of the pods that it is for.
    pub(crate) name: String,
    /// All of its plugins that judge or compare nodes, in the order in which they are asked.
    pub(crate) plugins: Vec<Arc<dyn Plugin>>,
    /// Those that may judge.
    pub(crate) filters: Plugins,
    /// Those that may compare, by how much each counts.
    pub(crate) weights: Vec<(PluginId, i64)>,
    /// Whether scheduling gates hold pods back.
    pub(crate) gates: bool,
    /// Whether others may be asked to leave, and how many nodes are looked at for it.
    pub(crate) preemption: Option<Candidates>,
    /// The share of nodes to find before the best is chosen; 0 for one that shrinks as the cluster grows.
    pub(crate) percentage: usize,
    /// How long volumes may take to be bound.
    pub(crate) bind_timeout: Duration,
}

/// How many nodes are looked at for preemption.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidates {
    /// At least this share of the nodes, in percent,
    pub(crate) percentage: usize,
    /// and at least so many.
    pub(crate) at_least: usize,
}

/// Fewer nodes than this are all looked at.
const MIN_NODES: usize = 100;
/// The least share of nodes that is looked at by default, in percent.
const MIN_PERCENTAGE: usize = 5;

impl Profile {
    /// By how much a plugin's scores count.
    pub(crate) fn weight(&self, id: PluginId) -> i64 {
        self.weights.iter().find(|(known, _)| *known == id).map_or(0, |(_, weight)| *weight)
    }

    /// How many nodes that can do are enough.
    pub(crate) fn enough(&self, nodes: usize) -> usize {
        if nodes < MIN_NODES {
            return nodes;
        }
        let percentage = match self.percentage {
            0 => 50_usize.saturating_sub(nodes / 125).max(MIN_PERCENTAGE),
            percentage => percentage,
        };
        (nodes * percentage / 100).max(MIN_NODES)
    }
}

impl Candidates {
    /// How many of these nodes are looked at.
    pub(crate) fn of(self, nodes: usize) -> usize {
        (nodes * self.percentage / 100).max(self.at_least).min(nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_the_cluster_the_smaller_the_share_of_nodes_that_is_enough() {
        let profile = |percentage| Profile {
            name: String::new(),
            plugins: Vec::new(),
            filters: Plugins::NONE,
            weights: Vec::new(),
            gates: true,
            preemption: None,
            percentage,
            bind_timeout: Duration::ZERO,
        };
        // Rows of the documentation of percentageOfNodesToScore and of the reference's own test.
        let rows = [
            (0, 10, 10),
            (40, 10, 10),
            (0, 1000, 420),
            (40, 1000, 400),
            (0, 6000, 300),
            (40, 6000, 2400),
            (0, 99, 99),
            (100, 5000, 5000),
        ];
        for (percentage, nodes, expected) in rows {
            assert_eq!(profile(percentage).enough(nodes), expected, "{percentage} % of {nodes}");
        }
    }
}
