//! PriorityLevelConfigurations.

use kiln_apimachinery::meta;
use serde_json::{Value, json};

use crate::registry::strategy::{Strategy, Writer, default_to, put, split_status};

pub(crate) struct Levels;

impl Strategy for Levels {
    fn default(&self, object: &mut Value) {
        meta::child(object, "spec");
        if let Some(exempt) = object.pointer_mut("/spec/exempt").filter(|e| e.is_object()) {
            default_to(exempt, "nominalConcurrencyShares", 0);
            default_to(exempt, "lendablePercent", 0);
        }
        if let Some(limited) = object.pointer_mut("/spec/limited").filter(|l| l.is_object()) {
            default_to(limited, "nominalConcurrencyShares", 30);
            default_to(limited, "lendablePercent", 0);
        }
        if let Some(queuing) = object.pointer_mut("/spec/limited/limitResponse/queuing").filter(|q| q.is_object()) {
            for (key, value) in [("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)] {
                if queuing.get(key).and_then(Value::as_i64).unwrap_or(0) == 0 {
                    put(queuing, key, Some(value.into()));
                }
            }
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
