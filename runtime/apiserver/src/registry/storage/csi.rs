//! What CSI drivers and the volumes they attach are told by: CSIDrivers, CSINodes, CSIStorageCapacities, VolumeAttachments.

use kiln_apimachinery::meta;
use serde_json::{Value, json};

use crate::registry::strategy::{Strategy, Writer, default_to, put, split_status};

pub(crate) struct Drivers;

impl Strategy for Drivers {
    fn default(&self, object: &mut Value) {
        meta::child(object, "spec");
        let Some(spec) = object.get_mut("spec") else { return };
        default_to(spec, "attachRequired", true);
        default_to(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        for key in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
            default_to(spec, key, false);
        }
        let modes = meta::object_mut(spec).entry("volumeLifecycleModes").or_insert(json!([]));
        if modes.as_array().is_none_or(Vec::is_empty) {
            *modes = json!(["Persistent"]);
        }
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        meta::child(object, "spec").remove("preventPodSchedulingIfMissing");
    }

    fn prepare_update(&self, _writer: &Writer<'_>, new: &mut Value, old: &Value) {
        // The count begins with the first change, unlike that of other kinds.
        if new.get("spec") != old.get("spec") {
            let generation = meta::at(old, &["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0);
            meta::metadata_mut(new).insert("generation".into(), (generation + 1).into());
        }
    }
}

pub(crate) struct Nodes;

impl Strategy for Nodes {
    fn prepare_update(&self, _writer: &Writer<'_>, _new: &mut Value, _old: &Value) {}
}

pub(crate) struct Capacities;

impl Strategy for Capacities {
    fn prepare_update(&self, _writer: &Writer<'_>, _new: &mut Value, _old: &Value) {}
}

pub(crate) struct Attachments;

impl Strategy for Attachments {
    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        put(object, "status", Some(json!({"attached": false})));
    }

    fn prepare_update(&self, writer: &Writer<'_>, new: &mut Value, old: &Value) {
        split_status(writer, new, old);
    }
}
