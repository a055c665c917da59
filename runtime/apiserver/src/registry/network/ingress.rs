//! Ingresses and IngressClasses.

use kiln_apimachinery::meta;
use serde_json::{Value, json};

use crate::registry::strategy::{Strategy, Writer, default_to, put};

pub(crate) struct Ingresses;

impl Strategy for Ingresses {
    fn default(&self, object: &mut Value) {
        meta::child(object, "spec");
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        put(object, "status", Some(json!({"loadBalancer": {}})));
    }
}

pub(crate) struct IngressClasses;

impl Strategy for IngressClasses {
    fn default(&self, object: &mut Value) {
        meta::child(object, "spec");
        if let Some(parameters) = object.pointer_mut("/spec/parameters").filter(|p| p.is_object()) {
            default_to(parameters, "scope", "Cluster");
        }
    }

    fn prepare_update(&self, _writer: &Writer<'_>, _new: &mut Value, _old: &Value) {}
}
