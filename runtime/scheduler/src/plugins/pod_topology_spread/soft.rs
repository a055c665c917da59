//! Soft constraints: where a pod had better go.

use std::collections::HashMap;

use super::{HOSTNAME, counts, has_all_labels, selected, value};
use crate::cache::NodeInfo;
use crate::framework::{MAX_SCORE, Score, World};
use crate::model::{Name, Node, Pod, SpreadConstraint};

/// The soft constraints of a pod, with the pods in each place where it could go.
pub(super) struct SoftSpread<'a> {
    pod: &'a Pod,
    constraints: Vec<SpreadConstraint>,
    /// Without those of constraints on the node's own name, which are counted node by node.
    places: Vec<HashMap<Name, i64>>,
    weights: Vec<f64>,
    /// Nodes without all the labels get nothing.
    needs_labels: bool,
}

impl<'a> SoftSpread<'a> {
    #[allow(clippy::cast_precision_loss, reason = "counts of places")]
    pub(super) fn new(
        world: World<'a>,
        pod: &'a Pod,
        nodes: &[&NodeInfo],
        constraints: Vec<SpreadConstraint>,
        needs_labels: bool,
    ) -> Self {
        let mut places = vec![HashMap::new(); constraints.len()];
        let mut left_out = 0;
        for info in nodes {
            if needs_labels && !has_all_labels(&info.node, &constraints) {
                left_out += 1;
                continue;
            }
            for (constraint, places) in constraints.iter().zip(&mut places) {
                if constraint.topology_key != *HOSTNAME {
                    places.insert(value(&info.node, constraint), 0);
                }
            }
        }
        let sizes = constraints.iter().zip(&places).map(|(constraint, places)| {
            if constraint.topology_key == *HOSTNAME { nodes.len() - left_out } else { places.len() }
        });
        let weights = sizes.map(|size| (size as f64 + 2.0).ln()).collect();
        for info in world.cache.nodes() {
            if needs_labels && !has_all_labels(&info.node, &constraints) {
                continue;
            }
            for (constraint, places) in constraints.iter().zip(&mut places) {
                if constraint.topology_key != *HOSTNAME
                    && counts(constraint, pod, &info.node)
                    && let Some(place) = places.get_mut(&value(&info.node, constraint))
                {
                    *place += selected(info, &constraint.selector, &pod.namespace);
                }
            }
        }
        Self { pod, constraints, places, weights, needs_labels }
    }

    fn is_left_out(&self, node: &Node) -> bool {
        self.needs_labels && !has_all_labels(node, &self.constraints)
    }
}

impl Score for SoftSpread<'_> {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "as the reference computes them")]
    fn score(&self, info: &NodeInfo) -> i64 {
        if self.is_left_out(&info.node) {
            return 0;
        }
        let mut sum = 0.0;
        for (at, constraint) in self.constraints.iter().enumerate() {
            let Some(value) = info.node.labels.get(&constraint.topology_key) else { continue };
            let there = if constraint.topology_key == *HOSTNAME {
                selected(info, &constraint.selector, &self.pod.namespace)
            } else {
                self.places[at].get(value).copied().unwrap_or(0)
            };
            sum += there as f64 * self.weights[at] + (constraint.max_skew - 1) as f64;
        }
        sum.round() as i64
    }

    fn normalize(&self, nodes: &[&NodeInfo], scores: &mut [i64]) {
        let counted =
            || scores.iter().zip(nodes).filter(|(_, info)| !self.is_left_out(&info.node)).map(|(score, _)| *score);
        let (least, most) = (counted().min().unwrap_or(0), counted().max().unwrap_or(0));
        for (score, info) in scores.iter_mut().zip(nodes) {
            *score = if self.is_left_out(&info.node) {
                0
            } else if most == 0 {
                MAX_SCORE
            } else {
                MAX_SCORE * (most + least - *score) / most
            };
        }
    }
}
