//! LimitRanges and ResourceQuotas.

use kiln_apimachinery::meta;
use kiln_apimachinery::random;
use serde_json::{Map, Value, json};

use crate::registry::strategy::{Strategy, Writer, put};

pub(crate) struct LimitRanges;

impl Strategy for LimitRanges {
    fn default(&self, object: &mut Value) {
        let limits = object.pointer_mut("/spec/limits").and_then(Value::as_array_mut);
        for item in limits.into_iter().flatten().filter(|i| meta::text(i, &["type"]) == "Container") {
            // Who gives a bound and no default means the bound; who gives a limit and no request means the limit.
            fill(item, "default", "max");
            fill(item, "defaultRequest", "default");
            fill(item, "defaultRequest", "min");
        }
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        if meta::name(object).is_empty()
            && let Ok(name) = random::uid()
        {
            meta::metadata_mut(object).insert("name".into(), name.into());
        }
    }

    fn prepare_update(&self, _writer: &Writer<'_>, _new: &mut Value, _old: &Value) {}
}

/// Adds to the list of resources at `key` what is at `from` only.
fn fill(item: &mut Value, key: &str, from: &str) {
    let found: Map<String, Value> = item.get(from).and_then(Value::as_object).cloned().unwrap_or_default();
    if found.is_empty() {
        return;
    }
    let target = meta::child(item, key);
    for (resource, quantity) in found {
        target.entry(resource).or_insert(quantity);
    }
}

pub(crate) struct ResourceQuotas;

impl Strategy for ResourceQuotas {
    fn default(&self, object: &mut Value) {
        meta::child(object, "spec");
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        put(object, "status", Some(json!({})));
    }
}
