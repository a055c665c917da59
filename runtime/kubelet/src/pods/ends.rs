//! Counts containers that have ended: those that one status of a pod tells so, and the one before it did not.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, PodStatus};

use super::start::Kind;
use crate::metrics::Metrics;

/// Counts what has ended since the status `old`.
pub(super) fn count(metrics: &Metrics, old: Option<&PodStatus>, new: &PodStatus) {
    for (kind, list) in [
        (Kind::Init, (|status| &status.init_container_statuses) as List),
        (Kind::Regular, |status| &status.container_statuses),
        (Kind::Ephemeral, |status| &status.ephemeral_container_statuses),
    ] {
        let before = old.and_then(|old| list(old).as_deref()).unwrap_or_default();
        let had_ended = |name: &str| before.iter().any(|status| status.name == name && end(status).is_some());
        for status in list(new).iter().flatten().filter(|status| !had_ended(&status.name)) {
            if let Some(end) = end(status) {
                metrics.ended(kind.text(), end.exit_code, end.reason.as_deref().unwrap_or_default());
            }
        }
    }
}

/// The containers of one kind.
type List = fn(&PodStatus) -> &Option<Vec<ContainerStatus>>;

fn end(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    status.state.as_ref()?.terminated.as_ref()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_end_is_counted_once_by_kind_code_and_reason() {
        let metrics = Metrics::default();
        let container = |state| json!([{"name": "a", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]);
        let over = |code| json!({"terminated": {"exitCode": code, "reason": "Error"}});
        let status = |init, main| {
            let status = json!({"initContainerStatuses": container(init), "containerStatuses": container(main)});
            serde_json::from_value::<PodStatus>(status).unwrap()
        };
        let begun = status(over(0), json!({"running": {}}));
        let ended = status(over(0), over(139));
        count(&metrics, None, &begun);
        count(&metrics, Some(&begun), &ended);
        count(&metrics, Some(&ended), &ended);
        let mut text = String::new();
        metrics.write(&mut text);
        for line in [
            r#"kubelet_terminated_containers_total{container_type="init_container",exit_code="0",reason="Error"} 1"#,
            r#"kubelet_terminated_containers_total{container_type="container",exit_code="139",reason="Error"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
