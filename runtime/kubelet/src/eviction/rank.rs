//! Who goes first.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::threshold::Signal;
use super::uid;
use super::usage::PodUsage;
use crate::resources::{EPHEMERAL_STORAGE, MEMORY, Overhead, pod_requests};

/// Sorts pods by the order in which they are to be ended: those that use more than they request, then by priority, then by how
/// much more they use.
pub(super) fn rank(pods: &mut [Arc<Pod>], usage: &HashMap<String, PodUsage>, signal: Signal) {
    pods.sort_by(|a, b| {
        let (one, two) = (usage.get(uid(a)), usage.get(uid(b)));
        // Nobody can tell what is not measured: it goes first.
        let unknown = is_first(one.is_none(), two.is_none());
        let (Some(one), Some(two)) = (one, two) else { return unknown.then_with(|| priority(a).cmp(&priority(b))) };
        let (one, two) = (Standing::of(a, one, signal), Standing::of(b, two, signal));
        let exceeds = is_first(one.exceeds, two.exceeds);
        exceeds.then_with(|| priority(a).cmp(&priority(b))).then_with(|| two.above.cmp(&one.above))
    });
}

/// How a pod stands by what it requests.
struct Standing {
    exceeds: bool,
    above: i128,
}

impl Standing {
    fn of(pod: &Pod, usage: &PodUsage, signal: Signal) -> Self {
        let requests = pod_requests(pod, Overhead::With);
        let request = |name: &str| requests.get(name).map_or(0, |amount| i128::from(amount.value()));
        let disk = usage.disk();
        let (used, requested) = match signal {
            Signal::MemoryAvailable | Signal::AllocatableMemoryAvailable => {
                (i128::from(usage.memory.unwrap_or(0)), request(MEMORY))
            }
            Signal::NodeFsAvailable | Signal::ImageFsAvailable => (i128::from(disk.bytes), request(EPHEMERAL_STORAGE)),
            Signal::NodeFsInodesFree | Signal::ImageFsInodesFree => (i128::from(disk.inodes), 0),
            // No pod requests process ids: priority and number decide.
            Signal::PidAvailable => return Self { exceeds: false, above: i128::from(usage.processes) },
        };
        Self { exceeds: used > requested, above: used - requested }
    }
}

fn is_first(a: bool, b: bool) -> Ordering {
    b.cmp(&a)
}

fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::usage::DiskUsage;
    use super::*;

    fn pod(name: &str, priority: i32, request: &str) -> Arc<Pod> {
        let requests = json!({"memory": request, "ephemeral-storage": request});
        let spec = json!({"priority": priority, "containers": [{"name": "c", "resources": {"requests": requests}}]});
        Arc::new(serde_json::from_value(json!({"metadata": {"uid": name}, "spec": spec})).expect("a pod"))
    }

    fn order(rows: &[(&str, i32, &str, Option<u64>)], signal: Signal) -> Vec<String> {
        let mut pods: Vec<_> = rows.iter().map(|(name, priority, request, _)| pod(name, *priority, request)).collect();
        let used = |amount: u64| PodUsage {
            memory: Some(amount),
            processes: amount,
            volumes: [("v".to_owned(), DiskUsage { bytes: amount, inodes: amount })].into(),
            ..PodUsage::default()
        };
        let usage = rows.iter().filter_map(|(name, .., amount)| Some(((*name).to_owned(), used((*amount)?)))).collect();
        rank(&mut pods, &usage, signal);
        pods.iter().map(|pod| uid(pod).to_owned()).collect()
    }

    #[test]
    fn who_uses_more_than_it_requests_goes_first_then_who_matters_least_then_who_uses_most() {
        let rows = [
            ("within", 0, "100", Some(90)),
            ("above-important", 10, "100", Some(500)),
            ("above-little", 0, "100", Some(110)),
            ("above-much", 0, "10", Some(100)),
            ("unknown", 100, "100", None),
            ("within-important", 10, "100", Some(100)),
        ];
        let expected = ["unknown", "above-much", "above-little", "above-important", "within", "within-important"];
        assert_eq!(order(&rows, Signal::MemoryAvailable), expected);
        assert_eq!(order(&rows, Signal::NodeFsAvailable), expected);
    }

    #[test]
    fn process_ids_go_by_priority_and_number() {
        let rows = [("few", 0, "1", Some(5)), ("important", 10, "1", Some(500)), ("many", 0, "1", Some(50))];
        assert_eq!(order(&rows, Signal::PidAvailable), ["many", "few", "important"]);
    }
}
