//! StorageClasses and VolumeAttributesClasses.

use serde_json::Value;

use crate::registry::strategy::{Strategy, Writer, default_to};

pub(crate) struct StorageClasses;

impl Strategy for StorageClasses {
    fn default(&self, object: &mut Value) {
        default_to(object, "reclaimPolicy", "Delete");
        default_to(object, "volumeBindingMode", "Immediate");
    }

    fn prepare_update(&self, _writer: &Writer<'_>, _new: &mut Value, _old: &Value) {}
}

pub(crate) struct AttributesClasses;

impl Strategy for AttributesClasses {
    fn prepare_update(&self, _writer: &Writer<'_>, _new: &mut Value, _old: &Value) {}
}
