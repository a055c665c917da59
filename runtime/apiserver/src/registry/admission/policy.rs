//! Admission policies in CEL and their bindings.

use kiln_apimachinery::meta;
use serde_json::{Value, json};

use crate::registry::strategy::{Strategy, Writer, default_to, put, split_status};

pub(crate) struct Policies {
    pub(crate) mutating: bool,
}

impl Strategy for Policies {
    fn default(&self, object: &mut Value) {
        meta::child(object, "spec");
        if let Some(spec) = object.get_mut("spec") {
            default_to(spec, "failurePolicy", "Fail");
        }
        if let Some(matches) = object.pointer_mut("/spec/matchConstraints").filter(|m| m.is_object()) {
            default_matches(matches);
        }
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        if !self.mutating {
            put(object, "status", Some(json!({})));
        }
    }

    fn prepare_update(&self, writer: &Writer<'_>, new: &mut Value, old: &Value) {
        if !self.mutating {
            split_status(writer, new, old);
        }
    }
}

pub(crate) struct Bindings {
    pub(crate) mutating: bool,
}

impl Strategy for Bindings {
    fn default(&self, object: &mut Value) {
        meta::child(object, "spec");
        if let Some(matches) = object.pointer_mut("/spec/matchResources").filter(|m| m.is_object()) {
            default_matches(matches);
        }
    }

    fn prepare_update(&self, _writer: &Writer<'_>, _new: &mut Value, _old: &Value) {}
}

fn default_matches(matches: &mut Value) {
    default_to(matches, "matchPolicy", "Equivalent");
    default_to(matches, "namespaceSelector", json!({}));
    default_to(matches, "objectSelector", json!({}));
    for rules in ["resourceRules", "excludeResourceRules"] {
        for rule in matches.get_mut(rules).and_then(Value::as_array_mut).into_iter().flatten() {
            default_to(rule, "scope", "*");
        }
    }
}
