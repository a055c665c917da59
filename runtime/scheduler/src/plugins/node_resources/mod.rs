//! `NodeResourcesFit` and `NodeResourcesBalancedAllocation`: what pods ask for is there, and how it is best shared out.

mod balanced;
mod fit;
mod strategy;

pub(super) use balanced::BalancedAllocation;
pub(super) use fit::Fit;

use crate::cache::NodeInfo;
use crate::config::args::ResourceWeight;
use crate::model::{Pod, Resources};

/// What counts of one resource on one node.
struct Amounts {
    allocatable: i64,
    /// Before the pod.
    used: i64,
    /// What the pod asks for.
    asked: i64,
    weight: i64,
}

/// The amounts of the resources that count; without those that the node has not, and without extended ones that the pod does not
/// ask for. `padded` counts defaults for containers that ask for nothing.
fn amounts<'a>(
    resources: &'a [ResourceWeight],
    pod: &'a Pod,
    info: &'a NodeInfo,
    padded: bool,
) -> impl Iterator<Item = Amounts> + 'a {
    resources.iter().filter_map(move |resource| {
        let (has, used, asks) = (&info.node.allocatable, &info.requested, &pod.spec.requests);
        let (allocatable, used, asked) = match &*resource.name {
            "cpu" if padded => (has.milli_cpu, info.nonzero.milli_cpu, pod.spec.nonzero.milli_cpu),
            "cpu" => (has.milli_cpu, used.milli_cpu, asks.milli_cpu),
            "memory" if padded => (has.memory, info.nonzero.memory, pod.spec.nonzero.memory),
            "memory" => (has.memory, used.memory, asks.memory),
            "ephemeral-storage" => (has.ephemeral_storage, used.ephemeral_storage, asks.ephemeral_storage),
            name if asks.scalar(name) == 0 => return None,
            name => (has.scalar(name), used.scalar(name), asks.scalar(name)),
        };
        (allocatable != 0).then_some(Amounts { allocatable, used, asked, weight: resource.weight })
    })
}

/// What a pod asks for of the resources that count.
fn asks_for_any(resources: &[ResourceWeight], asks: &Resources) -> bool {
    resources.iter().any(|resource| match &*resource.name {
        "cpu" => asks.milli_cpu != 0,
        "memory" => asks.memory != 0,
        "ephemeral-storage" => asks.ephemeral_storage != 0,
        name => asks.scalar(name) != 0,
    })
}
