//! What must be done so that a pod's containers have what the pod was given.

use std::cmp::Ordering;

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::cgroups::Limits;
use crate::cri::LinuxContainerResources;
use crate::resources::{CPU, MEMORY};

/// One step; they are to be done in their order, and the rest left for later if one fails.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Set these limits of the pod's group.
    Pod(Limits),
    /// Set these resources of a container that goes on running.
    Container {
        /// Its name.
        name: String,
        /// All of its resources.
        resources: Box<LinuxContainerResources>,
    },
    /// End the container, to be started anew with its new resources.
    Restart {
        /// Its name.
        name: String,
    },
}

/// The steps from what the kernel has to what the pod was given. `current` are the pod's limits now; of each container that runs,
/// `containers` has what it has, and what it is to have.
///
/// Memory first, then processors; what becomes more is given to the pod before its containers get it, what becomes less is taken
/// from the containers first; containers that give back go before those that get.
pub fn changes(
    pod: &Pod,
    current: &Limits,
    wanted: &Limits,
    containers: &[(&Container, LinuxContainerResources, LinuxContainerResources)],
) -> Vec<Change> {
    let is_restarted = |container: &Container, has: &LinuxContainerResources, gets: &LinuxContainerResources| {
        (memory_differs(has, gets) && restarts(container, MEMORY))
            || (cpu_differs(has, gets) && restarts(container, CPU))
    };
    let (restarted, resized): (Vec<_>, Vec<_>) =
        containers.iter().partition(|(container, has, gets)| is_restarted(container, has, gets));
    let restart = |(container, ..): &&(&Container, _, _)| Change::Restart { name: container.name.clone() };
    let mut steps: Vec<Change> = restarted.iter().map(restart).collect();
    let any = !restarted.is_empty() || pod.spec.as_ref().is_some_and(|spec| spec.resources.is_some());

    let memory: Vec<_> = resized.iter().filter(|(_, has, gets)| memory_differs(has, gets)).collect();
    if any || !memory.is_empty() {
        let limit = wanted.memory.or(current.memory);
        let set = Limits { memory: limit, ..Limits::default() };
        let order = bound(limit).cmp(&bound(current.memory));
        let parts = sorted(&memory, |resources| bound(Some(resources.memory_limit_in_bytes)));
        // Processor time keeps what it has until its turn.
        let step = |gets: &LinuxContainerResources, has: &LinuxContainerResources| LinuxContainerResources {
            cpu_shares: has.cpu_shares,
            cpu_quota: has.cpu_quota,
            cpu_period: has.cpu_period,
            ..gets.clone()
        };
        push(&mut steps, order, &[set], parts.into_iter().map(|(name, has, gets)| (name, step(gets, has))));
    }
    let cpu: Vec<_> = resized.iter().filter(|(_, has, gets)| cpu_differs(has, gets)).collect();
    if any || !cpu.is_empty() {
        let quota = Limits { quota: wanted.quota.or(current.quota), ..Limits::default() };
        let shares = Limits { shares: wanted.shares.or(current.shares), ..Limits::default() };
        let order = bound(quota.quota).cmp(&bound(current.quota)).then(shares.shares.cmp(&current.shares));
        // Limits grow before requests and shrink after them, so that the one is never above the other.
        let sets = if order == Ordering::Less { [shares, quota] } else { [quota, shares] };
        let parts = sorted(&cpu, |resources| bound(Some(resources.cpu_quota)).saturating_add(resources.cpu_shares));
        push(&mut steps, order, &sets, parts.into_iter().map(|(name, _, gets)| (name, gets.clone())));
    }
    steps
}

fn push(
    steps: &mut Vec<Change>,
    order: Ordering,
    pod: &[Limits],
    containers: impl Iterator<Item = (String, LinuxContainerResources)>,
) {
    let pod = || pod.iter().cloned().map(Change::Pod);
    if order == Ordering::Greater {
        steps.extend(pod());
    }
    steps.extend(containers.map(|(name, gets)| Change::Container { name, resources: Box::new(gets) }));
    if order == Ordering::Less {
        steps.extend(pod());
    }
}

/// Those that give back before those that get.
fn sorted<'a>(
    list: &[&&'a (&'a Container, LinuxContainerResources, LinuxContainerResources)],
    amount: impl Fn(&LinuxContainerResources) -> i64,
) -> Vec<(String, &'a LinuxContainerResources, &'a LinuxContainerResources)> {
    let mut list: Vec<_> = list.iter().map(|(container, has, gets)| (container.name.clone(), has, gets)).collect();
    list.sort_by_key(|(_, has, gets)| amount(gets) > amount(has));
    list
}

/// No limit is more than any.
fn bound(limit: Option<i64>) -> i64 {
    limit.filter(|limit| *limit > 0).unwrap_or(i64::MAX)
}

fn memory_differs(has: &LinuxContainerResources, gets: &LinuxContainerResources) -> bool {
    bound(Some(has.memory_limit_in_bytes)) != bound(Some(gets.memory_limit_in_bytes))
}

fn cpu_differs(has: &LinuxContainerResources, gets: &LinuxContainerResources) -> bool {
    bound(Some(has.cpu_quota)) != bound(Some(gets.cpu_quota)) || has.cpu_shares != gets.cpu_shares
}

fn restarts(container: &Container, resource: &str) -> bool {
    let policies = container.resize_policy.iter().flatten();
    let mut of = policies.filter(|policy| policy.resource_name == resource);
    of.any(|policy| policy.restart_policy == "RestartContainer")
}
