//! PriorityClasses and RuntimeClasses.

use serde_json::Value;

use kiln_apimachinery::meta;

use crate::registry::strategy::{Strategy, Writer, default_to};

pub(crate) struct PriorityClasses;

impl Strategy for PriorityClasses {
    fn default(&self, object: &mut Value) {
        default_to(object, "preemptionPolicy", "PreemptLowerPriority");
        default_to(object, "value", 0);
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        meta::metadata_mut(object).insert("generation".into(), 1.into());
    }

    fn prepare_update(&self, _writer: &Writer<'_>, _new: &mut Value, _old: &Value) {}
}

pub(crate) struct RuntimeClasses;

impl Strategy for RuntimeClasses {
    fn prepare_update(&self, _writer: &Writer<'_>, _new: &mut Value, _old: &Value) {}
}
