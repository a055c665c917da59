//! FlowSchemas.

use kiln_apimachinery::meta;
use serde_json::{Value, json};

use crate::registry::strategy::{Strategy, Writer, put, split_status};

pub(crate) struct Schemas;

/// Where a schema without a place of its own stands in the order.
const PRECEDENCE: i64 = 1000;

impl Strategy for Schemas {
    fn default(&self, object: &mut Value) {
        let spec = meta::child(object, "spec");
        if spec.get("matchingPrecedence").and_then(Value::as_i64).unwrap_or(0) == 0 {
            spec.insert("matchingPrecedence".into(), PRECEDENCE.into());
        }
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        put(object, "status", Some(json!({})));
    }

    fn prepare_update(&self, writer: &Writer<'_>, new: &mut Value, old: &Value) {
        split_status(writer, new, old);
        if writer.subresource == "status" {
            super::keep_metadata(new, old);
        }
    }
}
