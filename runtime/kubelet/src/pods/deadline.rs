//! `activeDeadlineSeconds`: how long a pod may be on its node.

use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::time::Instant;

use super::events::About;
use super::slot::Eviction;
use super::worker::Worker;

const REASON: &str = "DeadlineExceeded";
const MESSAGE: &str = "Pod was active on the node longer than the specified deadline";

/// What is left of a pod's time; `None` if it has no end.
fn left(pod: &Pod, status: Option<&PodStatus>, now: jiff::Timestamp) -> Option<Duration> {
    let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
    let start = status?.start_time.as_ref()?.0;
    let left = SignedDuration::from_secs(seconds) - now.duration_since(start);
    Some(Duration::try_from(left).unwrap_or_default())
}

impl Worker {
    /// Ends a pod whose time is over; else answers when that will be.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let current = self.slot.current();
        let left = left(&current.pod, current.status.as_deref(), self.node.clock.now())?;
        if left.is_zero() && current.eviction.is_none() {
            self.node.recorder.normal(&current.pod, About::Pod, REASON, MESSAGE);
            let eviction =
                Eviction { reason: REASON.to_owned(), message: MESSAGE.to_owned(), grace: None, disruption: None };
            self.slot.change(|current| current.eviction = Some(eviction));
        }
        Some(Instant::now() + left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::testing::pod;
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    #[test]
    fn a_pods_time_counts_from_its_start_on_the_node() {
        let start = Timestamp::UNIX_EPOCH;
        let status = PodStatus { start_time: Some(Time(start)), ..PodStatus::default() };
        let limited = pod(serde_json::json!({"containers": [], "activeDeadlineSeconds": 60}));
        let after = |seconds| left(&limited, Some(&status), start + SignedDuration::from_secs(seconds));
        assert_eq!(
            (after(20), after(60), after(90)),
            (Some(Duration::from_secs(40)), Some(Duration::ZERO), Some(Duration::ZERO))
        );
        assert_eq!(left(&limited, None, start), None);
        assert_eq!(left(&pod(serde_json::json!({"containers": []})), Some(&status), start), None);
    }
}
