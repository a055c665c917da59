//! Hard constraints: where a pod may go.

use std::cell::Cell;
use std::collections::HashMap;

use super::{NO_LABEL, REASON, counts, has_all_labels, selected, value};
use crate::cache::NodeInfo;
use crate::framework::{Filter, PluginId, Refusal, Verdict, World};
use crate::model::{Name, Node, Pod, SpreadConstraint};

/// The hard constraints of a pod, with the pods in each place.
#[derive(Clone)]
pub(super) struct Spread<'a> {
    pod: &'a Pod,
    constraints: Vec<SpreadConstraint>,
    places: Vec<HashMap<Name, i64>>,
    /// The fewest pods in any place; reckoned when it is asked for.
    least: Vec<Cell<Option<i64>>>,
}

impl<'a> Spread<'a> {
    pub(super) fn new(world: World<'a>, pod: &'a Pod, constraints: Vec<SpreadConstraint>) -> Self {
        let mut places = vec![HashMap::new(); constraints.len()];
        for info in world.cache.nodes().iter().filter(|info| has_all_labels(&info.node, &constraints)) {
            for (constraint, places) in constraints.iter().zip(&mut places) {
                if counts(constraint, pod, &info.node) {
                    let there = selected(info, &constraint.selector, &pod.namespace);
                    *places.entry(value(&info.node, constraint)).or_default() += there;
                }
            }
        }
        let least = vec![Cell::new(None); constraints.len()];
        Self { pod, constraints, places, least }
    }

    fn least(&self, at: usize) -> i64 {
        if let Some(least) = self.least[at].get() {
            return least;
        }
        let places = &self.places[at];
        let too_few = i64::try_from(places.len()).unwrap_or(i64::MAX) < self.constraints[at].min_domains;
        let least = if too_few { 0 } else { places.values().copied().min().unwrap_or(0) };
        self.least[at].set(Some(least));
        least
    }

    fn count(&mut self, other: &Pod, node: &Node, by: i64) {
        if other.namespace != self.pod.namespace || !has_all_labels(node, &self.constraints) {
            return;
        }
        for (at, constraint) in self.constraints.iter().enumerate() {
            if !constraint.selector.matches(&*other.labels) || !counts(constraint, self.pod, node) {
                continue;
            }
            if let Some(value) = node.labels.get(&constraint.topology_key) {
                *self.places[at].entry(value.clone()).or_default() += by;
                self.least[at].set(None);
            }
        }
    }
}

impl<'a> Filter<'a> for Spread<'a> {
    fn check(&self, info: &NodeInfo) -> Verdict {
        for (at, constraint) in self.constraints.iter().enumerate() {
            let Some(value) = info.node.labels.get(&constraint.topology_key) else {
                return Err(Refusal::unresolvable(PluginId::PodTopologySpread, NO_LABEL));
            };
            let own = i64::from(constraint.selector.matches(&*self.pod.labels));
            let there = self.places[at].get(value).copied().unwrap_or(0);
            if there + own - self.least(at) > constraint.max_skew {
                return Err(Refusal::unschedulable(PluginId::PodTopologySpread, REASON));
            }
        }
        Ok(())
    }

    fn add(&mut self, pod: &Pod, info: &NodeInfo) {
        self.count(pod, &info.node, 1);
    }

    fn remove(&mut self, pod: &Pod, info: &NodeInfo) {
        self.count(pod, &info.node, -1);
    }

    fn copy(&self) -> Box<dyn Filter<'a> + 'a> {
        Box::new(self.clone())
    }
}
