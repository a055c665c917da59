//! Endpoints and EndpointSlices.

use kiln_apimachinery::meta;
use serde_json::Value;

use crate::registry::strategy::{Strategy, Writer, default_to};

pub(crate) struct Endpoints;

impl Strategy for Endpoints {
    fn default(&self, object: &mut Value) {
        for subset in object.get_mut("subsets").and_then(Value::as_array_mut).into_iter().flatten() {
            for port in subset.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
                default_to(port, "protocol", "TCP");
            }
        }
    }

    fn prepare_update(&self, _writer: &Writer<'_>, _new: &mut Value, _old: &Value) {}
}

pub(crate) struct EndpointSlices;

impl Strategy for EndpointSlices {
    fn default(&self, object: &mut Value) {
        for port in object.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            default_to(port, "name", "");
            default_to(port, "protocol", "TCP");
        }
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        drop_topology(object);
    }

    fn prepare_update(&self, _writer: &Writer<'_>, new: &mut Value, old: &Value) {
        // Labels say whose slice it is, so their changes count as well.
        if meta::labels(new) != meta::labels(old) {
            let generation = meta::at(old, &["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0);
            meta::metadata_mut(new).insert("generation".into(), (generation + 1).into());
        }
        drop_topology(new);
    }
}

/// A field of the beta, which version 1 shows and does not take.
fn drop_topology(slice: &mut Value) {
    for endpoint in slice.get_mut("endpoints").and_then(Value::as_array_mut).into_iter().flatten() {
        meta::object_mut(endpoint).remove("deprecatedTopology");
    }
}
