//! NetworkPolicies.

use kiln_apimachinery::meta;
use serde_json::{Value, json};

use crate::registry::strategy::{Strategy, Writer, default_to};

pub(crate) struct NetworkPolicies;

impl Strategy for NetworkPolicies {
    fn default(&self, object: &mut Value) {
        meta::child(object, "spec");
        let Some(spec) = object.get_mut("spec") else { return };
        default_to(spec, "podSelector", json!({}));
        let is_empty = |v: Option<&Value>| v.and_then(Value::as_array).is_none_or(Vec::is_empty);
        if is_empty(spec.get("policyTypes")) {
            let both = !is_empty(spec.get("egress"));
            let types = if both { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
            meta::object_mut(spec).insert("policyTypes".into(), types);
        }
        for rules in ["ingress", "egress"] {
            for rule in spec.get_mut(rules).and_then(Value::as_array_mut).into_iter().flatten() {
                for port in rule.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
                    default_to(port, "protocol", "TCP");
                }
            }
        }
    }

    fn prepare_update(&self, _writer: &Writer<'_>, _new: &mut Value, _old: &Value) {}
}
