//! Amounts of resources, and the names of the resources.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::quantity::Quantity;
use kiln_apimachinery::{FieldError, names};
use serde_json::Value;

use super::{Errors, name};

/// Resources that are counted in whole numbers.
const INTEGERS: &[&str] = &[
    "pods",
    "services",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

/// Reads an amount that the schema let through; nothing if it can't be read.
pub(crate) fn read(value: &Value) -> Quantity {
    Quantity::from_value(value).unwrap_or(Quantity::ZERO)
}

/// True for a resource that some driver or vendor brings: a domain other than Kubernetes' own stands before it.
pub(crate) fn is_extended(resource: &str) -> bool {
    !is_native(resource)
        && !resource.starts_with("requests.")
        && names::qualified_name(&format!("requests.{resource}")).is_empty()
}

/// True for a resource without a domain, or with Kubernetes' own.
pub(crate) fn is_native(resource: &str) -> bool {
    !resource.contains('/') || resource.contains("kubernetes.io/")
}

/// An amount may not be below nothing, and is whole where parts make no sense.
pub(crate) fn amount(path: &Path<'_>, resource: &str, value: &Value, errors: &mut Errors) {
    let Ok(quantity) = Quantity::from_value(value) else {
        let why = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
        errors.push(FieldError::invalid(path, value, why));
        return;
    };
    if quantity.is_negative() {
        let shown = quantity.to_string().into();
        errors.push(FieldError::invalid(path, &shown, "must be greater than or equal to 0"));
    }
    if (INTEGERS.contains(&resource) || is_extended(resource)) && quantity.milli_value() % 1000 != 0 {
        errors.push(FieldError::invalid(path, &quantity.to_string().into(), "must be an integer"));
    }
}

/// Resources of containers.
const COMPUTE: &[&str] = &["cpu", "memory", "ephemeral-storage"];
/// Resources besides [`INTEGERS`] that a quota may bound.
const BOUNDED: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];

/// The name of a resource that a limit is about: one of containers, or any that is known or has a domain.
pub(crate) fn limit_name(path: &Path<'_>, resource: &str, of_containers: bool, errors: &mut Errors) {
    let before = errors.len();
    name(path, resource, names::qualified_name, errors);
    if errors.len() > before {
        return;
    }
    let plain = !resource.contains('/');
    let known = INTEGERS.contains(&resource) || BOUNDED.contains(&resource) || resource == "storage";
    let why = if plain && !known && !resource.starts_with("hugepages-") {
        "must be a standard resource type or fully qualified"
    } else if of_containers && plain && !COMPUTE.contains(&resource) && !resource.starts_with("hugepages-") {
        "must be a standard resource for containers"
    } else if of_containers && !is_native(resource) && !is_extended(resource) {
        "doesn't follow extended resource name standard"
    } else {
        return;
    };
    errors.push(FieldError::invalid(path, &resource.into(), why));
}

/// True for a resource that quotas know.
pub(crate) fn is_quota_resource(resource: &str) -> bool {
    INTEGERS.contains(&resource)
        || BOUNDED.contains(&resource)
        || resource.starts_with("hugepages-")
        || resource.starts_with("requests.hugepages-")
}

/// The name of a resource that a quota is about.
pub(crate) fn quota_name(path: &Path<'_>, resource: &str, errors: &mut Errors) {
    let before = errors.len();
    name(path, resource, names::qualified_name, errors);
    if errors.len() == before && !resource.contains('/') && !is_quota_resource(resource) {
        let known = resource == "storage";
        if !known {
            let why = "must be a standard resource type or fully qualified";
            errors.push(FieldError::invalid(path, &resource.into(), why));
        }
        errors.push(FieldError::invalid(path, &resource.into(), "must be a standard resource for quota"));
    }
}
