//! What CSI drivers and the volumes they attach are told by: CSIDrivers, CSINodes, CSIStorageCapacities, VolumeAttachments.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::quantity::Quantity;
use kiln_apimachinery::{FieldError, meta, names};
use serde_json::{Value, json};

use super::volume_rules::spec_rules;
use crate::registry::rules::{
    self, Errors, driver_name, given, list, name, not_negative, number, one_of, selector, text,
};
use crate::registry::strategy::{Strategy, Writer, default_to, put, split_status};

const GROUP_POLICIES: &[&str] = &["File", "None", "ReadWriteOnceWithFSType"];
const LIFECYCLES: &[&str] = &["Persistent", "Ephemeral"];
const MAX_NODE_ID: usize = 256;
const MAX_METADATA: usize = 256 * 1024;
const MAX_MESSAGE: usize = 1024;

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
        if list(spec, "volumeLifecycleModes").is_empty() {
            put(spec, "volumeLifecycleModes", Some(json!(["Persistent"])));
        }
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        // Behind a gate that is off by default.
        meta::child(object, "spec").remove("preventPodSchedulingIfMissing");
    }

    fn prepare_update(&self, _writer: &Writer<'_>, new: &mut Value, old: &Value) {
        // The count begins with the first change, unlike that of other kinds.
        if new.get("spec") != old.get("spec") {
            let generation = meta::at(old, &["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0);
            meta::metadata_mut(new).insert("generation".into(), (generation + 1).into());
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let Some(spec) = object.get("spec") else { return errors };
        let path = Path::new("spec");
        one_of(&path.child("fsGroupPolicy"), text(spec, "fsGroupPolicy"), GROUP_POLICIES, &mut errors);
        token_requests(&path.child("tokenRequests"), list(spec, "tokenRequests"), &mut errors);
        for mode in meta::strings(spec.get("volumeLifecycleModes")) {
            one_of(&path.child("volumeLifecycleModes"), mode, LIFECYCLES, &mut errors);
        }
        if let Some(seconds) = given(spec, "nodeAllocatableUpdatePeriodSeconds").and_then(Value::as_i64)
            && seconds < 10
        {
            let at = path.child("nodeAllocatableUpdatePeriodSeconds");
            errors.push(FieldError::invalid(at, &seconds.into(), "must be greater than or equal to 10 seconds"));
        }
        if let Some(in_secrets) = given(spec, "serviceAccountTokenInSecrets")
            && list(spec, "tokenRequests").is_empty()
        {
            let why = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
            errors.push(FieldError::invalid(path.child("serviceAccountTokenInSecrets"), in_secrets, why));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        for (key, shown) in [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")] {
            let at = |o: &Value| meta::at(o, &["spec", key]).cloned();
            let path = Path::new("spec");
            rules::immutable(&path.child(shown), at(new).as_ref(), at(old).as_ref(), &mut errors);
        }
        errors
    }
}

fn token_requests(path: &Path<'_>, requests: &[Value], errors: &mut Errors) {
    for (i, request) in requests.iter().enumerate() {
        let path = path.index(i);
        let audience = text(request, "audience");
        if requests[..i].iter().any(|r| text(r, "audience") == audience) {
            errors.push(FieldError::duplicate(path.child("audience"), &audience.into()));
            continue;
        }
        let Some(seconds) = given(request, "expirationSeconds").and_then(Value::as_i64) else { continue };
        let at = path.child("expirationSeconds");
        if seconds < 600 {
            errors.push(FieldError::invalid(at, &seconds.into(), "may not specify a duration less than 10 minutes"));
        }
        if seconds > 1 << 32 {
            let why = "may not specify a duration larger than 2^32 seconds";
            errors.push(FieldError::invalid(at, &seconds.into(), why));
        }
    }
}

pub(crate) struct Nodes;

impl Strategy for Nodes {
    fn prepare_update(&self, _writer: &Writer<'_>, _new: &mut Value, _old: &Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let Some(spec) = object.get("spec") else { return errors };
        let (path, drivers) = (Path::new("spec.drivers"), list(spec, "drivers"));
        for (i, driver) in drivers.iter().enumerate() {
            let path = path.index(i);
            let (driver_text, id) = (text(driver, "name"), text(driver, "nodeID"));
            driver_name(&path.child("name"), driver_text, &mut errors);
            rules::required(&path.child("nodeID"), id, &mut errors);
            if id.len() > MAX_NODE_ID {
                let why = format!("must be {MAX_NODE_ID} characters or less");
                errors.push(FieldError::invalid(path.child("nodeID"), &id.into(), &why));
            }
            if let Some(allocatable) = given(driver, "allocatable") {
                not_negative(&path.child("allocatable.count"), number(allocatable, "count"), &mut errors);
            }
            if drivers[..i].iter().any(|d| text(d, "name") == driver_text) {
                errors.push(FieldError::duplicate(path.child("name"), &driver_text.into()));
            }
            let keys = meta::strings(driver.get("topologyKeys"));
            for (k, key) in keys.iter().enumerate() {
                if key.is_empty() {
                    errors.push(FieldError::required(path, ""));
                }
                if keys[..k].contains(key) {
                    errors.push(FieldError::duplicate(path, &(*key).into()));
                }
                name(&path, key, names::qualified_name, &mut errors);
            }
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let drivers =
            |o: &Value| -> Vec<Value> { o.get("spec").map(|s| list(s, "drivers").to_vec()).unwrap_or_default() };
        let without_count = |driver: &Value| {
            let mut driver = driver.clone();
            meta::object_mut(&mut driver).remove("allocatable");
            driver
        };
        for was in drivers(old) {
            let same = drivers(new).into_iter().filter(|d| text(d, "name") == text(&was, "name"));
            for driver in same.filter(|d| without_count(d) != without_count(&was)) {
                errors.push(FieldError::invalid("spec.drivers", &without_count(&driver), rules::IMMUTABLE));
            }
        }
        errors
    }
}

pub(crate) struct Capacities;

impl Strategy for Capacities {
    fn prepare_update(&self, _writer: &Writer<'_>, _new: &mut Value, _old: &Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        if let Some(topology) = given(object, "nodeTopology") {
            selector::label_selector(&Path::new("nodeTopology"), topology, &mut errors);
        }
        let class = text(object, "storageClassName");
        name(&Path::new("storageClassName"), class, names::dns1123_subdomain, &mut errors);
        if let Some(capacity) = given(object, "capacity")
            && Quantity::from_value(capacity).is_ok_and(Quantity::is_negative)
        {
            errors.push(FieldError::invalid("capacity", capacity, "must be greater than or equal to 0"));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        for key in ["nodeTopology", "storageClassName"] {
            rules::immutable(&Path::new(key), new.get(key), old.get(key), &mut errors);
        }
        errors
    }
}

pub(crate) struct Attachments;

impl Strategy for Attachments {
    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        put(object, "status", Some(json!({"attached": false})));
    }

    fn prepare_update(&self, writer: &Writer<'_>, new: &mut Value, old: &Value) {
        split_status(writer, new, old);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let Some(spec) = object.get("spec") else { return errors };
        let path = Path::new("spec");
        driver_name(&path.child("attacher"), text(spec, "attacher"), &mut errors);
        let both = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
        let source_path = path.child("source");
        let source = spec.get("source").unwrap_or(&Value::Null);
        let volume = given(source, "persistentVolumeName").and_then(Value::as_str);
        match (given(source, "inlineVolumeSpec"), volume) {
            (None, None) => errors.push(FieldError::required(source_path, both)),
            (Some(_), Some(_)) => errors.push(FieldError::forbidden(source_path, both)),
            (None, Some("")) => {
                let why = "must specify non empty persistentVolumeName";
                errors.push(FieldError::required(source_path.child("persistentVolumeName"), why));
            }
            (None, Some(volume)) => {
                name(&source_path.child("persistentVolumeName"), volume, names::dns1123_subdomain, &mut errors);
            }
            (Some(inline), None) => spec_rules(&source_path.child("inlineVolumeSpec"), inline, true, &mut errors),
        }
        name(&path.child("nodeName"), text(spec, "nodeName"), names::dns1123_subdomain, &mut errors);
        attachment_status(object, &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        rules::immutable(&Path::new("spec"), new.get("spec"), old.get("spec"), &mut errors);
        errors
    }
}

fn attachment_status(object: &Value, errors: &mut Errors) {
    let Some(status) = object.get("status") else { return };
    let path = Path::new("status");
    let metadata = meta::string_map(status.get("attachmentMetadata"));
    if metadata.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > MAX_METADATA {
        errors.push(FieldError::too_long(path.child("attachmentMetadata"), MAX_METADATA));
    }
    for key in ["attachError", "detachError"] {
        let Some(error) = given(status, key) else { continue };
        let path = path.child(key);
        if text(error, "message").len() > MAX_MESSAGE {
            errors.push(FieldError::too_long(path.child("message"), MAX_METADATA));
        }
        let code = number(error, "errorCode");
        if code < 0 {
            let why = "must be between 0 and 2147483647, inclusive";
            errors.push(FieldError::invalid(path.child("errorCode"), &code.into(), why));
        }
    }
}
