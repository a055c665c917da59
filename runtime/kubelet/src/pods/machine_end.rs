//! Ends pods in order when the machine is about to end (KEP-2000, and by pods' priorities KEP-2712): ordinary ones first, those that
//! others rely on last. A kubelet that is merely restarted leaves them alone.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use tokio_util::sync::CancellationToken;

use super::manager::Node;
use super::slot::{Eviction, Slot, ending};
use super::status::is_terminal;
use crate::resources::SYSTEM_CRITICAL;

/// Why a pod was ended, as its status has it.
const REASON: &str = "Terminated";
const MESSAGE: &str = "Pod was terminated in response to imminent node shutdown.";
/// What a pod is told that comes too late.
pub(crate) const TOO_LATE: (&str, &str) = ("NodeShutdown", "Pod was rejected as the node is shutting down.");
/// Why the Node is not Ready.
pub(crate) const NOT_READY: &str = "node is shutting down";
/// How long the API may take to hear of a pod's end.
pub(super) const FLUSH: Duration = Duration::from_secs(2);

/// How long pods have to end, by their priorities.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Periods(Vec<(i32, u64)>);

impl Periods {
    /// `shutdownGracePeriod` and `shutdownGracePeriodCriticalPods`: the second is a part of the first.
    pub fn new(all: Duration, critical: Duration) -> Self {
        if all.is_zero() || critical > all {
            return Self::default();
        }
        Self(vec![(0, (all - critical).as_secs()), (SYSTEM_CRITICAL, critical.as_secs())])
    }

    /// `shutdownGracePeriodByPodPriority`: seconds by the least priority that they are for.
    pub fn by_priority(mut periods: Vec<(i32, u64)>) -> Self {
        periods.sort_unstable();
        Self(periods)
    }

    /// Which of the groups a pod is in.
    fn group(&self, pod: &Pod) -> usize {
        let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
        self.0.iter().rposition(|(least, _)| *least <= priority).unwrap_or(0)
    }
}

/// When the machine ends, and how pods end then.
#[derive(Debug, Clone, Default)]
pub struct MachineEnd {
    /// How long pods have; nothing leaves them alone.
    pub periods: Periods,
    /// The machine is about to end.
    pub begins: CancellationToken,
    /// All pods have ended, or had their time.
    pub done: CancellationToken,
}

/// Waits for the machine's end, and ends all pods then.
pub(crate) async fn run(node: &Node, end: &MachineEnd) {
    end.begins.cancelled().await;
    let running: Vec<Arc<Slot>> = node
        .pods
        .all()
        .into_iter()
        .filter(|slot| {
            let current = slot.current();
            let phase = current.status.as_ref().and_then(|status| status.phase.as_deref());
            current.admitted && !is_terminal(phase)
        })
        .collect();
    for (index, (_, seconds)) in end.periods.0.iter().enumerate() {
        let group: Vec<_> = running.iter().filter(|slot| end.periods.group(&slot.pod()) == index).collect();
        if group.is_empty() {
            continue;
        }
        tracing::info!(pods = group.len(), seconds, "the machine ends: ending pods");
        group.iter().for_each(|slot| stop(slot, i64::try_from(*seconds).unwrap_or(i64::MAX)));
        let ended = join_all(group.iter().map(|slot| slot.ended.cancelled()));
        if tokio::time::timeout(Duration::from_secs(*seconds) + FLUSH, ended).await.is_err() {
            tracing::warn!("not all pods have ended in their time");
        }
    }
    end.done.cancel();
}

fn stop(slot: &Slot, seconds: i64) {
    slot.change(|current| {
        if ending(current) {
            return;
        }
        let own = current.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
        current.eviction = Some(Eviction {
            reason: REASON.to_owned(),
            message: MESSAGE.to_owned(),
            grace: Some(own.map_or(seconds, |own| own.min(seconds))),
            disruption: Some(MESSAGE.to_owned()),
        });
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_in_the_group_of_the_highest_priority_that_is_not_above_its_own() {
        let pod = |priority: i32| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": [], "priority": priority}})).expect("a pod")
        };
        let periods = Periods::by_priority(vec![(100_000, 10), (10_000, 180), (0, 60)]);
        let rows = [(-5, 0), (0, 0), (9_999, 0), (10_000, 1), (99_999, 1), (100_000, 2), (2_000_001_000, 2)];
        for (priority, expected) in rows {
            assert_eq!(periods.group(&pod(priority)), expected, "{priority}");
        }
    }

    #[test]
    fn critical_pods_have_the_last_part_of_the_time() {
        let of = |all, critical| Periods::new(Duration::from_secs(all), Duration::from_secs(critical)).0;
        assert_eq!(of(30, 10), [(0, 20), (SYSTEM_CRITICAL, 10)]);
        assert_eq!(of(0, 0), []);
        assert_eq!(of(10, 20), []);
    }
}
