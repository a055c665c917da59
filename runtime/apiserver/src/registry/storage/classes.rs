//! StorageClasses and VolumeAttributesClasses.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, meta, names};
use serde_json::Value;

use crate::registry::rules::{self, Errors, list, name, one_of, required_one_of, selector, text};
use crate::registry::strategy::{Strategy, Writer, default_to};

const RECLAIM: &[&str] = &["Delete", "Retain"];
const BINDING: &[&str] = &["Immediate", "WaitForFirstConsumer"];
const MAX_PARAMETERS: usize = 512;
const MAX_PARAMETERS_SIZE: usize = 256 * 1024;

pub(crate) struct StorageClasses;

impl Strategy for StorageClasses {
    fn default(&self, object: &mut Value) {
        default_to(object, "reclaimPolicy", "Delete");
        default_to(object, "volumeBindingMode", "Immediate");
    }

    fn prepare_update(&self, _writer: &Writer<'_>, _new: &mut Value, _old: &Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        provisioner(&Path::new("provisioner"), text(object, "provisioner"), &mut errors);
        parameters(object, true, &mut errors);
        let policy = text(object, "reclaimPolicy");
        if !policy.is_empty() {
            one_of(&Path::new("reclaimPolicy"), policy, RECLAIM, &mut errors);
        }
        required_one_of(&Path::new("volumeBindingMode"), text(object, "volumeBindingMode"), BINDING, &mut errors);
        selector::topology_terms(&Path::new("allowedTopologies"), list(object, "allowedTopologies"), &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        for key in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
            rules::immutable(&Path::new(key), new.get(key), old.get(key), &mut errors);
        }
        errors
    }
}

pub(crate) struct AttributesClasses;

impl Strategy for AttributesClasses {
    fn prepare_update(&self, _writer: &Writer<'_>, _new: &mut Value, _old: &Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        provisioner(&Path::new("driverName"), text(object, "driverName"), &mut errors);
        parameters(object, false, &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let changed = ["driverName", "parameters"].into_iter().filter(|key| new.get(*key) != old.get(*key));
        changed.map(|key| FieldError::forbidden(key, &format!("updates to {key} are forbidden."))).collect()
    }
}

fn provisioner(path: &Path<'_>, provisioner: &str, errors: &mut Errors) {
    if provisioner.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else {
        name(path, &provisioner.to_lowercase(), names::qualified_name, errors);
    }
}

fn parameters(object: &Value, may_be_empty: bool, errors: &mut Errors) {
    let all = meta::string_map(object.get("parameters"));
    if all.len() > MAX_PARAMETERS {
        errors.push(FieldError::too_long("parameters", MAX_PARAMETERS));
        return;
    }
    if all.contains_key("") {
        errors.push(FieldError::invalid("parameters", &"".into(), "field can not be empty."));
    }
    if all.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > MAX_PARAMETERS_SIZE {
        errors.push(FieldError::too_long("parameters", MAX_PARAMETERS_SIZE));
    }
    if !may_be_empty && all.is_empty() {
        errors.push(FieldError::required("parameters", "must contain at least one key/value pair"));
    }
}
