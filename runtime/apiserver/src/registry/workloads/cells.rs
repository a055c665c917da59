//! Cells of Pods that are more than a field.

use jiff::Timestamp;
use kiln_apimachinery::meta;
use serde_json::Value;

use crate::registry::cells::{NONE, first_text, items, or};

pub(crate) fn pod_ready(pod: &Value, _: Timestamp) -> Value {
    let ready =
        items(pod, &["status", "containerStatuses"]).iter().filter(|s| s.get("ready") == Some(&Value::Bool(true)));
    format!("{}/{}", ready.count(), items(pod, &["spec", "containers"]).len()).into()
}

pub(crate) fn pod_status(pod: &Value, _: Timestamp) -> Value {
    if meta::is_terminating(pod) {
        return "Terminating".into();
    }
    let waiting = items(pod, &["status", "containerStatuses"])
        .iter()
        .map(|s| first_text(s, &[&["state", "waiting", "reason"], &["state", "terminated", "reason"]]))
        .find(|r| !r.is_empty());
    let reason = meta::text(pod, &["status", "reason"]);
    match (waiting, reason) {
        (Some(waiting), _) => waiting.into(),
        (None, "") => or(meta::text(pod, &["status", "phase"]).to_owned(), "Unknown"),
        (None, reason) => reason.into(),
    }
}

pub(crate) fn pod_restarts(pod: &Value, _: Timestamp) -> Value {
    let all = items(pod, &["status", "containerStatuses"]).iter();
    all.filter_map(|s| s.get("restartCount").and_then(Value::as_i64)).sum::<i64>().to_string().into()
}

pub(crate) fn pod_ip(pod: &Value, _: Timestamp) -> Value {
    or(meta::text(pod, &["status", "podIP"]).to_owned(), NONE)
}

pub(crate) fn pod_node(pod: &Value, _: Timestamp) -> Value {
    or(meta::text(pod, &["spec", "nodeName"]).to_owned(), NONE)
}

pub(crate) fn pod_nominated(pod: &Value, _: Timestamp) -> Value {
    or(meta::text(pod, &["status", "nominatedNodeName"]).to_owned(), NONE)
}
