//! The taints that a Node's conditions call for.

use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

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
/// The effect that Pods are evicted by.
const EVICTS: &str = "NoExecute";
const UNSCHEDULABLE: (&str, &str) = ("node.kubernetes.io/unschedulable", "NoSchedule");

/// Whether a condition calls for a taint that evicts.
pub(super) fn is_silent(node: &Node) -> bool {
    condition(node, "Ready").is_some_and(|ready| ready.status != "True")
}

/// Whether a node has such a taint.
pub(super) fn evicts(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let ours = |key: &str| RULES.iter().any(|(_, _, known, effects)| *known == key && effects.contains(&EVICTS));
    taints.iter().any(|taint| taint.effect == EVICTS && ours(&taint.key))
}

/// The Node's taints as they should be, or `None` if they are. Taints of others are kept, and those that stay keep
/// their time. `evict`: a node that is not ready may be rid of its Pods.
pub(super) fn corrected(node: &Node, now: &Time, evict: bool) -> Option<Vec<Taint>> {
    let current = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let wanted = wanted(node, evict);
    let names = |taint: &Taint, (key, effect): (&str, &str)| taint.key == key && taint.effect == effect;
    let is_ours = |taint: &Taint| {
        let ruled = RULES.iter().any(|(_, _, key, effects)| effects.iter().any(|effect| names(taint, (key, effect))));
        ruled || names(taint, UNSCHEDULABLE)
    };
    let mut taints: Vec<Taint> = current
        .iter()
        .filter(|taint| !is_ours(taint) || wanted.iter().any(|wanted| names(taint, *wanted)))
        .cloned()
        .collect();
    for (key, effect) in wanted {
        if !taints.iter().any(|taint| names(taint, (key, effect))) {
            let added = Some(now.clone());
            taints.push(Taint { key: key.to_owned(), effect: effect.to_owned(), value: None, time_added: added });
        }
    }
    (taints != current).then_some(taints)
}

fn wanted(node: &Node, evict: bool) -> Vec<(&'static str, &'static str)> {
    let mut wanted = Vec::new();
    for (kind, status, key, effects) in RULES {
        if condition(node, kind).is_some_and(|condition| condition.status == status) {
            wanted.extend(effects.iter().filter(|effect| evict || **effect != EVICTS).map(|effect| (key, *effect)));
        }
    }
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push(UNSCHEDULABLE);
    }
    wanted
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(conditions: Value, taints: Value, unschedulable: bool) -> Node {
        let node = json!({"metadata": {}, "status": {"conditions": conditions},
            "spec": {"taints": taints, "unschedulable": unschedulable}});
        serde_json::from_value(node).expect("a node")
    }

    fn at(seconds: i64) -> Time {
        Time(jiff::Timestamp::from_second(seconds).expect("a time"))
    }

    #[test]
    fn taints_follow_the_conditions_and_leave_those_of_others_alone() {
        let own = json!({"key": "example.org/mine", "effect": "NoSchedule"});
        let silent = node(json!([{"type": "Ready", "status": "Unknown"}]), json!([own]), false);
        let tainted = corrected(&silent, &at(1), true).expect("a change");
        assert_eq!(tainted.len(), 3);
        assert_eq!(
            json!(tainted[1]),
            json!({"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule",
                "timeAdded": "1970-01-01T00:00:01Z"})
        );
        assert_eq!(tainted[2].effect, "NoExecute");

        let still = node(json!([{"type": "Ready", "status": "Unknown"}]), json!(tainted), false);
        assert_eq!(corrected(&still, &at(2), true), None);
        let back = node(json!([{"type": "Ready", "status": "True"}]), json!(tainted), false);
        assert_eq!(corrected(&back, &at(3), true).map(|taints| json!(taints)), Some(json!([own])));
    }

    #[test]
    fn a_cordoned_node_under_pressure_has_both_taints() {
        let node = node(json!([{"type": "DiskPressure", "status": "True"}]), json!(null), true);
        let keys: Vec<_> =
            corrected(&node, &at(1), true).expect("a change").into_iter().map(|taint| taint.key).collect();
        assert_eq!(keys, ["node.kubernetes.io/disk-pressure", "node.kubernetes.io/unschedulable"]);
    }
}
