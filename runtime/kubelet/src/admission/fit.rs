//! Whether there is room.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::resources::{CPU, EPHEMERAL_STORAGE, MEMORY, Overhead, pod_requests, read};

pub(super) const PODS: &str = "pods";

/// A resource that the node has not enough of; processor time in thousandths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shortage {
    pub(super) resource: String,
    requested: i64,
    used: i64,
    capacity: i64,
}

impl Shortage {
    /// How much must become free.
    pub(super) fn missing(&self) -> i64 {
        self.requested - (self.capacity - self.used)
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resource, requested, used, capacity } = self;
        write!(
            f,
            "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
        )
    }
}

/// What is short for a pod, pods first, then what all machines have, then the rest by name.
pub(super) fn shortages(pod: &Pod, others: &[Arc<Pod>], node: &Node) -> Vec<Shortage> {
    let capacity = allocatable(node);
    let mut used: BTreeMap<String, i64> = BTreeMap::new();
    for other in others {
        for (name, amount) in of_pod(other) {
            *used.entry(name).or_default() += amount;
        }
    }
    let of = |list: &BTreeMap<String, i64>, name: &str| list.get(name).copied().unwrap_or(0);
    let short = |resource: &str, requested: i64, used: i64| {
        let capacity = of(&capacity, resource);
        let resource = resource.to_owned();
        (requested > capacity - used).then_some(Shortage { resource, requested, used, capacity })
    };
    let wanted = of_pod(pod);
    let usual = [CPU, MEMORY, EPHEMERAL_STORAGE];
    // What the Node has never heard of is the cluster's to give, not ours.
    let rest = wanted.keys().map(String::as_str).filter(|name| !usual.contains(name));
    let rest = rest.filter(|name| !is_extended(name) || capacity.contains_key(*name));
    let names = usual.into_iter().chain(rest).filter(|name| of(&wanted, name) > 0);
    let count = i64::try_from(others.len()).unwrap_or(i64::MAX);
    let pods = short(PODS, 1, count);
    pods.into_iter().chain(names.filter_map(|name| short(name, of(&wanted, name), of(&used, name)))).collect()
}

/// What a pod requests, as numbers.
pub(super) fn of_pod(pod: &Pod) -> BTreeMap<String, i64> {
    let requests = pod_requests(pod, Overhead::With).into_iter();
    requests
        .map(|(name, amount)| {
            let number = if name == CPU { amount.milli_value() } else { amount.value() };
            (name, number)
        })
        .collect()
}

fn allocatable(node: &Node) -> BTreeMap<String, i64> {
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref()).into_iter().flatten();
    allocatable
        .map(|(name, amount)| {
            let amount = read(amount);
            (name.clone(), if name == CPU { amount.milli_value() } else { amount.value() })
        })
        .collect()
}

/// Resources of someone's own domain.
fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}
