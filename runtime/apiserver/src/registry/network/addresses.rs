//! ServiceCIDRs and the IPAddresses that are taken out of them.

use kiln_apimachinery::meta;
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

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        put(object, "status", Some(json!({})));
    }
}
