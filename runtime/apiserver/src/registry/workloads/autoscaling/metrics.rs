//! Metrics as version 1 writes them into annotations, flat, and as version 2 has them.

use serde_json::{Map, Value, json};

use crate::registry::workloads::view::{get, text};

/// A field's name in version 1, and where it is in version 2, by source of a metric.
type Fields = &'static [(&'static str, &'static [&'static str])];

const RESOURCE: Fields = &[
    ("name", &["name"]),
    ("targetAverageUtilization", &["target", "averageUtilization"]),
    ("targetAverageValue", &["target", "averageValue"]),
];
const CONTAINER: Fields = &[
    ("name", &["name"]),
    ("container", &["container"]),
    ("targetAverageUtilization", &["target", "averageUtilization"]),
    ("targetAverageValue", &["target", "averageValue"]),
];
const PODS: Fields = &[
    ("metricName", &["metric", "name"]),
    ("selector", &["metric", "selector"]),
    ("targetAverageValue", &["target", "averageValue"]),
];
const OBJECT: Fields = &[
    ("target", &["describedObject"]),
    ("metricName", &["metric", "name"]),
    ("selector", &["metric", "selector"]),
    ("targetValue", &["target", "value"]),
    ("averageValue", &["target", "averageValue"]),
];
const EXTERNAL: Fields = &[
    ("metricName", &["metric", "name"]),
    ("metricSelector", &["metric", "selector"]),
    ("targetValue", &["target", "value"]),
    ("targetAverageValue", &["target", "averageValue"]),
];
const SPECS: &[(&str, Fields)] = &[
    ("resource", RESOURCE),
    ("containerResource", CONTAINER),
    ("pods", PODS),
    ("object", OBJECT),
    ("external", EXTERNAL),
];

const RESOURCE_NOW: Fields = &[
    ("name", &["name"]),
    ("currentAverageUtilization", &["current", "averageUtilization"]),
    ("currentAverageValue", &["current", "averageValue"]),
];
const CONTAINER_NOW: Fields = &[
    ("name", &["name"]),
    ("container", &["container"]),
    ("currentAverageUtilization", &["current", "averageUtilization"]),
    ("currentAverageValue", &["current", "averageValue"]),
];
const PODS_NOW: Fields = &[
    ("metricName", &["metric", "name"]),
    ("selector", &["metric", "selector"]),
    ("currentAverageValue", &["current", "averageValue"]),
];
const OBJECT_NOW: Fields = &[
    ("target", &["describedObject"]),
    ("metricName", &["metric", "name"]),
    ("selector", &["metric", "selector"]),
    ("currentValue", &["current", "value"]),
    ("averageValue", &["current", "averageValue"]),
];
const EXTERNAL_NOW: Fields = &[
    ("metricName", &["metric", "name"]),
    ("metricSelector", &["metric", "selector"]),
    ("currentValue", &["current", "value"]),
    ("currentAverageValue", &["current", "averageValue"]),
];
const STATUSES: &[(&str, Fields)] = &[
    ("resource", RESOURCE_NOW),
    ("containerResource", CONTAINER_NOW),
    ("pods", PODS_NOW),
    ("object", OBJECT_NOW),
    ("external", EXTERNAL_NOW),
];

/// A metric to aim at, in version 1.
pub(super) fn flat_spec(metric: &Value) -> Value {
    flat(metric, SPECS)
}

/// A metric as it is, in version 1.
pub(super) fn flat_status(metric: &Value) -> Value {
    flat(metric, STATUSES)
}

/// A metric to aim at, in version 2.
pub(super) fn deep_spec(metric: &Value) -> Value {
    let mut out = deep(metric, SPECS);
    for (source, _) in SPECS {
        let Some(target) = out.get_mut(*source).and_then(|s| s.get_mut("target")) else { continue };
        let kind = if get(target, "averageUtilization").is_some() {
            "Utilization"
        } else if get(target, "averageValue").is_some() || matches!(*source, "resource" | "containerResource" | "pods")
        {
            "AverageValue"
        } else {
            "Value"
        };
        target["type"] = kind.into();
    }
    out
}

/// A metric as it is, in version 2.
pub(super) fn deep_status(metric: &Value) -> Value {
    deep(metric, STATUSES)
}

fn flat(metric: &Value, table: &[(&str, Fields)]) -> Value {
    let mut out = json!({"type": text(metric, "type")});
    for (source, fields) in table {
        let Some(deep) = get(metric, source) else { continue };
        let mut part = Map::new();
        for (name, path) in *fields {
            if let Some(value) = path.iter().try_fold(deep, |v, key| get(v, key)) {
                part.insert((*name).into(), value.clone());
            }
        }
        out[*source] = part.into();
    }
    out
}

fn deep(metric: &Value, table: &[(&str, Fields)]) -> Value {
    let mut out = json!({"type": text(metric, "type")});
    for (source, fields) in table {
        let Some(flat) = get(metric, source) else { continue };
        let mut part = json!({});
        for (name, path) in *fields {
            let Some(value) = get(flat, name) else { continue };
            let slot = path.iter().fold(&mut part, |v, key| &mut v[*key]);
            *slot = value.clone();
        }
        out[*source] = part;
    }
    out
}
