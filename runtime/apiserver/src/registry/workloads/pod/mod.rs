//! Pods: a new one is pending, whatever its writer says; what may change later depends on where it is written.

mod prepare;
mod qos;
mod resize;
mod status;
mod update;

use kiln_apimachinery::{FieldError, meta};
use serde_json::{Value, json};

use super::check::{Report, spec};
use super::defaults;
use super::view::{int, text};
use crate::registry::strategy::{Strategy, Writer, put};

pub(crate) struct Pods;

impl Strategy for Pods {
    fn default(&self, object: &mut Value) {
        defaults::pod(object);
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        let class = qos::class(object.get("spec").unwrap_or(&Value::Null));
        put(object, "status", Some(json!({"phase": "Pending", "qosClass": class})));
        prepare::scheduling_gates(object);
        prepare::match_labels(object);
        prepare::app_armor(object);
    }

    fn prepare_update(&self, writer: &Writer<'_>, new: &mut Value, old: &Value) {
        match writer.subresource {
            "" => put(new, "status", old.get("status").cloned()),
            "status" => prepare::status(new, old),
            "ephemeralcontainers" => prepare::ephemeral_containers(new, old),
            "resize" => prepare::resize(new, old),
            _ => {}
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::default();
        spec::new_pod(object, &mut report);
        report.0
    }

    fn validate_write(&self, writer: &Writer<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        match writer.subresource {
            "status" => status::validate(new, old),
            "ephemeralcontainers" => update::ephemeral_containers(new, old),
            "resize" => resize::validate(new, old),
            _ => update::validate(new, old),
        }
    }

    /// The pod's own time to end, unless the delete says otherwise; none for a pod that is nowhere or over.
    fn graceful_delete(&self, pod: &Value, requested: Option<i64>) -> Option<i64> {
        let spec = pod.get("spec").unwrap_or(&Value::Null);
        let over = matches!(meta::text(pod, &["status", "phase"]), "Failed" | "Succeeded");
        if text(spec, "nodeName").is_empty() || over {
            return Some(0);
        }
        let period = requested.or_else(|| int(spec, "terminationGracePeriodSeconds")).unwrap_or(0);
        Some(if period < 0 { 1 } else { period })
    }
}
