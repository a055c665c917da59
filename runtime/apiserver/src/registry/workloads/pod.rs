//! Pods: a new one is pending, whatever its writer says.

use serde_json::{Value, json};

use crate::registry::strategy::{Strategy, Writer, put};

pub(crate) struct Pods;

impl Strategy for Pods {
    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        put(object, "status", Some(json!({"phase": "Pending"})));
    }
}
