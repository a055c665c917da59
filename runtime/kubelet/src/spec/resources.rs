//! Requests and limits as what the kernel takes.

use k8s_openapi::api::core::v1::{Container, Pod};
use kiln_apimachinery::quantity::Quantity;

use super::NodeContext;
use crate::cgroups::{self, shares};
use crate::cri::{HugepageLimit, LinuxContainerResources};
use crate::resources::{
    self, Amounts, CPU, HUGE_PAGES, MEMORY, Overhead, Qos, amount, find, is_critical, is_node_critical, is_sidecar,
    page_size, pod_level, pod_limits, pod_requests, qos,
};

/// How likely processes are killed when memory runs short: that of pods which get all they ask for, and of those that ask for
/// nothing.
const GUARANTEED: i64 = -997;
const BEST_EFFORT: i64 = 1000;

/// A container's resources; also those to be set when they are changed in place.
pub fn container_resources(pod: &Pod, container: &Container, node: &NodeContext) -> LinuxContainerResources {
    let limits = resources::limits(container);
    let whole = pod_level(pod).and_then(|whole| whole.limits.as_ref());
    let limit = |name: &str| {
        let own = amount(limits, name);
        if own.is_zero() { amount(whole, name) } else { own }
    };
    let request = find(resources::requests(container), CPU);
    let mut resources = of_amounts(request, limit(CPU), limit(MEMORY), node);
    resources.oom_score_adj = oom_score(pod, container, node.memory);
    resources.hugepage_limits = huge_pages(pod, container, node);
    forbid_swap(&mut resources, node);
    resources
}

/// What all containers of a pod have together, without what the runtime takes, and that.
pub fn sandbox_resources(pod: &Pod, node: &NodeContext) -> (LinuxContainerResources, LinuxContainerResources) {
    let requests = pod_requests(pod, Overhead::Without);
    let limits = pod_limits(pod, Overhead::Without);
    let of = |list: &Amounts, name: &str| list.get(name).copied().unwrap_or(Quantity::ZERO);
    let all = of_amounts(requests.get(CPU).copied(), of(&limits, CPU), of(&limits, MEMORY), node);
    let extra = pod.spec.as_ref().and_then(|spec| spec.overhead.as_ref());
    let overhead = extra.map(|extra| {
        let cpu = amount(Some(extra), CPU);
        of_amounts(Some(cpu), cpu, amount(Some(extra), MEMORY), node)
    });
    (all, overhead.unwrap_or_default())
}

fn of_amounts(
    request: Option<Quantity>,
    cpu: Quantity,
    memory: Quantity,
    node: &NodeContext,
) -> LinuxContainerResources {
    let mut resources = LinuxContainerResources {
        cpu_shares: i64::try_from(shares(request.unwrap_or(cpu).milli_value())).unwrap_or(i64::MAX),
        memory_limit_in_bytes: memory.value(),
        ..LinuxContainerResources::default()
    };
    if node.cpu_quota {
        resources.cpu_period = cgroups::PERIOD;
        resources.cpu_quota = cgroups::quota(cpu.milli_value());
    }
    if node.cgroup_v2 {
        // A container that runs out of memory ends as a whole, not process by process.
        resources.unified.insert("memory.oom.group".to_owned(), "1".to_owned());
    }
    resources
}

fn forbid_swap(resources: &mut LinuxContainerResources, node: &NodeContext) {
    if !node.counts_swap {
        return;
    }
    if node.cgroup_v2 {
        resources.unified.insert("memory.swap.max".to_owned(), "0".to_owned());
    } else {
        // Memory and swap together: no more than memory alone.
        resources.memory_swap_limit_in_bytes = resources.memory_limit_in_bytes;
    }
}

fn oom_score(pod: &Pod, container: &Container, memory: u64) -> i64 {
    if is_critical(pod) && is_node_critical(pod) {
        return GUARANTEED;
    }
    match qos(pod) {
        Qos::Guaranteed => return GUARANTEED,
        Qos::BestEffort => return BEST_EFFORT,
        Qos::Burstable => {}
    }
    let memory = i64::try_from(memory).unwrap_or(i64::MAX).max(1);
    let share = |request: i64| 1000 - (i128::from(request) * 1000 / i128::from(memory)) as i64;
    let rest = rest_per_container(pod);
    let mut score = share(amount(resources::requests(container), MEMORY).value() + rest);
    let spec = pod.spec.as_ref();
    let is_init =
        spec.is_some_and(|spec| spec.init_containers.iter().flatten().any(|init| init.name == container.name));
    if is_init && is_sidecar(container) {
        // A sidecar must not be killed before the containers that it serves.
        let regular = spec.into_iter().flat_map(|spec| &spec.containers);
        let least = regular.map(|main| amount(resources::requests(main), MEMORY).value()).min().unwrap_or(0);
        score = score.min(share(least + rest));
    }
    // Above those that get all they ask for, below those that ask for nothing.
    score.clamp(1000 + GUARANTEED, BEST_EFFORT - 1)
}

/// What a pod requests as a whole beyond what its containers do, divided among them.
fn rest_per_container(pod: &Pod) -> i64 {
    let whole = pod_level(pod).and_then(|whole| find(whole.requests.as_ref(), MEMORY));
    let (Some(whole), Some(spec)) = (whole, &pod.spec) else { return 0 };
    let containers = || spec.containers.iter().chain(spec.init_containers.iter().flatten().filter(|c| is_sidecar(c)));
    let own: i64 = containers().map(|container| amount(resources::requests(container), MEMORY).value()).sum();
    let count = i64::try_from(containers().count()).unwrap_or(1).max(1);
    (whole.value() - own).max(0) / count
}

/// Each size that the kernel has is limited, to nothing where the pod has no limit.
fn huge_pages(pod: &Pod, container: &Container, node: &NodeContext) -> Vec<HugepageLimit> {
    let own = resources::limits(container);
    let whole = pod_level(pod).and_then(|whole| whole.limits.as_ref());
    let find = |list: Option<&resources::Texts>, size: u64| {
        let mut pages = list.into_iter().flatten().filter(|(name, _)| name.starts_with(HUGE_PAGES));
        pages.find(|(name, _)| page_size(name) == Some(size)).map(|(_, limit)| resources::read(limit).value())
    };
    let limit = |size: u64| find(own, size).or_else(|| find(whole, size)).unwrap_or(0);
    let sizes = node.huge_pages.iter();
    sizes.map(|size| HugepageLimit { page_size: size_name(*size), limit: limit(*size).unsigned_abs() }).collect()
}

/// As the kernel's cgroups name a page size: `2MB`.
pub(crate) fn size_name(size: u64) -> String {
    match size {
        size if size >= 1 << 30 => format!("{}GB", size >> 30),
        size if size >= 1 << 20 => format!("{}MB", size >> 20),
        size => format!("{}KB", size >> 10),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing;
    use super::*;

    fn of(resources: Value, change: impl FnOnce(&mut NodeContext)) -> LinuxContainerResources {
        let pod = testing::pod(json!({"containers": [{"name": "c", "resources": resources}]}));
        let mut node = testing::node();
        change(&mut node);
        container_resources(&pod, &pod.spec.as_ref().expect("a spec").containers[0], &node)
    }

    #[test]
    fn amounts_become_shares_quota_and_bytes() {
        let rows = [
            (json!({}), (2, 0, 0)),
            (json!({"requests": {"cpu": "100m"}}), (102, 0, 0)),
            (json!({"requests": {"cpu": "1m"}}), (2, 0, 0)),
            (json!({"requests": {"cpu": "500"}}), (262_144, 0, 0)),
            (json!({"limits": {"cpu": "500m", "memory": "64Mi"}}), (512, 50_000, 64 << 20)),
            (json!({"requests": {"cpu": "0"}, "limits": {"cpu": "2"}}), (2, 200_000, 0)),
            (json!({"limits": {"cpu": "1m"}}), (2, 1_000, 0)),
        ];
        for (amounts, expected) in rows {
            let found = of(amounts.clone(), |_| {});
            assert_eq!((found.cpu_shares, found.cpu_quota, found.memory_limit_in_bytes), expected, "{amounts}");
            assert_eq!(found.cpu_period, 100_000);
        }
        let found = of(json!({"limits": {"cpu": "2"}}), |node| node.cpu_quota = false);
        assert_eq!((found.cpu_quota, found.cpu_period), (0, 0));
    }

    #[test]
    fn swap_and_the_killing_of_groups_depend_on_the_kernel() {
        let limits = json!({"limits": {"memory": "64Mi"}});
        let plain = of(limits.clone(), |_| {});
        assert_eq!(plain.unified, [("memory.oom.group".to_owned(), "1".to_owned())].into());
        let swap = of(limits.clone(), |node| node.counts_swap = true);
        assert_eq!(swap.unified["memory.swap.max"], "0");
        let old = of(limits, |node| (node.cgroup_v2, node.counts_swap) = (false, true));
        assert_eq!((old.unified.len(), old.memory_swap_limit_in_bytes), (0, 64 << 20));
    }

    #[test]
    fn each_page_size_is_limited() {
        let found = of(json!({"limits": {"hugepages-2Mi": "4Mi"}}), |_| {});
        let pages: Vec<_> = found.hugepage_limits.iter().map(|l| (l.page_size.as_str(), l.limit)).collect();
        assert_eq!(pages, [("2MB", 4 << 20), ("1GB", 0)]);
    }

    #[test]
    fn who_asks_for_less_memory_is_killed_first() {
        // The node has 10 GiB.
        let score = |spec: Value, index: usize| {
            let pod = testing::pod(spec);
            let spec = pod.spec.as_ref().expect("a spec");
            let container = spec.init_containers.iter().flatten().chain(&spec.containers).nth(index).expect("one");
            oom_score(&pod, container, 10 << 30)
        };
        let container = |memory: &str| json!({"name": "c", "resources": {"requests": {"memory": memory}}});
        let both = json!({"cpu": "1", "memory": "1Gi"});
        let guaranteed = json!([{"name": "c", "resources": {"limits": both, "requests": both}}]);
        let sidecar = |memory: &str| json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"memory": memory}}});
        assert_eq!(score(json!({ "containers": guaranteed }), 0), -997);
        assert_eq!(score(json!({}), 0), 1000);
        assert_eq!(score(json!({"containers": [container("1Gi")]}), 0), 900);
        assert_eq!(score(json!({"containers": [container("10Gi")]}), 0), 3);
        assert_eq!(score(json!({"containers": [container("1Ki")]}), 0), 999);
        let critical = json!({"priority": 2_000_001_000, "priorityClassName": "system-node-critical"});
        assert_eq!(score(critical, 0), -997);
        let with = |memory| json!({"containers": [container("2Gi")], "initContainers": [sidecar(memory)]});
        assert_eq!(score(with("1Gi"), 0), 800, "not killed before the container that it serves");
        assert_eq!(score(with("5Gi"), 0), 500);
        let whole =
            json!({"containers": [container("1Gi"), container("1Gi")], "resources": {"requests": {"memory": "4Gi"}}});
        assert_eq!(score(whole, 0), 800);
    }
}
