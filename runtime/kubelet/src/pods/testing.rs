//! Pods and what a runtime has of them, for tests.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::view::{Container, Sandbox, State, View};
use super::{find_container, hash};

/// A pod with this spec.
pub(crate) fn pod(spec: Value) -> Pod {
    let object = json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "u", "generation": 1},
        "spec": spec,
    });
    serde_json::from_value(object).expect("a pod")
}

/// A view with a ready sandbox and these containers, the newest first.
pub(crate) fn view(pod: &Pod, containers: &[(&str, State, i32)]) -> View {
    let sandbox = Sandbox { id: "s".to_owned(), ready: true, ips: vec!["10.0.0.2".to_owned()], attempt: 0, created: 1 };
    let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1);
    let container = |(number, (name, state, exit_code)): (usize, &(&str, State, i32))| Container {
        id: format!("{name}-{number}"),
        sandbox: "s".to_owned(),
        name: (*name).to_owned(),
        attempt: 0,
        state: *state,
        exit_code: *exit_code,
        log_path: String::new(),
        created: now,
        started: Some(now),
        finished: Some(now),
        reason: if *state == State::Exited { "Error".to_owned() } else { String::new() },
        message: String::new(),
        image: "busybox".to_owned(),
        image_ref: String::new(),
        hash: find_container(pod, name).map(|spec| hash(&spec)).unwrap_or_default(),
        user: None,
        stop_signal: None,
    };
    View {
        sandboxes: vec![sandbox],
        containers: containers.iter().enumerate().map(container).collect(),
        oom_kills: (0, None),
    }
}
