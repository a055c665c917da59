//! `NodeDeclaredFeatures`: the node's kubelet says that it can do what the pod needs (KEP-5328).

use crate::framework::{Event, Plugin, PluginId, PreFilter, Refusal, World};
use crate::model::Pod;

const REASON: &str = "node(s) didn't match Pod's required features";

pub(super) struct NodeDeclaredFeatures;

impl Plugin for NodeDeclaredFeatures {
    fn id(&self) -> PluginId {
        PluginId::NodeDeclaredFeatures
    }

    fn pre_filter<'a>(&'a self, _world: World<'a>, pod: &'a Pod) -> Result<PreFilter<'a>, Refusal> {
        let needed = &pod.spec.features;
        if needed.is_empty() {
            return Ok(PreFilter::Skip);
        }
        Ok(PreFilter::by(|info| {
            if needed.iter().all(|feature| info.node.features.contains(feature)) {
                return Ok(());
            }
            Err(Refusal::unresolvable(PluginId::NodeDeclaredFeatures, REASON))
        }))
    }

    fn may_help(&self, _world: World<'_>, _pod: &Pod, event: &Event<'_>) -> bool {
        match event {
            Event::NodeAdded(_) => true,
            Event::NodeUpdated { change, .. } => change.features,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::plugins::testing::Bench;
    use crate::testing::{NodeMaker, node, pod};

    const RESTARTS: &str = "RestartAllContainersOnContainerExits";

    fn able(name: &str, features: &[&str]) -> NodeMaker {
        let mut node = node(name);
        node.0["status"]["declaredFeatures"] = json!(features);
        node
    }

    fn containers(action: &str) -> Value {
        let rule = json!({"action": action, "exitCodes": {"operator": "In", "values": [1]}});
        json!([{"name": "c", "image": "pause", "restartPolicyRules": [rule]}])
    }

    #[test]
    fn a_pod_goes_where_all_features_are_that_it_needs() {
        let bench = Bench::new([
            node("a").build(),
            able("b", &[RESTARTS]).build(),
            able("c", &["UserNamespacesHostNetworkSupport", RESTARTS]).build(),
        ]);
        let restarts = || pod("a").spec("containers", containers("RestartAllContainers"));
        let rows = [
            (pod("a"), [true, true, true]),
            (pod("a").spec("containers", containers("Restart")), [true, true, true]),
            (restarts(), [false, true, true]),
            (pod("a").spec("initContainers", containers("RestartAllContainers")), [false, true, true]),
            (pod("a").spec("hostNetwork", json!(true)), [true, true, true]),
            (restarts().spec("hostNetwork", json!(true)).spec("hostUsers", json!(false)), [false, false, true]),
        ];
        for (maker, expected) in rows {
            let spec = maker.0["spec"].clone();
            assert_eq!(bench.fits(&NodeDeclaredFeatures, &maker.build()), expected, "{spec}");
        }
        assert_eq!(bench.verdicts(&NodeDeclaredFeatures, &restarts().build())[0], [REASON]);
    }

    #[test]
    fn only_a_node_whose_features_change_may_help() {
        let (bench, waiting) =
            (Bench::new([]), pod("a").spec("containers", containers("RestartAllContainers")).build());
        let (old, new) = (node("n").build(), able("n", &[RESTARTS]).build());
        assert!(bench.node_update_helps(&NodeDeclaredFeatures, &waiting, &old, &new));
        let labelled = node("n").label("x", "y").build();
        assert!(!bench.node_update_helps(&NodeDeclaredFeatures, &waiting, &old, &labelled));
        assert!(NodeDeclaredFeatures.may_help(bench.world(), &waiting, &Event::NodeAdded(&old)));
    }
}
