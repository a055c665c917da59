//! `NodeResourcesBalancedAllocation`: a node on which no resource runs out much before the others is better.

use super::{amounts, asks_for_any};
use crate::cache::NodeInfo;
use crate::config::args::ResourceWeight;
use crate::framework::{MAX_SCORE, Plugin, PluginId, Score, World};
use crate::model::Pod;

pub(in crate::plugins) struct BalancedAllocation {
    resources: Vec<ResourceWeight>,
}

struct Balance<'a> {
    resources: &'a [ResourceWeight],
    pod: &'a Pod,
}

impl BalancedAllocation {
    pub(in crate::plugins) fn new(resources: Vec<ResourceWeight>) -> Self {
        Self { resources }
    }
}

impl Plugin for BalancedAllocation {
    fn id(&self) -> PluginId {
        PluginId::NodeResourcesBalancedAllocation
    }

    fn pre_score<'a>(
        &'a self,
        _world: World<'a>,
        pod: &'a Pod,
        _nodes: &[&'a NodeInfo],
    ) -> Option<Box<dyn Score + 'a>> {
        let any = asks_for_any(&self.resources, &pod.spec.requests);
        any.then(|| -> Box<dyn Score + 'a> { Box::new(Balance { resources: &self.resources, pod }) })
    }
}

impl Score for Balance<'_> {
    fn score(&self, info: &NodeInfo) -> i64 {
        let of = |with_pod: bool| {
            let amounts = amounts(self.resources, self.pod, info, false);
            balance(amounts.map(|amount| (amount.used + if with_pod { amount.asked } else { 0 }, amount.allocatable)))
        };
        MAX_SCORE / 2 + (MAX_SCORE / 2 + of(true) - of(false)) / 2
    }
}

/// How alike the used parts are: [`MAX_SCORE`] less their standard deviation.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "fractions, as the reference computes them"
)]
fn balance(amounts: impl Iterator<Item = (i64, i64)>) -> i64 {
    let fractions: Vec<f64> = amounts.map(|(used, all)| (used as f64 / all as f64).min(1.0)).collect();
    let deviation = match &*fractions {
        [] | [_] => 0.0,
        [a, b] => ((a - b) / 2.0).abs(),
        _ => {
            let mean = fractions.iter().sum::<f64>() / fractions.len() as f64;
            (fractions.iter().map(|f| (f - mean).powi(2)).sum::<f64>() / fractions.len() as f64).sqrt()
        }
    };
    ((1.0 - deviation) * MAX_SCORE as f64) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::testing::Bench;
    use crate::testing::{node, pod};

    fn plugin() -> BalancedAllocation {
        let weight = |name: &str| ResourceWeight { name: name.to_owned(), weight: 1 };
        BalancedAllocation::new(vec![weight("cpu"), weight("memory")])
    }

    #[test]
    fn a_pod_that_evens_out_what_is_used_scores_higher() {
        let bench = Bench::new([node("a").cpu("10").memory("20").build(), node("b").cpu("10").memory("20").build()])
            .with([pod("x").cpu("6").memory("4").on("a").build(), pod("y").cpu("2").memory("12").on("b").build()]);
        let asks = pod("p").cpu("3").memory("2").build();
        // On a: 0.6/0.2 becomes 0.9/0.3, from 80 to 70; on b: 0.2/0.6 becomes 0.5/0.7, from 80 to 90.
        assert_eq!(bench.scores(&plugin(), &asks), Some(vec![70, 80]));
    }

    #[test]
    fn a_pod_that_asks_for_nothing_gets_no_score() {
        assert_eq!(Bench::new([node("a").build()]).scores(&plugin(), &pod("p").build()), None);
    }

    #[test]
    fn the_balance_of_three_resources_is_their_standard_deviation() {
        assert_eq!(balance([(1, 2), (1, 2), (1, 2)].into_iter()), 100);
        assert_eq!(balance([(0, 2), (1, 2), (2, 2)].into_iter()), 59);
        assert_eq!(balance([(5, 2)].into_iter()), 100);
    }
}
