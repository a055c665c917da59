//! PriorityClasses and RuntimeClasses.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, meta, names};
use serde_json::Value;

use crate::registry::rules::{self, Errors, given, labels, list, name, number, one_of, required_name, text};
use crate::registry::strategy::{Strategy, Writer, default_to};

/// The classes of the cluster's own pods, with their priorities.
const SYSTEM: [(&str, i64); 2] = [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];
/// Names that are the cluster's own.
const SYSTEM_PREFIX: &str = "system-";
/// Highest priority of other pods.
const HIGHEST: i64 = 1_000_000_000;

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

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let value = number(object, "value");
        if meta::name(object).starts_with(SYSTEM_PREFIX) {
            if let Some(why) = not_system(object, value) {
                let why = format!(
                    "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {why}"
                );
                errors.push(FieldError::forbidden("metadata.name", &why));
            }
        } else if value > HIGHEST {
            let why = format!("maximum allowed value of a user defined priority is {HIGHEST}");
            errors.push(FieldError::forbidden("value", &why));
        }
        let policies = &["Never", "PreemptLowerPriority"];
        one_of(&Path::new("preemptionPolicy"), text(object, "preemptionPolicy"), policies, &mut errors);
        errors
    }

    fn validate_write(&self, _writer: &Writer<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        if number(new, "value") != number(old, "value") {
            errors.push(FieldError::forbidden("value", "may not be changed in an update."));
        }
        let key = "preemptionPolicy";
        rules::immutable(&Path::new(key), new.get(key), old.get(key), &mut errors);
        errors
    }
}

/// Why a class is none of the cluster's own.
fn not_system(class: &Value, value: i64) -> Option<String> {
    let name = meta::name(class);
    let Some((_, wanted)) = SYSTEM.iter().find(|(system, _)| *system == name) else {
        return Some(format!("{name} is not a known system priority class"));
    };
    if value != *wanted {
        return Some(format!("value of {name} PriorityClass must be {wanted}"));
    }
    let is_default = class.get("globalDefault").and_then(Value::as_bool) == Some(true);
    is_default.then(|| format!("globalDefault of {name} PriorityClass must be false"))
}

pub(crate) struct RuntimeClasses;

impl Strategy for RuntimeClasses {
    fn prepare_update(&self, _writer: &Writer<'_>, _new: &mut Value, _old: &Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        required_name(&Path::new("handler"), text(object, "handler"), names::dns1123_label, &mut errors);
        if let Some(overhead) = given(object, "overhead").and_then(|o| o.get("podFixed")).and_then(Value::as_object) {
            let path = Path::new("overhead");
            let limits = path.child("limits");
            for (resource, amount) in overhead {
                let at = limits.key(resource);
                rules::quantities::limit_name(&at, resource, true, &mut errors);
                rules::quantities::amount(&at, resource, amount, &mut errors);
            }
        }
        if let Some(scheduling) = given(object, "scheduling") {
            labels(&Path::new("scheduling.nodeSelector"), scheduling.get("nodeSelector"), &mut errors);
            tolerations(list(scheduling, "tolerations"), &mut errors);
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        rules::immutable(&Path::new("handler"), new.get("handler"), old.get("handler"), &mut errors);
        errors
    }
}

fn tolerations(all: &[Value], errors: &mut Errors) {
    let path = Path::new("scheduling.tolerations");
    let identity = |t: &Value| ["key", "operator", "value", "effect"].map(|key| text(t, key).to_owned());
    for (i, toleration) in all.iter().enumerate() {
        let at = path.index(i);
        let [key, operator, value, effect] = identity(toleration);
        if !key.is_empty() {
            name(&at.child("key"), &key, names::qualified_name, errors);
        } else if operator != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(at.child("operator"), &operator.as_str().into(), why));
        }
        match operator.as_str() {
            "" | "Equal" => name(&at.child("operator"), &value, names::label_value, errors),
            "Exists" if !value.is_empty() => {
                let why = "value must be empty when `operator` is 'Exists'";
                errors.push(FieldError::invalid(at.child("operator"), &value.as_str().into(), why));
            }
            "Exists" => {}
            other => one_of(&at.child("operator"), other, &["Equal", "Exists"], errors),
        }
        if !effect.is_empty() {
            let effects = &["NoExecute", "NoSchedule", "PreferNoSchedule"];
            one_of(&at.child("effect"), &effect, effects, errors);
        }
        if all[..i].iter().any(|t| identity(t) == identity(toleration)) {
            errors.push(FieldError::duplicate(at, toleration));
        }
    }
}
