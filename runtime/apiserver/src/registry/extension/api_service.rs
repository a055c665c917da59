//! APIServices.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_apimachinery::names::{self, NameRule};
use kiln_apimachinery::{FieldError, meta, time};
use serde_json::{Value, json};

use crate::registry::cells::items;
use crate::registry::strategy::{Strategy, Writer, default_to, put, split_status};

/// Priorities of groups and versions: a discovery's order, highest first.
const PRIORITIES: &[(&str, &str, i64, i64)] = &[
    ("", "v1", 18000, 1),
    ("apps", "v1", 17800, 15),
    ("events.k8s.io", "v1", 17750, 15),
    ("authentication.k8s.io", "v1", 17700, 15),
    ("authorization.k8s.io", "v1", 17600, 15),
    ("autoscaling", "v1", 17500, 15),
    ("autoscaling", "v2", 17500, 30),
    ("batch", "v1", 17400, 15),
    ("certificates.k8s.io", "v1", 17300, 15),
    ("networking.k8s.io", "v1", 17200, 15),
    ("policy", "v1", 17100, 15),
    ("rbac.authorization.k8s.io", "v1", 17000, 15),
    ("storage.k8s.io", "v1", 16800, 15),
    ("apiextensions.k8s.io", "v1", 16700, 15),
    ("admissionregistration.k8s.io", "v1", 16700, 15),
    ("scheduling.k8s.io", "v1", 16600, 15),
    ("coordination.k8s.io", "v1", 16500, 15),
    ("node.k8s.io", "v1", 16300, 15),
    ("discovery.k8s.io", "v1", 16200, 15),
    ("resource.k8s.io", "v1", 16200, 21),
    ("flowcontrol.apiserver.k8s.io", "v1", 16100, 21),
    ("metrics.k8s.io", "v1beta1", 100, 100),
];

/// The priorities of a group and version that is served here.
pub(crate) fn priorities(group: &str, version: &str) -> Option<(i64, i64)> {
    let found = PRIORITIES.iter().find(|(g, v, _, _)| *g == group && *v == version);
    found.map(|(_, _, minimum, priority)| (*minimum, *priority))
}

/// The object for a group and version that is served here; none for one that has no place in the order.
pub(crate) fn local(group: &str, version: &str) -> Option<Value> {
    let (minimum, priority) = priorities(group, version)?;
    Some(json!({
        "metadata": {
            "name": format!("{version}.{group}"),
            "labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"},
        },
        "spec": {"group": group, "version": version, "groupPriorityMinimum": minimum, "versionPriority": priority},
    }))
}

pub(crate) struct ApiServices;

impl Strategy for ApiServices {
    fn name_rule(&self) -> NameRule {
        names::path_segment
    }

    fn default(&self, object: &mut Value) {
        meta::child(object, "spec");
        if let Some(service) = object.pointer_mut("/spec/service").filter(|s| s.is_object()) {
            default_to(service, "port", 443);
        }
    }

    fn prepare_create(&self, writer: &Writer<'_>, object: &mut Value) {
        let local = meta::at(object, &["spec", "service"]).is_none();
        let condition = json!({
            "type": "Available", "status": "True", "reason": "Local", "lastTransitionTime": time::rfc3339(writer.now),
            "message": "Local APIServices are always available",
        });
        put(object, "status", Some(if local { json!({"conditions": [condition]}) } else { json!({}) }));
    }

    fn prepare_update(&self, writer: &Writer<'_>, new: &mut Value, old: &Value) {
        split_status(writer, new, old);
        if writer.subresource == "status" {
            for key in ["labels", "annotations", "finalizers", "ownerReferences"] {
                let kept = meta::at(old, &["metadata", key]).cloned();
                let metadata = meta::metadata_mut(new);
                match kept {
                    Some(value) => metadata.insert(key.into(), value),
                    None => metadata.remove(key),
                };
            }
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let text = |key: &str| meta::text(object, &["spec", key]);
        let (group, version, name) = (text("group"), text("version"), meta::name(object));
        let wanted = format!("{version}.{group}");
        if !name.is_empty() && names::path_segment(name).is_empty() && name != wanted {
            let why = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
            errors.push(FieldError::invalid("metadata.name", &name.into(), &why));
        }
        if group.is_empty() && version != "v1" {
            let why = "only v1 may have an empty group and it better be legacy kube";
            errors.push(FieldError::required("spec.group", why));
        }
        for why in names::dns1123_subdomain(group).into_iter().filter(|_| !group.is_empty()) {
            errors.push(FieldError::invalid("spec.group", &group.into(), &why));
        }
        for why in names::dns1035_label(version) {
            errors.push(FieldError::invalid("spec.version", &version.into(), &why));
        }
        for (key, most) in [("groupPriorityMinimum", 20000), ("versionPriority", 1000)] {
            let number = meta::at(object, &["spec", key]).and_then(Value::as_i64).unwrap_or(0);
            if !(1..=most).contains(&number) {
                let why = format!("must be positive and less than {most}");
                errors.push(FieldError::invalid(format!("spec.{key}"), &number.into(), &why));
            }
        }
        errors.extend(validate_trust(object));
        for (i, condition) in items(object, &["status", "conditions"]).iter().enumerate() {
            let status = meta::text(condition, &["status"]);
            if !["True", "False", "Unknown"].contains(&status) {
                let field = format!("status.conditions[{i}].status");
                errors.push(FieldError::not_supported(field, &status.into(), &["False", "True", "Unknown"]));
            }
        }
        errors
    }
}

/// The rules about where the server is and how it is trusted.
fn validate_trust(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let bundle = STANDARD.decode(meta::text(object, &["spec", "caBundle"])).map_or(0, |b| b.len());
    let insecure = meta::at(object, &["spec", "insecureSkipTLSVerify"]) == Some(&Value::Bool(true));
    let Some(service) = meta::at(object, &["spec", "service"]).filter(|s| s.is_object()) else {
        if bundle > 0 {
            let why = "local APIServices may not have a caBundle";
            errors.push(FieldError::invalid("spec.caBundle", &format!("{bundle} bytes").into(), why));
        }
        if insecure {
            let why = "local APIServices may not have insecureSkipTLSVerify";
            errors.push(FieldError::invalid("spec.insecureSkipTLSVerify", &true.into(), why));
        }
        return errors;
    };
    for key in ["namespace", "name"] {
        if meta::text(service, &[key]).is_empty() {
            errors.push(FieldError::required(format!("spec.service.{key}"), ""));
        }
    }
    let port = service.get("port").and_then(Value::as_i64).unwrap_or(0);
    if !(1..=65535).contains(&port) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        errors.push(FieldError::invalid("spec.service.port", &port.into(), why));
    }
    if insecure && bundle > 0 {
        let why = "may not be true if caBundle is present";
        errors.push(FieldError::invalid("spec.insecureSkipTLSVerify", &true.into(), why));
    }
    errors
}
