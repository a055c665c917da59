//! Quantities in their canonical form, and requests that follow from limits.

use std::collections::BTreeMap;

use kiln_apimachinery::meta;
use kiln_apimachinery::quantity::Quantity;
use serde_json::Value;

use super::super::view::{get_mut, items, make, text};
use crate::registry::rules::quantities::is_native;

/// Amounts by resource.
pub(in crate::registry::workloads) type Amounts = BTreeMap<String, Quantity>;

/// Writes one quantity in its canonical form; what is none stays for validation to refuse.
pub(in crate::registry::workloads) fn canonical(object: &mut Value, key: &str) {
    if let Some(value) = get_mut(object, key)
        && let Ok(quantity) = Quantity::from_value(value)
    {
        *value = quantity.to_string().into();
    }
}

/// Writes the quantities of a resource list in their canonical form, in thousandths at the finest.
pub(in crate::registry::workloads) fn canonical_list(object: &mut Value, key: &str) {
    let list = object.get_mut(key).and_then(Value::as_object_mut);
    for value in list.into_iter().flat_map(|m| m.values_mut()) {
        if let Ok(quantity) = Quantity::from_value(value) {
            *value = quantity.rounded_to_milli().to_string().into();
        }
    }
}

/// Writes limits and requests in their canonical form.
pub(in crate::registry::workloads) fn canonical_requirements(resources: &mut Value) {
    canonical_list(resources, "limits");
    canonical_list(resources, "requests");
}

/// The amounts of a resource list.
pub(in crate::registry::workloads) fn amounts(list: Option<&Value>) -> Amounts {
    let entries = list.and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(k, v)| Quantity::from_value(v).ok().map(|q| (k.clone(), q))).collect()
}

fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = to.get(name).map_or(*amount, |have| have.plus(*amount));
        to.insert(name.clone(), sum);
    }
}

fn raise(to: &mut Amounts, least: &Amounts) {
    for (name, amount) in least {
        if to.get(name).is_none_or(|have| amount > have) {
            to.insert(name.clone(), *amount);
        }
    }
}

/// True for an init container that keeps running beside the others.
pub(in crate::registry::workloads) fn is_sidecar(container: &Value) -> bool {
    text(container, "restartPolicy") == "Always"
}

/// What all containers together need of `requests` or `limits`, the init containers' peaks counted.
pub(in crate::registry::workloads) fn of_containers(spec: &Value, key: &str) -> Amounts {
    let of = |container: &Value| amounts(meta::at(container, &["resources", key]));
    let mut all = Amounts::new();
    for container in items(spec, "containers") {
        add(&mut all, &of(container));
    }
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in items(spec, "initContainers") {
        let mut now = of(container);
        if is_sidecar(container) {
            add(&mut all, &now);
            add(&mut sidecars, &now);
            now = sidecars.clone();
        } else {
            add(&mut now, &sidecars);
        }
        raise(&mut peak, &now);
    }
    raise(&mut all, &peak);
    all
}

/// Requests of a container that are not given are its limits.
pub(super) fn requests_from_limits(container: &mut Value) {
    let Some(resources) = get_mut(container, "resources") else { return };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { return };
    let requests = meta::object_mut(make(resources, "requests"));
    for (name, limit) in limits {
        requests.entry(name).or_insert(limit);
    }
}

/// True for a resource that a whole pod may ask for.
pub(in crate::registry::workloads) fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || is_huge_page(name)
}

/// True for `hugepages-2Mi` and its like.
pub(in crate::registry::workloads) fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// True if more may be allowed than is there: limits above requests.
pub(in crate::registry::workloads) fn may_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// Limits and requests of a whole pod follow from its containers', once some of them are given.
pub(super) fn pod_level(spec: &mut Value) {
    let of = |spec: &Value, key: &str| amounts(meta::at(spec, &["resources", key]));
    let (mut limits, mut requests) = (of(spec, "limits"), of(spec, "requests"));
    if spec.get("resources").is_none_or(Value::is_null) || (limits.is_empty() && requests.is_empty()) {
        return;
    }
    for (name, amount) in of_containers(spec, "limits") {
        if is_huge_page(&name) && !requests.contains_key(&name) {
            limits.entry(name).or_insert(amount);
        }
    }
    if !limits.is_empty() {
        for (name, amount) in of_containers(spec, "requests") {
            if is_pod_level(&name) && may_overcommit(&name) {
                requests.entry(name).or_insert(amount);
            }
        }
        for (name, limit) in limits.iter().filter(|(name, _)| is_pod_level(name)) {
            requests.entry(name.clone()).or_insert(*limit);
        }
    }
    let resources = make(spec, "resources");
    for (key, amounts) in [("limits", limits), ("requests", requests)] {
        if !amounts.is_empty() {
            let list = meta::object_mut(make(resources, key));
            for (name, amount) in amounts {
                list.entry(name).or_insert_with(|| amount.to_string().into());
            }
        }
    }
}
