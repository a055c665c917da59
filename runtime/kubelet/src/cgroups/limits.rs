//! Amounts as the kernel's numbers.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::resources::{
    self, CPU, HUGE_PAGES, MEMORY, Overhead, Qos, amount, page_size, pod_level, pod_limits as limits_of, pod_requests,
    qos,
};

/// The shares of processor time that a group can have.
pub(super) const LEAST_SHARES: u64 = 2;
const MOST_SHARES: u64 = 262_144;
/// Over how many microseconds a quota of processor time is reckoned.
pub const PERIOD: i64 = 100_000;
/// The least quota that the kernel takes, in microseconds.
const LEAST_QUOTA: i64 = 1_000;

/// What a group may have; `None` leaves it as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Its part of processor time when there is not enough, from 2 to 262,144; 1,024 is that of a whole processor.
    pub shares: Option<u64>,
    /// Microseconds of processor time in each [`PERIOD`]; -1 for no limit.
    pub quota: Option<i64>,
    /// Bytes of memory; -1 for no limit.
    pub memory: Option<i64>,
    /// Processes and threads; -1 for no limit.
    pub pids: Option<i64>,
    /// Bytes in huge pages by the pages' size; sizes that are missing are limited to nothing.
    pub huge_pages: Option<BTreeMap<u64, i64>>,
}

/// Shares of thousandths of a processor.
pub fn shares(milli: i64) -> u64 {
    u64::try_from(milli.saturating_mul(1024) / 1000).unwrap_or(0).clamp(LEAST_SHARES, MOST_SHARES)
}

/// The quota of thousandths of a processor; 0 for none.
pub fn quota(milli: i64) -> i64 {
    if milli == 0 { 0 } else { (milli.saturating_mul(PERIOD) / 1000).max(LEAST_QUOTA) }
}

/// What a pod's group may have: its containers' sums, a limit only if each container has one.
pub fn pod_limits(pod: &Pod, cpu_quota: bool) -> Limits {
    let (requests, limits) = (pod_requests(pod, Overhead::With), limits_of(pod, Overhead::With));
    let limit = |name: &str| limits.get(name).copied();
    let cpu = requests.get(CPU).map_or(0, |cpu| cpu.milli_value());
    let quota = if cpu_quota { quota(limit(CPU).map_or(0, |cpu| cpu.milli_value())) } else { -1 };
    let memory = limit(MEMORY).map_or(0, |memory| memory.value());
    let pages = requests.iter().filter(|(name, _)| name.starts_with(HUGE_PAGES));
    let pages = pages.filter_map(|(name, amount)| Some((page_size(name)?, amount.value())));
    let huge_pages = Some(pages.collect());
    match qos(pod) {
        Qos::BestEffort => Limits { shares: Some(LEAST_SHARES), huge_pages, ..Limits::default() },
        Qos::Guaranteed => {
            Limits { shares: Some(shares(cpu)), quota: Some(quota), memory: Some(memory), huge_pages, pids: None }
        }
        Qos::Burstable => Limits {
            shares: Some(shares(cpu)),
            quota: has_all(pod, CPU).then_some(quota),
            memory: has_all(pod, MEMORY).then_some(memory),
            huge_pages,
            pids: None,
        },
    }
}

/// Whether each container, or the pod as a whole, has a limit.
fn has_all(pod: &Pod, name: &str) -> bool {
    let whole = pod_level(pod).is_some_and(|whole| !amount(whole.limits.as_ref(), name).is_zero());
    let limited = |container: &Container| !amount(resources::limits(container), name).is_zero();
    let spec = pod.spec.as_ref();
    whole || spec.is_some_and(|s| s.containers.iter().chain(s.init_containers.iter().flatten()).all(limited))
}

/// Version 2's weight of version 1's shares (KEP-2254).
pub(super) fn weight(shares: u64) -> u64 {
    let shares = shares.clamp(LEAST_SHARES, MOST_SHARES);
    1 + (shares - 2) * 9999 / 262_142
}

/// The way back.
pub(super) fn shares_of_weight(weight: u64) -> u64 {
    weight.saturating_sub(1) * 262_142 / 9999 + 2
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn processor_time_is_shares_weight_and_quota() {
        let rows = [
            (0, 2, 1, 0),
            (1, 2, 1, 1_000),
            (100, 102, 4, 10_000),
            (1000, 1024, 39, 100_000),
            (1_000_000, 262_144, 10_000, 100_000_000),
        ];
        for (milli, shares_, weight_, quota_) in rows {
            assert_eq!((shares(milli), weight(shares(milli)), quota(milli)), (shares_, weight_, quota_), "{milli}");
        }
        assert_eq!((shares_of_weight(1), shares_of_weight(10_000)), (2, 262_144));
    }

    #[test]
    fn a_pod_is_limited_if_all_its_containers_are() {
        let of = |containers: Value, whole: Value| {
            let pod = json!({"spec": {"containers": containers, "resources": whole}});
            pod_limits(&serde_json::from_value(pod).expect("a pod"), true)
        };
        let container = |requests: Value, limits: Value| json!({"name": "c", "resources": {"requests": requests, "limits": limits}});
        let both = json!({"cpu": "1", "memory": "1Gi"});
        let pages = |pages: &[(u64, i64)]| Some(pages.iter().copied().collect());
        let found = of(json!([container(both.clone(), both.clone())]), Value::Null);
        let expected = Limits {
            shares: Some(1024),
            quota: Some(100_000),
            memory: Some(1 << 30),
            pids: None,
            huge_pages: pages(&[]),
        };
        assert_eq!(found, expected);
        let found = of(
            json!([container(both.clone(), both.clone()), container(json!({}), json!({"memory": "1Gi"}))]),
            Value::Null,
        );
        assert_eq!((found.quota, found.memory), (None, Some(2 << 30)));
        let found = of(json!([container(json!({}), json!({}))]), Value::Null);
        assert_eq!(found, Limits { shares: Some(2), huge_pages: pages(&[]), ..Limits::default() });
        let found = of(json!([container(json!({}), json!({}))]), json!({"limits": both, "requests": {"cpu": "500m"}}));
        assert_eq!((found.shares, found.quota, found.memory), (Some(512), Some(100_000), Some(1 << 30)));
        let huge = json!({"hugepages-2Mi": "4Mi", "memory": "1Mi"});
        assert_eq!(of(json!([container(huge.clone(), huge)]), Value::Null).huge_pages, pages(&[(2 << 20, 4 << 20)]));
    }
}
