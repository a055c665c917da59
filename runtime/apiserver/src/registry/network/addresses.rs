//! ServiceCIDRs and the IPAddresses that are taken out of them.

use kiln_apimachinery::{meta, time};
use serde_json::{Value, json};

use crate::registry::strategy::{Strategy, Writer, put};

pub(crate) struct IpAddresses;

impl Strategy for IpAddresses {
    fn default(&self, object: &mut Value) {
        meta::child(object, "spec");
    }

    fn prepare_update(&self, _writer: &Writer<'_>, _new: &mut Value, _old: &Value) {}
}

pub(crate) struct ServiceCidrs;

impl Strategy for ServiceCidrs {
    fn default(&self, object: &mut Value) {
        meta::child(object, "spec");
    }

    fn prepare_create(&self, writer: &Writer<'_>, object: &mut Value) {
        // Addresses are looked up in the store, so there is nothing to wait for.
        let ready = json!({
            "type": "Ready", "status": "True", "reason": "", "message": "Kubernetes Service CIDR is ready",
            "lastTransitionTime": time::rfc3339(writer.now),
        });
        put(object, "status", Some(json!({"conditions": [ready]})));
    }
}
