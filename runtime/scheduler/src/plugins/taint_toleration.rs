//! `TaintToleration`: taints keep pods away that don't tolerate them; nodes with fewer taints of the soft kind are better.

use crate::cache::NodeInfo;
use crate::framework::{Event, Plugin, PluginId, PreFilter, Refusal, Score, World, normalize};
use crate::model::{Effect, Pod, Toleration, blocking_taint};

const REASON: &str = "node(s) had untolerated taint(s)";

pub(super) struct TaintToleration;

struct SoftTaints<'a>(Vec<&'a Toleration>);

impl Plugin for TaintToleration {
    fn id(&self) -> PluginId {
        PluginId::TaintToleration
    }

    fn pre_filter<'a>(&'a self, _world: World<'a>, pod: &'a Pod) -> Result<PreFilter<'a>, Refusal> {
        Ok(PreFilter::by(|info| match blocking_taint(&info.node.taints, &pod.spec.tolerations) {
            None => Ok(()),
            Some(_) => Err(Refusal::unresolvable(PluginId::TaintToleration, REASON)),
        }))
    }

    fn pre_score<'a>(
        &'a self,
        _world: World<'a>,
        pod: &'a Pod,
        _nodes: &[&'a NodeInfo],
    ) -> Option<Box<dyn Score + 'a>> {
        let soft = |toleration: &&Toleration| toleration.effect.is_none_or(|effect| effect == Effect::PreferNoSchedule);
        Some(Box::new(SoftTaints(pod.spec.tolerations.iter().filter(soft).collect())))
    }

    fn may_help(&self, _world: World<'_>, pod: &Pod, event: &Event<'_>) -> bool {
        match event {
            Event::NodeAdded(node) => blocking_taint(&node.taints, &pod.spec.tolerations).is_none(),
            Event::NodeUpdated { old, new, change } if change.taints => {
                blocking_taint(&old.taints, &pod.spec.tolerations).is_some()
                    && blocking_taint(&new.taints, &pod.spec.tolerations).is_none()
            }
            Event::SelfUpdated { change, .. } => change.tolerations,
            _ => false,
        }
    }
}

impl Score for SoftTaints<'_> {
    fn score(&self, info: &NodeInfo) -> i64 {
        let soft = info.node.taints.iter().filter(|taint| taint.effect == Effect::PreferNoSchedule);
        let bad = soft.filter(|taint| !self.0.iter().any(|toleration| toleration.tolerates(taint)));
        i64::try_from(bad.count()).unwrap_or(i64::MAX)
    }

    fn normalize(&self, _nodes: &[&NodeInfo], scores: &mut [i64]) {
        normalize(scores, true);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::plugins::testing::Bench;
    use crate::testing::{node, pod};

    fn equal(key: &str, value: &str, effect: &str) -> Value {
        json!({"key": key, "operator": "Equal", "value": value, "effect": effect})
    }

    #[test]
    fn only_pods_that_tolerate_every_hard_taint_come_in() {
        let rows = [
            (json!([]), ("dedicated", "user1", "NoSchedule"), false),
            (json!([equal("dedicated", "user1", "NoSchedule")]), ("dedicated", "user1", "NoSchedule"), true),
            (json!([equal("dedicated", "user2", "NoSchedule")]), ("dedicated", "user1", "NoSchedule"), false),
            (json!([{"key": "foo", "operator": "Exists", "effect": "NoSchedule"}]), ("foo", "bar", "NoSchedule"), true),
            (json!([equal("foo", "bar", "PreferNoSchedule")]), ("foo", "bar", "NoSchedule"), false),
            (json!([equal("foo", "bar", "NoSchedule")]), ("foo", "bar", "NoExecute"), false),
            (json!([]), ("dedicated", "user1", "PreferNoSchedule"), true),
        ];
        for (tolerations, (key, value, effect), fits) in rows {
            let bench = Bench::new([node("n").taint(key, value, effect).build()]);
            let pod = pod("a").spec("tolerations", tolerations.clone()).build();
            let expected = if fits { vec![] } else { vec![REASON] };
            assert_eq!(bench.verdicts(&TaintToleration, &pod), [expected], "{tolerations} {effect}");
        }
    }

    #[test]
    fn nodes_with_fewer_soft_taints_that_are_not_tolerated_score_higher() {
        let soft = |name: &str, keys: &[&str]| {
            keys.iter().fold(node(name), |node, key| node.taint(key, "", "PreferNoSchedule")).build()
        };
        let bench = Bench::new([soft("a", &[]), soft("b", &["cpu-type"]), soft("c", &["cpu-type", "disk-type"])]);
        let tolerates = |keys: &[&str]| {
            let all: Vec<_> = keys.iter().map(|key| json!({"key": key, "operator": "Exists"})).collect();
            pod("a").spec("tolerations", json!(all)).build()
        };
        assert_eq!(bench.scores(&TaintToleration, &tolerates(&[])), Some(vec![100, 50, 0]));
        assert_eq!(bench.scores(&TaintToleration, &tolerates(&["cpu-type", "disk-type"])), Some(vec![100, 100, 100]));
        assert_eq!(bench.scores(&TaintToleration, &tolerates(&["disk-type"])), Some(vec![100, 0, 0]));
    }

    #[test]
    fn only_a_taint_that_goes_may_help() {
        let (bench, waiting) = (Bench::new([]), pod("a").build());
        let (tainted, clean) = (node("n").taint("k", "", "NoSchedule").build(), node("n").build());
        assert!(bench.node_update_helps(&TaintToleration, &waiting, &tainted, &clean));
        assert!(!bench.node_update_helps(&TaintToleration, &waiting, &clean, &tainted));
        assert!(!TaintToleration.may_help(bench.world(), &waiting, &Event::NodeAdded(&tainted)));
    }
}
