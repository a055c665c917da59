//! `NodeAffinity`: the node's labels and name are as the pod wants them.

use k8s_openapi::api::core::v1::NodeAffinity as ApiAffinity;

use crate::cache::NodeInfo;
use crate::framework::{Event, Plugin, PluginId, PreFilter, Refusal, Score, World, normalize};
use crate::model::{Name, Node, NodeTerm, Pod, PreferredNodes, matches_any};

const REASON: &str = "node(s) didn't match Pod's node affinity/selector";
const ENFORCED: &str = "node(s) didn't match scheduler-enforced node affinity";
const CONFLICT: &str = "pod affinity terms conflict";

/// With the affinity that a profile adds to every pod.
#[derive(Default)]
pub(super) struct NodeAffinity {
    required: Option<Box<[NodeTerm]>>,
    preferred: PreferredNodes,
}

struct Preferred<'a> {
    own: &'a [(i64, NodeTerm)],
    added: &'a [(i64, NodeTerm)],
}

impl NodeAffinity {
    pub(super) fn new(added: Option<&ApiAffinity>) -> Self {
        let Some(added) = added else { return Self::default() };
        let required = added.required_during_scheduling_ignored_during_execution.as_ref();
        let preferred = added.preferred_during_scheduling_ignored_during_execution.iter().flatten();
        Self {
            required: required.map(|required| {
                required.node_selector_terms.iter().map(|term| NodeTerm::of(term, Name::new)).collect()
            }),
            preferred: preferred
                .map(|term| (i64::from(term.weight), NodeTerm::of(&term.preference, Name::new)))
                .collect(),
        }
    }

    fn check(&self, pod: &Pod, node: &Node) -> Result<(), &'static str> {
        if self.required.as_ref().is_some_and(|terms| !matches_any(terms, &node.name, &*node.labels)) {
            return Err(ENFORCED);
        }
        if pod.spec.required_nodes.matches(node) { Ok(()) } else { Err(REASON) }
    }
}

impl Plugin for NodeAffinity {
    fn id(&self) -> PluginId {
        PluginId::NodeAffinity
    }

    fn pre_filter<'a>(&'a self, _world: World<'a>, pod: &'a Pod) -> Result<PreFilter<'a>, Refusal> {
        if self.required.is_none() && pod.spec.required_nodes.is_empty() {
            return Ok(PreFilter::Skip);
        }
        let check = PreFilter::by(|info| {
            self.check(pod, &info.node).map_err(|reason| Refusal::unresolvable(PluginId::NodeAffinity, reason))
        });
        match (pod.spec.required_nodes.names(), check) {
            (Some(names), _) if names.is_empty() => Err(Refusal::unresolvable(PluginId::NodeAffinity, CONFLICT)),
            (Some(names), PreFilter::Check(filter)) => Ok(PreFilter::Among(filter, names)),
            (_, check) => Ok(check),
        }
    }

    fn pre_score<'a>(
        &'a self,
        _world: World<'a>,
        pod: &'a Pod,
        _nodes: &[&'a NodeInfo],
    ) -> Option<Box<dyn Score + 'a>> {
        let own = &*pod.spec.preferred_nodes;
        let any = !own.is_empty() || !self.preferred.is_empty();
        any.then(|| -> Box<dyn Score + 'a> { Box::new(Preferred { own, added: &self.preferred }) })
    }

    fn may_help(&self, _world: World<'_>, pod: &Pod, event: &Event<'_>) -> bool {
        match event {
            Event::NodeAdded(node) => self.check(pod, node).is_ok(),
            Event::NodeUpdated { old, new, change } => {
                change.labels && self.check(pod, new).is_ok() && !pod.spec.required_nodes.matches(old)
            }
            _ => false,
        }
    }
}

impl Score for Preferred<'_> {
    fn score(&self, info: &NodeInfo) -> i64 {
        let terms = self.own.iter().chain(self.added);
        terms.filter(|(_, term)| term.holds(&info.node.name, &*info.node.labels)).map(|(weight, _)| weight).sum()
    }

    fn normalize(&self, _nodes: &[&NodeInfo], scores: &mut [i64]) {
        normalize(scores, false);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::plugins::testing::Bench;
    use crate::testing::{node, pod};

    fn required(terms: Value) -> Value {
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}})
    }

    fn labelled(key: &str, operator: &str, values: &[&str]) -> Value {
        json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]})
    }

    fn named(operator: &str, values: &[&str]) -> Value {
        json!({"matchFields": [{"key": "metadata.name", "operator": operator, "values": values}]})
    }

    #[test]
    fn a_pod_goes_to_nodes_that_its_selector_and_affinity_select() {
        let bench = Bench::new([node("n").label("foo", "bar").label("gpu", "5").build()]);
        let rows = [
            (json!(null), json!(null), true),
            (json!({"foo": "bar"}), json!(null), true),
            (json!({"foo": "other"}), json!(null), false),
            (json!(null), required(json!([labelled("foo", "In", &["bar", "value2"])])), true),
            (json!(null), required(json!([labelled("gpu", "Gt", &["4"])])), true),
            (json!(null), required(json!([labelled("gpu", "Lt", &["4"])])), false),
            (json!(null), required(json!([labelled("mem", "NotIn", &["available"])])), true),
            (json!(null), required(json!([labelled("mem", "Exists", &[])])), false),
            // One of the terms is enough; a term without conditions holds nowhere.
            (json!(null), required(json!([labelled("foo", "In", &["x"]), labelled("foo", "Exists", &[])])), true),
            (json!(null), required(json!([{}])), false),
            (json!(null), required(json!([])), false),
            // Selector and affinity must both hold.
            (json!({"foo": "bar"}), required(json!([labelled("foo", "In", &["x"])])), false),
            (json!(null), required(json!([named("In", &["n"])])), true),
            (json!(null), required(json!([named("In", &["m"])])), false),
            (json!(null), required(json!([named("NotIn", &["m"])])), true),
        ];
        for (selector, affinity, fits) in rows {
            let pod = pod("a").spec("nodeSelector", selector.clone()).spec("affinity", affinity.clone()).build();
            assert_eq!(bench.fits(&NodeAffinity::default(), &pod), [fits], "{selector} {affinity}");
        }
    }

    #[test]
    fn an_affinity_that_names_nodes_narrows_the_search_and_may_contradict_itself() {
        let bench = Bench::new([node("n").build(), node("m").build()]);
        let plugin = NodeAffinity::default();
        let names = |terms: Value| {
            let pod = pod("a").spec("affinity", required(terms)).build();
            match plugin.pre_filter(bench.world(), &pod) {
                Ok(PreFilter::Among(_, names)) => Ok(Some(names.iter().map(ToString::to_string).collect::<Vec<_>>())),
                Ok(_) => Ok(None),
                Err(refusal) => Err(refusal.message()),
            }
        };
        assert_eq!(
            names(json!([named("In", &["n"]), named("In", &["m", "n"])])),
            Ok(Some(vec!["m".to_owned(), "n".to_owned()]))
        );
        assert_eq!(names(json!([named("In", &["n"]), labelled("foo", "Exists", &[])])), Ok(None));
        let both = json!({"matchFields": [
            {"key": "metadata.name", "operator": "In", "values": ["n"]},
            {"key": "metadata.name", "operator": "In", "values": ["m"]}]});
        assert_eq!(names(json!([both])), Err(CONFLICT.to_owned()));
    }

    #[test]
    fn nodes_that_more_preferred_terms_hold_for_score_higher() {
        let bench = Bench::new([
            node("a").label("foo", "bar").build(),
            node("b").label("foo", "bar").label("key", "value").build(),
            node("c").build(),
        ]);
        let terms = json!([
            {"weight": 2, "preference": labelled("foo", "In", &["bar"])},
            {"weight": 4, "preference": labelled("key", "In", &["value"])},
        ]);
        let affinity = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": terms}});
        let wants = pod("a").spec("affinity", affinity).build();
        assert_eq!(bench.scores(&NodeAffinity::default(), &wants), Some(vec![33, 100, 0]));
        assert_eq!(bench.scores(&NodeAffinity::default(), &pod("a").build()), None);
    }

    #[test]
    fn a_profile_can_add_affinity_of_its_own() {
        let added = json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [labelled("foo", "Exists", &[])]}});
        let plugin = NodeAffinity::new(Some(&serde_json::from_value(added).unwrap()));
        let bench = Bench::new([node("a").label("foo", "bar").build(), node("b").build()]);
        assert_eq!(bench.verdicts(&plugin, &pod("a").build()), [vec![], vec![ENFORCED]]);
    }

    #[test]
    fn only_labels_that_make_the_node_match_may_help() {
        let bench = Bench::new([]);
        let waiting = pod("a").spec("nodeSelector", json!({"foo": "bar"})).build();
        let (bare, fit) = (node("n").build(), node("n").label("foo", "bar").build());
        let plugin = NodeAffinity::default();
        assert!(bench.node_update_helps(&plugin, &waiting, &bare, &fit));
        assert!(!bench.node_update_helps(&plugin, &waiting, &fit, &bare));
        assert!(!bench.node_update_helps(
            &plugin,
            &waiting,
            &fit,
            &node("n").label("foo", "bar").label("x", "y").build()
        ));
    }
}
