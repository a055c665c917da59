//! A node is not ready until it says so, and pods bear it for a while if their node goes silent.

use kiln_apimachinery::meta;
use serde_json::{Value, json};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// Seconds for which a pod stays on a node that can't be reached, if it does not say.
const PATIENCE: i64 = 300;

/// Keeps pods off a new node.
pub(super) fn taint(node: &mut Value) {
    let taints = meta::child(node, "spec").entry("taints").or_insert_with(|| json!([]));
    if !taints.is_array() {
        *taints = json!([]);
    }
    let Some(list) = taints.as_array_mut() else { return };
    let ours = |t: &Value| meta::text(t, &["key"]) == NOT_READY && meta::text(t, &["effect"]) == "NoSchedule";
    if !list.iter().any(ours) {
        list.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
    }
}

/// Gives a pod the patience that it does not speak of.
pub(super) fn tolerate(pod: &mut Value) {
    let mut list = meta::at(pod, &["spec", "tolerations"]).and_then(Value::as_array).cloned().unwrap_or_default();
    let before = list.len();
    for key in [NOT_READY, UNREACHABLE] {
        let covers = |t: &Value| {
            let (of, effect) = (meta::text(t, &["key"]), meta::text(t, &["effect"]));
            (of == key || of.is_empty()) && (effect == "NoExecute" || effect.is_empty())
        };
        if !list[..before].iter().any(covers) {
            list.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": PATIENCE,
            }));
        }
    }
    if list.len() > before {
        meta::child(pod, "spec").insert("tolerations".into(), list.into());
    }
}
