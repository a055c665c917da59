//! How long a Job waits before it makes a Pod in the place of one that failed: ten seconds after the first failure since the
//! last success, twice as long after each more, ten minutes at most.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use crate::pods::condition;

const FIRST: Duration = Duration::from_secs(10);
const MOST: Duration = Duration::from_secs(600);

/// Failures since the last success.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Record {
    failures: u32,
    last: Option<Timestamp>,
}

impl Record {
    /// The record with Pods that ended since.
    pub(super) fn with(self, succeeded: &[Arc<Pod>], failed: &[Arc<Pod>]) -> Self {
        let last_success = succeeded.iter().map(|pod| finished(pod)).max();
        let failures = failed.iter().map(|pod| finished(pod));
        let after: Vec<Timestamp> =
            failures.filter(|time| last_success.is_none_or(|success| *time > success)).collect();
        let last = after.iter().max().copied();
        match last_success {
            Some(_) => Self { failures: after.len() as u32, last },
            None if after.is_empty() => self,
            None => Self { failures: self.failures + after.len() as u32, last },
        }
    }

    /// How long to wait from now.
    pub(super) fn wait(self, now: Timestamp) -> Duration {
        self.last.map_or(Duration::ZERO, |last| wait(self.failures, last, now))
    }
}

/// How long to wait after so many failures, the last of which was then.
pub(super) fn wait(failures: u32, last: Timestamp, now: Timestamp) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let whole = FIRST.saturating_mul(2u32.saturating_pow(failures - 1)).min(MOST);
    let passed = now.duration_since(last);
    let left = SignedDuration::try_from(whole).unwrap_or(SignedDuration::MAX).saturating_sub(passed);
    Duration::try_from(left).unwrap_or(Duration::ZERO)
}

/// When a Pod ended: when the last of its containers did, when it was no longer ready, when it was deleted, or when it was made.
pub(super) fn finished(pod: &Pod) -> Timestamp {
    let unready = condition(pod, "Ready").filter(|ready| ready.status == "False");
    let deleted = || {
        let grace = SignedDuration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or(0));
        pod.metadata.deletion_timestamp.as_ref().map(|time| time.0 - grace)
    };
    containers_ended(pod)
        .or_else(|| unready.and_then(|ready| ready.last_transition_time.as_ref()).map(|time| time.0))
        .or_else(deleted)
        .or_else(|| pod.metadata.creation_timestamp.as_ref().map(|time| time.0))
        .unwrap_or_default()
}

/// When the last container ended, sidecars among them; `None` if one has not.
fn containers_ended(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let init = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let sidecars: HashSet<&str> =
        init.filter(|c| c.restart_policy.as_deref() == Some("Always")).map(|c| c.name.as_str()).collect();
    let of_sidecars = status.init_container_statuses.iter().flatten().filter(|c| sidecars.contains(c.name.as_str()));
    let ended =
        |container: &ContainerStatus| Some(container.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0);
    let all: Option<Vec<Timestamp>> =
        status.container_statuses.iter().flatten().chain(of_sidecars).map(ended).collect();
    all?.into_iter().max()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn pod(second: i64) -> Arc<Pod> {
        Arc::new(serde_json::from_value(json!({"metadata": {"creationTimestamp": at(second).to_string()}})).unwrap())
    }

    #[test]
    fn the_wait_doubles_from_ten_seconds_to_ten_minutes() {
        let rows = [(0, 0, 0), (1, 0, 10), (2, 0, 20), (3, 0, 40), (3, 15, 25), (7, 0, 600), (40, 0, 600), (1, 30, 0)];
        for (failures, passed, left) in rows {
            assert_eq!(wait(failures, at(1000), at(1000 + passed)), Duration::from_secs(left), "{failures} {passed}");
        }
    }

    #[test]
    fn only_failures_after_the_last_success_count() {
        let start = Record { failures: 2, last: Some(at(5)) };
        let rows = [
            (vec![], vec![], start),
            (vec![], vec![pod(20), pod(10)], Record { failures: 4, last: Some(at(20)) }),
            (vec![pod(30)], vec![], Record::default()),
            (vec![pod(15)], vec![pod(10), pod(20), pod(30)], Record { failures: 2, last: Some(at(30)) }),
            (vec![pod(15)], vec![pod(10)], Record::default()),
        ];
        for (succeeded, failed, expected) in rows {
            assert_eq!(start.with(&succeeded, &failed), expected);
        }
    }

    #[test]
    fn a_pod_ended_when_its_last_container_did() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"creationTimestamp": at(1).to_string()},
            "spec": {"containers": [], "initContainers": [{"name": "side", "restartPolicy": "Always"}, {"name": "init"}]},
            "status": {
                "initContainerStatuses": [
                    {"name": "side", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 0, "finishedAt": at(9).to_string()}}},
                    {"name": "init", "image": "", "imageID": "", "ready": false, "restartCount": 0},
                ],
                "containerStatuses": [
                    {"name": "a", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 0, "finishedAt": at(7).to_string()}}},
                ],
            },
        }))
        .unwrap();
        assert_eq!(finished(&pod), at(9));
    }
}
