//! Version 1 knows one aim, the use of CPU. What else an autoscaler has goes through annotations there and back.

use kiln_apimachinery::meta;
use serde_json::{Value, json};

use super::metrics;
use crate::registry::strategy::put;
use crate::registry::workloads::view::{get, int, items, make, text};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const ALL: [&str; 4] = [METRICS, CURRENT, CONDITIONS, BEHAVIOR];

/// True for the metric that version 1 has a field for.
fn is_cpu(metric: &Value, part: &str) -> bool {
    let found = get(metric, "resource").filter(|r| text(r, "name") == "cpu");
    text(metric, "type") == "Resource"
        && found.and_then(|r| get(r, part)).is_some_and(|p| get(p, "averageUtilization").is_some())
}

fn utilization(metric: &Value, part: &str) -> Option<i64> {
    get(metric, "resource").and_then(|r| get(r, part)).and_then(|p| int(p, "averageUtilization"))
}

/// The annotation as JSON; what can't be read is as good as absent.
fn annotation(object: &Value, key: &str) -> Option<Value> {
    meta::annotation(object, key).and_then(|text| serde_json::from_str(text).ok())
}

fn drop_annotations(object: &mut Value) {
    if let Some(annotations) = meta::metadata_mut(object).get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.retain(|key, _| !ALL.contains(&key.as_str()));
        if annotations.is_empty() {
            meta::metadata_mut(object).remove("annotations");
        }
    }
}

/// From version 1.
pub(super) fn to_stored(object: &mut Value) {
    let list = |found: Option<Value>| found.and_then(|v| v.as_array().cloned()).unwrap_or_default();
    let mut specs: Vec<Value> = list(annotation(object, METRICS)).iter().map(metrics::deep_spec).collect();
    let statuses: Vec<Value> = list(annotation(object, CURRENT)).iter().map(metrics::deep_status).collect();
    let conditions = annotation(object, CONDITIONS);
    let behavior = annotation(object, BEHAVIOR);
    drop_annotations(object);
    object["apiVersion"] = "autoscaling/v2".into();
    let spec = make(object, "spec");
    if let Some(percent) = int(spec, "targetCPUUtilizationPercentage") {
        let target = json!({"type": "Utilization", "averageUtilization": percent});
        specs.insert(0, json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
    }
    put(spec, "targetCPUUtilizationPercentage", None);
    put(spec, "metrics", (!specs.is_empty()).then(|| specs.into()));
    if behavior.is_some() {
        put(spec, "behavior", behavior);
    }
    let status = make(object, "status");
    let mut now = statuses;
    if let Some(percent) = int(status, "currentCPUUtilizationPercentage")
        && !now.iter().any(|m| is_cpu(m, "current"))
    {
        let current = json!({"averageUtilization": percent});
        now.insert(0, json!({"type": "Resource", "resource": {"name": "cpu", "current": current}}));
    }
    put(status, "currentCPUUtilizationPercentage", None);
    put(status, "currentMetrics", (!now.is_empty()).then(|| now.into()));
    put(status, "conditions", conditions);
}

/// To version 1.
pub(super) fn from_stored(object: &mut Value) {
    drop_annotations(object);
    object["apiVersion"] = "autoscaling/v1".into();
    let spec = make(object, "spec");
    let specs = items(spec, "metrics").to_vec();
    let percent = specs.iter().find(|m| is_cpu(m, "target")).and_then(|m| utilization(m, "target"));
    put(spec, "metrics", None);
    put(spec, "targetCPUUtilizationPercentage", percent.map(Into::into));
    let behavior = spec.get("behavior").cloned();
    put(spec, "behavior", None);
    let status = make(object, "status");
    let now = items(status, "currentMetrics").to_vec();
    let percent = now.iter().find(|m| is_cpu(m, "current")).and_then(|m| utilization(m, "current"));
    put(status, "currentMetrics", None);
    put(status, "currentCPUUtilizationPercentage", percent.map(Into::into));
    if status.get("currentReplicas").is_none() {
        status["currentReplicas"] = 0.into();
    }
    let conditions = items(status, "conditions").to_vec();
    put(status, "conditions", None);
    let others: Vec<Value> = specs.iter().filter(|m| !is_cpu(m, "target")).map(metrics::flat_spec).collect();
    let now: Vec<Value> = now.iter().map(metrics::flat_status).collect();
    for (key, list) in [(METRICS, others), (CURRENT, now), (CONDITIONS, conditions)] {
        if !list.is_empty() {
            meta::set_annotation(object, key, &Value::from(list).to_string());
        }
    }
    if let Some(behavior) = behavior {
        meta::set_annotation(object, BEHAVIOR, &behavior.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_version_1_has_no_field_for_comes_back_whole() {
        let whole = json!({
            "kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v2", "metadata": {"name": "a"},
            "spec": {
                "maxReplicas": 5,
                "metrics": [
                    {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
                    {"type": "Pods", "pods": {"metric": {"name": "rps"}, "target": {"type": "AverageValue", "averageValue": "1k"}}},
                    {"type": "Object", "object": {
                        "metric": {"name": "hits", "selector": {"matchLabels": {"a": "b"}}},
                        "describedObject": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "main"},
                        "target": {"type": "Value", "value": "10k"},
                    }},
                ],
                "behavior": {"scaleDown": {"selectPolicy": "Disabled"}},
            },
            "status": {"currentReplicas": 1, "desiredReplicas": 2,
                "conditions": [{"type": "AbleToScale", "status": "True"}],
                "currentMetrics": [
                    {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 7, "averageValue": "3m"}}}]},
        });
        let mut v1 = whole.clone();
        from_stored(&mut v1);
        assert_eq!(v1["spec"], json!({"maxReplicas": 5, "targetCPUUtilizationPercentage": 50}));
        assert_eq!(v1["status"]["currentCPUUtilizationPercentage"], 7);
        let flat: Value = serde_json::from_str(meta::annotation(&v1, METRICS).unwrap()).unwrap();
        assert_eq!(flat[0]["pods"], json!({"metricName": "rps", "targetAverageValue": "1k"}));
        to_stored(&mut v1);
        assert_eq!(v1, whole);
    }
}
