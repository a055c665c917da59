//! `NodeResourcesFit`.

use super::{amounts, strategy};
use crate::cache::NodeInfo;
use crate::config::args::FitArgs;
use crate::framework::{Code, Event, Plugin, PluginId, PreFilter, Refusal, Score, Verdict, World};
use crate::model::{Node, Pod, Resources};

pub(in crate::plugins) struct Fit {
    args: FitArgs,
}

struct Allocation<'a> {
    args: &'a FitArgs,
    pod: &'a Pod,
}

impl Fit {
    pub(in crate::plugins) fn new(args: FitArgs) -> Self {
        Self { args }
    }

    /// Whether extended resources of this name are none of the scheduler's business.
    fn ignores(&self, resource: &str) -> bool {
        let Some((group, _)) = resource.split_once('/') else { return false };
        !group.ends_with("kubernetes.io")
            && (self.args.ignored_resources.iter().any(|ignored| ignored == resource)
                || self.args.ignored_resource_groups.iter().any(|ignored| ignored == group))
    }

    fn check(&self, asks: &Resources, node: &Node, pods: usize, used: &Resources) -> Verdict {
        let mut refusal =
            Refusal { code: Code::Unschedulable, plugin: PluginId::NodeResourcesFit, reasons: Vec::new() };
        if i64::try_from(pods).unwrap_or(i64::MAX) >= node.allowed_pods {
            refusal.reasons.push("Too many pods".into());
        }
        let has = &node.allocatable;
        let standard = [
            ("Insufficient cpu", asks.milli_cpu, has.milli_cpu, used.milli_cpu),
            ("Insufficient memory", asks.memory, has.memory, used.memory),
            ("Insufficient ephemeral-storage", asks.ephemeral_storage, has.ephemeral_storage, used.ephemeral_storage),
        ];
        for (reason, asked, all, used) in standard {
            if asked > 0 && asked > all - used {
                refusal.reasons.push(reason.into());
                if asked > all {
                    refusal.code = Code::Unresolvable;
                }
            }
        }
        for (name, asked) in asks.scalars.iter().filter(|(name, asked)| *asked != 0 && !self.ignores(name)) {
            let all = has.scalar(name);
            if *asked > all - used.scalar(name) {
                refusal.reasons.push(format!("Insufficient {name}").into());
                if *asked > all {
                    refusal.code = Code::Unresolvable;
                }
            }
        }
        if refusal.reasons.is_empty() { Ok(()) } else { Err(refusal) }
    }

    /// Whether a node grew in something that the pod asks for.
    fn has_grown(asks: &Resources, old: &Node, new: &Node) -> bool {
        let (before, now) = (&old.allocatable, &new.allocatable);
        new.allowed_pods > old.allowed_pods
            || asks.milli_cpu > 0 && now.milli_cpu > before.milli_cpu
            || asks.memory > 0 && now.memory > before.memory
            || asks.ephemeral_storage > 0 && now.ephemeral_storage > before.ephemeral_storage
            || asks.scalars.iter().any(|(name, asked)| *asked != 0 && now.scalar(name) > before.scalar(name))
    }

    /// Whether a pod that asks for less leaves something that another asks for.
    fn leaves(asks: &Resources, old: &Resources, new: &Resources) -> bool {
        asks.milli_cpu > 0 && old.milli_cpu > new.milli_cpu
            || asks.memory > 0 && old.memory > new.memory
            || asks.ephemeral_storage > 0 && old.ephemeral_storage > new.ephemeral_storage
            || asks.scalars.iter().any(|(name, asked)| *asked != 0 && old.scalar(name) > new.scalar(name))
    }
}

impl Plugin for Fit {
    fn id(&self) -> PluginId {
        PluginId::NodeResourcesFit
    }

    fn pre_filter<'a>(&'a self, _world: World<'a>, pod: &'a Pod) -> Result<PreFilter<'a>, Refusal> {
        let asks = &pod.spec.requests;
        Ok(PreFilter::by(move |info| self.check(asks, &info.node, info.pods.len(), &info.requested)))
    }

    fn pre_score<'a>(
        &'a self,
        _world: World<'a>,
        pod: &'a Pod,
        _nodes: &[&'a NodeInfo],
    ) -> Option<Box<dyn Score + 'a>> {
        Some(Box::new(Allocation { args: &self.args, pod }))
    }

    fn may_help(&self, _world: World<'_>, pod: &Pod, event: &Event<'_>) -> bool {
        let asks = &pod.spec.requests;
        let fits_empty = |node: &Node| self.check(asks, node, 0, &Resources::default()).is_ok();
        match event {
            Event::PodGone(gone) => gone.has_place(),
            Event::SelfUpdated { change, .. } => change.scaled_down,
            Event::PodUpdated { old, new, change } => {
                change.scaled_down && Self::leaves(asks, &old.spec.requests, &new.spec.requests)
            }
            Event::NodeAdded(node) => fits_empty(node),
            Event::NodeUpdated { old, new, change } => {
                change.allocatable && fits_empty(new) && Self::has_grown(asks, old, new)
            }
            _ => false,
        }
    }
}

impl Score for Allocation<'_> {
    fn score(&self, info: &NodeInfo) -> i64 {
        let strategy = &self.args.scoring_strategy;
        strategy::points(strategy, amounts(&strategy.resources, self.pod, info, true))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::args::{ResourceWeight, ScoringStrategy, ShapePoint, StrategyType};
    use crate::framework::NodeChange;
    use crate::plugins::testing::Bench;
    use crate::testing::{node, pod};

    fn fit() -> Fit {
        Fit::new(FitArgs::default())
    }

    #[test]
    fn a_pod_fits_where_all_that_it_asks_for_is_left() {
        // Used and asked in milli-CPU and bytes on a node of 10 and 20, as in the reference's test.
        type Amounts = (i64, i64);
        let rows: [(Amounts, Amounts, &[&str]); 7] = [
            ((10, 20), (0, 0), &[]),
            ((10, 20), (1, 1), &["Insufficient cpu", "Insufficient memory"]),
            ((5, 5), (1, 1), &[]),
            ((5, 19), (2, 2), &["Insufficient memory"]),
            ((9, 19), (2, 1), &["Insufficient cpu"]),
            ((5, 19), (1, 1), &[]),
            ((5, 5), (5, 15), &[]),
        ];
        let make =
            |name: &str, (cpu, memory): (i64, i64)| pod(name).cpu(&format!("{cpu}m")).memory(&memory.to_string());
        for (used, asked, reasons) in rows {
            let bench = Bench::new([node("n").cpu("10m").memory("20").build()]).with([make("b", used).on("n").build()]);
            assert_eq!(bench.verdicts(&fit(), &make("a", asked).build()), [reasons.to_vec()], "{used:?} {asked:?}");
        }
    }

    #[test]
    fn more_than_the_node_ever_has_is_final_and_less_is_not() {
        let bench = Bench::new([node("n").cpu("4").build()]).with([pod("b").cpu("3").on("n").build()]);
        let plugin = fit();
        let code = |cpu: &str| {
            let asks = pod("a").cpu(cpu).build();
            let check = plugin.pre_filter(bench.world(), &asks);
            match check {
                Ok(PreFilter::Check(filter)) => filter.check(&bench.cache.nodes()[0]).unwrap_err().code,
                _ => panic!("it always judges"),
            }
        };
        assert_eq!((code("2"), code("5")), (Code::Unschedulable, Code::Unresolvable));
    }

    #[test]
    fn extended_resources_count_unless_the_profile_ignores_them() {
        let bench = Bench::new([node("n").has("example.com/aaa", "5").has("hugepages-2Mi", "4Mi").build()])
            .with([pod("b").asks("example.com/aaa", "3").on("n").build()]);
        let reasons = |plugin: &Fit, resource: &str, amount: &str| {
            bench.verdicts(plugin, &pod("a").asks(resource, amount).build()).remove(0)
        };
        assert_eq!(reasons(&fit(), "example.com/aaa", "2"), [""; 0]);
        assert_eq!(reasons(&fit(), "example.com/aaa", "3"), ["Insufficient example.com/aaa"]);
        assert_eq!(reasons(&fit(), "example.com/bbb", "1"), ["Insufficient example.com/bbb"]);
        assert_eq!(reasons(&fit(), "hugepages-2Mi", "6Mi"), ["Insufficient hugepages-2Mi"]);
        let ignoring = |resources: &[&str], groups: &[&str]| {
            let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            Fit::new(FitArgs {
                ignored_resources: list(resources),
                ignored_resource_groups: list(groups),
                ..FitArgs::default()
            })
        };
        assert_eq!(reasons(&ignoring(&["example.com/bbb"], &[]), "example.com/bbb", "2"), [""; 0]);
        assert_eq!(reasons(&ignoring(&[], &["example.com"]), "example.com/bbb", "2"), [""; 0]);
    }

    #[test]
    fn a_node_takes_only_so_many_pods() {
        let bench = Bench::new([node("n").has("pods", "1").build()]).with([pod("b").on("n").build()]);
        assert_eq!(bench.verdicts(&fit(), &pod("a").build()), [["Too many pods"]]);
    }

    fn scored(kind: StrategyType, shape: &[(i64, i64)]) -> Fit {
        let weight = |name: &str| ResourceWeight { name: name.to_owned(), weight: 1 };
        let shape = shape.iter().map(|(utilization, score)| ShapePoint { utilization: *utilization, score: *score });
        let resources = vec![weight("cpu"), weight("memory")];
        let scoring_strategy = ScoringStrategy { kind, resources, shape: shape.collect() };
        Fit::new(FitArgs { scoring_strategy, ..FitArgs::default() })
    }

    #[test]
    fn strategies_prefer_empty_full_or_shaped_nodes() {
        let bench = Bench::new([
            node("a").cpu("4000m").memory("10000").build(),
            node("b").cpu("6000m").memory("10000").build(),
        ]);
        let asks = pod("a").cpu("3000m").memory("5000").build();
        // The reference's rows for "nothing scheduled, resources requested, differently sized nodes".
        assert_eq!(bench.scores(&scored(StrategyType::LeastAllocated, &[]), &asks), Some(vec![37, 50]));
        assert_eq!(bench.scores(&scored(StrategyType::MostAllocated, &[]), &asks), Some(vec![62, 50]));
        let shape = [(0, 10), (100, 0)];
        assert_eq!(bench.scores(&scored(StrategyType::RequestedToCapacityRatio, &shape), &asks), Some(vec![38, 50]));
    }

    #[test]
    fn only_what_makes_room_for_what_is_asked_may_help() {
        let bench = Bench::new([]);
        let (plugin, waiting) = (fit(), pod("a").cpu("2").build());
        let sized = |cpu: &str, memory: &str| node("n").cpu(cpu).memory(memory).build();
        let rows = [
            ((sized("1", "1Gi"), sized("2", "1Gi")), true),
            ((sized("1", "1Gi"), sized("1500m", "1Gi")), false),
            ((sized("2", "1Gi"), sized("2", "2Gi")), false),
        ];
        for ((old, new), expected) in rows {
            assert_eq!(bench.node_update_helps(&plugin, &waiting, &old, &new), expected);
        }
        let helps = |gone: Arc<Pod>| plugin.may_help(bench.world(), &waiting, &Event::PodGone(&gone));
        assert!(helps(pod("b").on("n").build()));
        assert!(!helps(pod("b").build()), "it had no node");
        assert!(!NodeChange::between(&sized("1", "1"), &sized("1", "1")).allocatable);
    }
}
