//! What an autoscaler aims at where it does not say, and how fast it goes.

use serde_json::{Value, json};

use crate::registry::strategy::default_to;
use crate::registry::workloads::defaults::resources::canonical;
use crate::registry::workloads::view::{get_mut, is_zero, items_mut, make};

/// Average use of CPU, in percent of what is requested.
const CPU: i64 = 80;

pub(super) fn autoscaler(object: &mut Value) {
    let spec = make(object, "spec");
    default_to(spec, "minReplicas", 1);
    if is_zero(spec.get("metrics")) {
        let target = json!({"type": "Utilization", "averageUtilization": CPU});
        spec["metrics"] = json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]);
    }
    for metric in items_mut(spec, "metrics") {
        quantities(metric, "target");
    }
    if let Some(behavior) = get_mut(spec, "behavior") {
        rules(
            make(behavior, "scaleUp"),
            json!([
                {"type": "Pods", "value": 4, "periodSeconds": 15},
                {"type": "Percent", "value": 100, "periodSeconds": 15},
            ]),
        );
        default_to(make(behavior, "scaleUp"), "stabilizationWindowSeconds", 0);
        rules(make(behavior, "scaleDown"), json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]));
    }
    let status = make(object, "status");
    default_to(status, "desiredReplicas", 0);
    for metric in items_mut(status, "currentMetrics") {
        quantities(metric, "current");
    }
}

fn rules(rules: &mut Value, policies: Value) {
    default_to(rules, "selectPolicy", "Max");
    default_to(rules, "policies", policies);
    canonical(rules, "tolerance");
}

fn quantities(metric: &mut Value, part: &str) {
    for source in ["resource", "containerResource", "pods", "object", "external"] {
        if let Some(part) = get_mut(metric, source).and_then(|s| get_mut(s, part)) {
            canonical(part, "value");
            canonical(part, "averageValue");
        }
    }
}
