//! Which pods go first when there are too many.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::{is_active, is_ready, node_name, phase, ready_since};

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The `count` pods to be deleted of `pods`. `related` are all pods that do the same work: where more of them share a node, one
/// goes sooner.
pub(crate) fn first_to_go(
    mut pods: Vec<Arc<Pod>>,
    related: &[Arc<Pod>],
    count: usize,
    now: Timestamp,
) -> Vec<Arc<Pod>> {
    if count < pods.len() {
        let mut on_node: HashMap<&str, usize> = HashMap::new();
        for pod in related.iter().filter(|pod| is_active(pod)) {
            *on_node.entry(node_name(pod)).or_default() += 1;
        }
        let rank = |pod: &Pod| on_node.get(node_name(pod)).copied().unwrap_or(0);
        // One key for each pod, so that no two comparisons can disagree, whatever the ages.
        let ready = |pod: &Pod| if is_ready(pod) { age(ready_since(pod), now) } else { 0 };
        let uid = |pod: &Pod| pod.metadata.uid.clone();
        pods.sort_by_cached_key(|pod| {
            let first = (stage(pod), deletion_cost(pod), Reverse(rank(pod)));
            (first, ready(pod), Reverse(restarts(pod)), age(created(pod), now), uid(pod))
        });
        pods.truncate(count);
    }
    pods
}

/// Sorts pods for a controller without related ones, such as that of Jobs, so that those that do least come first: not bound, pending, not ready, ready for a shorter time, restarted more
/// often, younger.
#[allow(dead_code, reason = "the Job controller is to use it")]
pub(crate) fn sort_by_activity(pods: &mut [Arc<Pod>]) {
    pods.sort_by(|a, b| {
        stage(a)
            .cmp(&stage(b))
            .then_with(|| {
                let both_ready = is_ready(a) && is_ready(b);
                if both_ready { younger_first(ready_since(a), ready_since(b)) } else { Ordering::Equal }
            })
            .then_with(|| restarts(b).cmp(&restarts(a)))
            .then_with(|| younger_first(created(a), created(b)))
    });
}

/// How far a pod has come: bound, its phase, ready.
fn stage(pod: &Pod) -> (bool, u8, bool) {
    let phase = match phase(pod) {
        "Unknown" => 1,
        "Running" => 2,
        // A pod without a phase is as one that is pending.
        _ => 0,
    };
    (!node_name(pod).is_empty(), phase, is_ready(pod))
}

fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

fn deletion_cost(pod: &Pod) -> i32 {
    let cost = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(DELETION_COST));
    cost.and_then(|cost| cost.parse().ok()).unwrap_or(0)
}

/// The most restarts of a container, and of a sidecar.
fn restarts(pod: &Pod) -> (i32, i32) {
    let Some(status) = &pod.status else { return (0, 0) };
    let regular = status.container_statuses.iter().flatten().map(|container| container.restart_count).max();
    let sidecars: Vec<&str> = pod
        .spec
        .iter()
        .flat_map(|spec| spec.init_containers.iter().flatten())
        .filter(|container| container.restart_policy.as_deref() == Some("Always"))
        .map(|container| container.name.as_str())
        .collect();
    let of_sidecars = status.init_container_statuses.iter().flatten();
    let of_sidecars = of_sidecars.filter(|status| sidecars.contains(&status.name.as_str()));
    (regular.unwrap_or(0), of_sidecars.map(|status| status.restart_count).max().unwrap_or(0))
}

/// The later first; none counts as later than any.
fn younger_first(a: Option<Timestamp>, b: Option<Timestamp>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => b.cmp(&a),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

/// The binary logarithm of an age in nanoseconds, so that ages count as one if one is less than twice the other; -1 if it is
/// none, and less than any where there is no time.
fn age(since: Option<Timestamp>, now: Timestamp) -> i64 {
    let Some(since) = since else { return i64::MIN };
    let age = now.duration_since(since).as_nanos();
    u128::try_from(age).ok().and_then(u128::checked_ilog2).map_or(-1, i64::from)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::api::core::v1::ContainerStatus;

    use super::super::tests::pod;
    use super::*;

    fn sorted(pods: Vec<Pod>, related: &[Arc<Pod>]) -> Vec<String> {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let pods: Vec<_> = pods.into_iter().map(Arc::new).collect();
        // One that always stays, so that all others are sorted.
        let mut all = pods.clone();
        let mut last = pod("zz", "n9", "Running", Some(1));
        last.metadata.annotations = Some(BTreeMap::from([(DELETION_COST.to_owned(), "2147483647".to_owned())]));
        all.push(Arc::new(last));
        let count = pods.len();
        first_to_go(all, related, count, now).iter().map(|pod| pod.metadata.name.clone().unwrap()).collect()
    }

    #[test]
    fn those_that_do_least_go_first() {
        let pods = vec![
            pod("ready-long", "n1", "Running", Some(10)),
            pod("running", "n1", "Running", None),
            pod("ready-lately", "n1", "Running", Some(999_000)),
            pod("unbound", "", "Pending", None),
            pod("pending", "n1", "Pending", None),
            pod("unknown", "n1", "Unknown", None),
        ];
        assert_eq!(sorted(pods, &[]), ["unbound", "pending", "unknown", "running", "ready-lately", "ready-long"]);
    }

    #[test]
    fn a_lower_cost_goes_first_and_then_one_that_shares_its_node() {
        let mut cheap = pod("cheap", "n1", "Running", Some(10));
        cheap.metadata.annotations = Some(BTreeMap::from([(DELETION_COST.to_owned(), "-5".to_owned())]));
        let (alone, shared) = (pod("alone", "n1", "Running", Some(10)), pod("shared", "n2", "Running", Some(10)));
        let related =
            [&cheap, &alone, &shared, &pod("other", "n2", "Running", Some(10)), &pod("x", "n2", "Running", None)];
        let related: Vec<_> = related.into_iter().map(|pod| Arc::new(pod.clone())).collect();
        assert_eq!(sorted(vec![alone, shared, cheap], &related), ["cheap", "shared", "alone"]);
    }

    #[test]
    fn pods_of_any_ages_and_restarts_have_one_order() {
        // Times that are equal, of one magnitude and of another, against restarts and uids that say otherwise.
        let mut pods = Vec::new();
        for n in 0..200_u32 {
            let mut pod = pod(&format!("p{:03}", n * 37 % 200), "n", "Running", Some(999_900 + i64::from(n * 7 % 60)));
            let created = Timestamp::from_second(999_000 + i64::from(n * 11 % 90)).unwrap();
            pod.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(created));
            let restarts = n * 13 % 3;
            let status =
                ContainerStatus { restart_count: i32::try_from(restarts).unwrap(), ..ContainerStatus::default() };
            pod.status.as_mut().unwrap().container_statuses = Some(vec![status]);
            pods.push(pod);
        }
        let forwards = sorted(pods.clone(), &[]);
        pods.reverse();
        assert_eq!(sorted(pods, &[]), forwards);
    }

    #[test]
    fn ages_of_one_magnitude_count_as_one() {
        let pods = vec![pod("b", "n", "Running", Some(430_000)), pod("a", "n", "Running", Some(400_000))];
        assert_eq!(sorted(pods, &[]), ["a", "b"]);
    }
}
