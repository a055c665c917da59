//! The taints that a Node's conditions call for.

use kiln_apimachinery::meta;
use serde_json::{Value, json};

use super::condition;

/// A condition with a status, and the taint that it means: key and effects.
const RULES: [(&str, &str, &str, &[&str]); 6] = [
    ("Ready", "False", "node.kubernetes.io/not-ready", &["NoSchedule", "NoExecute"]),
    ("Ready", "Unknown", "node.kubernetes.io/unreachable", &["NoSchedule", "NoExecute"]),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure", &["NoSchedule"]),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure", &["NoSchedule"]),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure", &["NoSchedule"]),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable", &["NoSchedule"]),
];
const UNSCHEDULABLE: (&str, &str) = ("node.kubernetes.io/unschedulable", "NoSchedule");

/// The Node's taints as they should be, or `None` if they are. Taints of others are kept, and those that stay keep
/// their time.
pub(super) fn corrected(node: &Value, now: &str) -> Option<Vec<Value>> {
    let current: Vec<Value> =
        meta::at(node, &["spec", "taints"]).and_then(Value::as_array).cloned().unwrap_or_default();
    let wanted = wanted(node);
    let names = |taint: &Value, (key, effect): (&str, &str)| taint["key"] == key && taint["effect"] == effect;
    let is_ours = |taint: &Value| {
        let ruled = RULES.iter().any(|(_, _, key, effects)| effects.iter().any(|effect| names(taint, (key, effect))));
        ruled || names(taint, UNSCHEDULABLE)
    };
    let mut taints: Vec<Value> = current
        .iter()
        .filter(|taint| !is_ours(taint) || wanted.iter().any(|wanted| names(taint, *wanted)))
        .cloned()
        .collect();
    for (key, effect) in wanted {
        if !taints.iter().any(|taint| names(taint, (key, effect))) {
            taints.push(json!({"key": key, "effect": effect, "timeAdded": now}));
        }
    }
    (taints != current).then_some(taints)
}

fn wanted(node: &Value) -> Vec<(&'static str, &'static str)> {
    let mut wanted = Vec::new();
    for (kind, status, key, effects) in RULES {
        if condition(node, kind).is_some_and(|condition| condition["status"] == status) {
            wanted.extend(effects.iter().map(|effect| (key, *effect)));
        }
    }
    if meta::at(node, &["spec", "unschedulable"]) == Some(&Value::Bool(true)) {
        wanted.push(UNSCHEDULABLE);
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(conditions: Value, taints: Value) -> Value {
        json!({"spec": {"taints": taints}, "status": {"conditions": conditions}})
    }

    #[test]
    fn taints_follow_the_conditions_and_leave_those_of_others_alone() {
        let own = json!({"key": "example.org/mine", "effect": "NoSchedule"});
        let silent = node(json!([{"type": "Ready", "status": "Unknown"}]), json!([own]));
        let tainted = corrected(&silent, "T1").expect("a change");
        assert_eq!(tainted.len(), 3);
        assert_eq!(
            tainted[1],
            json!({"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule", "timeAdded": "T1"})
        );
        assert_eq!(tainted[2]["effect"], "NoExecute");

        let still = node(json!([{"type": "Ready", "status": "Unknown"}]), json!(tainted));
        assert_eq!(corrected(&still, "T2"), None);
        let back = node(json!([{"type": "Ready", "status": "True"}]), json!(tainted));
        assert_eq!(corrected(&back, "T3"), Some(vec![own]));
    }

    #[test]
    fn a_cordoned_node_under_pressure_has_both_taints() {
        let mut node = node(json!([{"type": "DiskPressure", "status": "True"}]), json!(null));
        node["spec"]["unschedulable"] = json!(true);
        let keys: Vec<_> = corrected(&node, "T").expect("a change").iter().map(|taint| taint["key"].clone()).collect();
        assert_eq!(keys, ["node.kubernetes.io/disk-pressure", "node.kubernetes.io/unschedulable"]);
    }
}
