//! `NodeUnschedulable`: no pods on a cordoned node, but those that tolerate the taint that cordoning stands for.

use crate::framework::{Event, Plugin, PluginId, PreFilter, Refusal, World};
use crate::model::{Effect, Name, Node, Pod, Taint};

const REASON: &str = "node(s) were unschedulable";

pub(super) struct NodeUnschedulable {
    taint: Taint,
}

impl NodeUnschedulable {
    pub(super) fn new() -> Self {
        let key = Name::new("node.kubernetes.io/unschedulable");
        Self { taint: Taint { key, value: Name::new(""), effect: Effect::NoSchedule } }
    }

    fn tolerates(&self, pod: &Pod) -> bool {
        pod.spec.tolerations.iter().any(|toleration| toleration.tolerates(&self.taint))
    }
}

impl Plugin for NodeUnschedulable {
    fn id(&self) -> PluginId {
        PluginId::NodeUnschedulable
    }

    fn pre_filter<'a>(&'a self, _world: World<'a>, pod: &'a Pod) -> Result<PreFilter<'a>, Refusal> {
        if self.tolerates(pod) {
            return Ok(PreFilter::Skip);
        }
        Ok(PreFilter::by(|info| {
            if info.node.unschedulable {
                return Err(Refusal::unresolvable(PluginId::NodeUnschedulable, REASON));
            }
            Ok(())
        }))
    }

    fn may_help(&self, _world: World<'_>, pod: &Pod, event: &Event<'_>) -> bool {
        match event {
            Event::NodeAdded(node) => !node.unschedulable,
            Event::NodeUpdated { old, new, .. } => is_freed(old, new),
            Event::SelfUpdated { new, change, .. } => change.tolerations && pod.uid == new.uid && self.tolerates(new),
            _ => false,
        }
    }
}

fn is_freed(old: &Node, new: &Node) -> bool {
    old.unschedulable && !new.unschedulable
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plugins::testing::Bench;
    use crate::testing::{node, pod};

    #[test]
    fn a_cordoned_node_takes_only_pods_that_tolerate_it() {
        let bench = Bench::new([node("n").unschedulable().build(), node("free").build()]);
        let plugin = NodeUnschedulable::new();
        assert_eq!(bench.verdicts(&plugin, &pod("a").build()), [vec![REASON], vec![]]);
        let tolerant =
            pod("a").spec("tolerations", json!([{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]));
        assert_eq!(bench.verdicts(&plugin, &tolerant.build()), [vec![""; 0], vec![]]);
    }

    #[test]
    fn uncordoning_or_a_new_node_may_help() {
        let bench = Bench::new([]);
        let (plugin, waiting) = (NodeUnschedulable::new(), pod("a").build());
        let (closed, open) = (node("n").unschedulable().build(), node("n").build());
        let rows = [((&closed, &open), true), ((&open, &closed), false), ((&open, &open), false)];
        for ((old, new), expected) in rows {
            assert_eq!(bench.node_update_helps(&plugin, &waiting, old, new), expected);
        }
        assert!(plugin.may_help(bench.world(), &waiting, &Event::NodeAdded(&open)));
        assert!(!plugin.may_help(bench.world(), &waiting, &Event::NodeAdded(&closed)));
    }
}
