//! `PodTopologySpread`: pods are spread evenly over places.

mod hard;
mod siblings;
mod soft;
#[cfg(test)]
mod tests;

use k8s_openapi::api::core::v1::TopologySpreadConstraint as ApiConstraint;

use self::hard::Spread;
use self::siblings::siblings;
use self::soft::SoftSpread;
use crate::cache::NodeInfo;
use crate::framework::{Event, Plugin, PluginId, PreFilter, Refusal, Score, World};
use crate::listers::Listers;
use crate::model::{Labels, Name, Node, Pod, Selector, SpreadConstraint, blocking_taint};

const REASON: &str = "node(s) didn't match pod topology spread constraints";
const NO_LABEL: &str = "node(s) didn't match pod topology spread constraints (missing required label)";
const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// What holds for pods that say nothing themselves.
#[derive(Debug, Clone)]
pub(crate) enum Defaults {
    /// Over nodes and zones, softly.
    System,
    /// What the profile lists.
    List(Vec<ApiConstraint>),
}

pub(super) struct PodTopologySpread {
    defaults: Vec<SpreadConstraint>,
    /// The defaults are the system's: nodes without the labels count too.
    system: bool,
}

impl PodTopologySpread {
    pub(super) fn new(defaults: &Defaults) -> Self {
        let soft = |key: &str, max_skew| SpreadConstraint {
            max_skew,
            topology_key: Name::new(key),
            hard: false,
            selector: Selector::default(),
            min_domains: 1,
            honor_affinity: true,
            honor_taints: false,
        };
        match defaults {
            Defaults::System => Self { defaults: vec![soft(HOSTNAME, 3), soft(ZONE, 5)], system: true },
            Defaults::List(list) => {
                let of = |constraint| SpreadConstraint::of(constraint, &Labels::default(), Name::new);
                Self { defaults: list.iter().map(of).collect(), system: false }
            }
        }
    }

    /// The constraints of a kind that hold for a pod.
    fn constraints(&self, listers: &Listers, pod: &Pod, hard: bool) -> Vec<SpreadConstraint> {
        if !pod.spec.spread.is_empty() {
            return pod.spec.spread.iter().filter(|constraint| constraint.hard == hard).cloned().collect();
        }
        let defaults: Vec<_> = self.defaults.iter().filter(|constraint| constraint.hard == hard).collect();
        if defaults.is_empty() {
            return Vec::new();
        }
        let selector = siblings(listers, pod);
        if selector.is_everything() {
            return Vec::new();
        }
        defaults
            .into_iter()
            .map(|constraint| SpreadConstraint { selector: selector.clone(), ..constraint.clone() })
            .collect()
    }
}

/// Whether a node counts for a constraint.
fn counts(constraint: &SpreadConstraint, pod: &Pod, node: &Node) -> bool {
    (!constraint.honor_affinity || pod.spec.required_nodes.matches(node))
        && (!constraint.honor_taints || blocking_taint(&node.taints, &pod.spec.tolerations).is_none())
}

fn has_all_labels(node: &Node, constraints: &[SpreadConstraint]) -> bool {
    constraints.iter().all(|constraint| node.labels.get(&constraint.topology_key).is_some())
}

/// How many pods on a node a constraint counts.
fn selected(info: &NodeInfo, selector: &Selector, namespace: &Name) -> i64 {
    if selector.is_everything() {
        return 0;
    }
    let counted = info
        .pods
        .iter()
        .filter(|pod| !pod.terminating && pod.namespace == *namespace && selector.matches(&*pod.labels));
    i64::try_from(counted.count()).unwrap_or(i64::MAX)
}

/// A node's place; nodes without the label are one place.
fn value(node: &Node, constraint: &SpreadConstraint) -> Name {
    node.labels.get(&constraint.topology_key).cloned().unwrap_or_else(|| Name::new(""))
}

impl Plugin for PodTopologySpread {
    fn id(&self) -> PluginId {
        PluginId::PodTopologySpread
    }

    fn pre_filter<'a>(&'a self, world: World<'a>, pod: &'a Pod) -> Result<PreFilter<'a>, Refusal> {
        let constraints = self.constraints(world.listers, pod, true);
        if constraints.is_empty() {
            return Ok(PreFilter::Skip);
        }
        Ok(PreFilter::Check(Box::new(Spread::new(world, pod, constraints))))
    }

    fn pre_score<'a>(&'a self, world: World<'a>, pod: &'a Pod, nodes: &[&'a NodeInfo]) -> Option<Box<dyn Score + 'a>> {
        let constraints = self.constraints(world.listers, pod, false);
        if constraints.is_empty() {
            return None;
        }
        let needs_labels = !pod.spec.spread.is_empty() || !self.system;
        Some(Box::new(SoftSpread::new(world, pod, nodes, constraints, needs_labels)))
    }

    fn may_help(&self, world: World<'_>, pod: &Pod, event: &Event<'_>) -> bool {
        let constraints = || self.constraints(world.listers, pod, true);
        let is_near = |other: &Pod| other.has_place() && other.namespace == pod.namespace;
        let selects = |other: &Pod| constraints().iter().any(|constraint| constraint.selector.matches(&*other.labels));
        match event {
            Event::SelfUpdated { old, new, change } => {
                let constraints = constraints();
                change.tolerations && constraints.iter().any(|constraint| constraint.honor_taints)
                    || change.labels && differ(&constraints, old, new)
            }
            Event::PodPlaced(new) => is_near(new) && selects(new),
            Event::PodGone(gone) => is_near(gone) && selects(gone),
            Event::PodUpdated { old, new, change } => change.labels && is_near(new) && differ(&constraints(), old, new),
            Event::NodeAdded(node) | Event::NodeGone(node) => has_all_labels(node, &constraints()),
            Event::NodeUpdated { old, new, change } if change.labels || change.taints => {
                let constraints = constraints();
                let (had, has) = (has_all_labels(old, &constraints), has_all_labels(new, &constraints));
                let moved = constraints.iter().any(|constraint| {
                    old.labels.get(&constraint.topology_key) != new.labels.get(&constraint.topology_key)
                });
                had != has || has && (moved || old.taints != new.taints)
            }
            _ => false,
        }
    }
}

/// Whether a constraint selects one of two states of a pod and not the other.
fn differ(constraints: &[SpreadConstraint], old: &Pod, new: &Pod) -> bool {
    constraints
        .iter()
        .any(|constraint| constraint.selector.matches(&*old.labels) != constraint.selector.matches(&*new.labels))
}
