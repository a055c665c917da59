//! What containers and pods ask for, and what they may not go beyond.

use kiln_apimachinery::names;
use kiln_apimachinery::path::Path;
use kiln_apimachinery::quantity::Quantity;
use serde_json::Value;

use super::{NEGATIVE, Report};
use crate::registry::rules::quantities::{is_extended, is_native};
use crate::registry::workloads::defaults::resources::{
    Amounts, amounts, is_huge_page, is_pod_level, may_overcommit, of_containers,
};
use crate::registry::workloads::view::{entries, get, items, text};

/// Names without a domain that mean something, here or in a quota.
const STANDARD: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];
/// Those of them that are counted in whole numbers.
const WHOLE: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];
const POD_LEVEL: &[&str] = &["cpu", "hugepages-", "memory"];
const NO_QUANTITY: &str = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Container,
    Pod,
}

fn is_standard(name: &str) -> bool {
    STANDARD.contains(&name) || is_huge_page(name) || name.starts_with("requests.hugepages-")
}

/// True for a name without a domain that a container can ask for.
fn is_containers(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || is_huge_page(name)
}

fn resource_name(name: &str, level: Level, path: &Path<'_>, r: &mut Report) {
    let before = r.0.len();
    r.name(path, name, names::qualified_name);
    if r.0.len() == before && !name.contains('/') && !is_standard(name) {
        r.invalid(path, name, "must be a standard resource type or fully qualified");
    }
    match level {
        Level::Container if !name.contains('/') && !is_containers(name) => {
            r.invalid(path, name, "must be a standard resource for containers");
        }
        Level::Container if !name.contains('/') => {}
        Level::Container if !is_native(name) && !is_extended(name) => {
            r.invalid(path, name, "doesn't follow extended resource name standard");
        }
        Level::Pod if r.0.len() == before && !is_pod_level(name) => r.unsupported(path, name, POD_LEVEL),
        _ => {}
    }
}

/// The name of a resource that a container can have.
pub(in crate::registry::workloads) fn container_resource(name: &str, path: &Path<'_>, r: &mut Report) {
    resource_name(name, Level::Container, path, r);
}

fn amount(name: &str, value: &Value, path: &Path<'_>, r: &mut Report) -> Option<Quantity> {
    let Ok(quantity) = Quantity::from_value(value) else {
        r.invalid(path, value.clone(), NO_QUANTITY);
        return None;
    };
    if quantity.is_negative() {
        r.invalid(path, quantity.to_string(), NEGATIVE);
    }
    if (WHOLE.contains(&name) || is_extended(name)) && quantity.milli_value() % 1000 != 0 {
        r.invalid(path, quantity.to_string(), "must be an integer");
    }
    if is_huge_page(name) && !is_whole_pages(name, quantity) {
        let why = format!("{quantity} is not positive integer multiple of {name}");
        r.invalid(path, quantity.to_string(), &why);
    }
    Some(quantity)
}

fn is_whole_pages(name: &str, quantity: Quantity) -> bool {
    let size = name.strip_prefix("hugepages-").and_then(|s| Quantity::parse(s).ok());
    size.is_some_and(|s| s.value() > 0 && s.milli_value() % 1000 == 0 && quantity.value() % s.value() == 0)
}

/// Limits and requests of a container or a pod.
pub(super) fn requirements(resources: &Value, level: Level, claims: &[&str], path: &Path<'_>, r: &mut Report) {
    let (limits_at, requests_at) = (path.child("limits"), path.child("requests"));
    let mut limits = Amounts::new();
    let (mut computes, mut huge) = (false, false);
    for (name, value) in entries(resources, "limits") {
        let path = limits_at.key(name);
        resource_name(name, level, &path, r);
        if let Some(quantity) = amount(name, value, &path, r) {
            limits.insert(name.to_owned(), quantity);
        }
        computes |= matches!(name, "cpu" | "memory");
        huge |= is_huge_page(name);
    }
    for (name, value) in entries(resources, "requests") {
        let path = requests_at.key(name);
        resource_name(name, level, &path, r);
        computes |= matches!(name, "cpu" | "memory");
        huge |= is_huge_page(name);
        let Some(quantity) = amount(name, value, &path, r) else { continue };
        match limits.get(name) {
            Some(limit) if quantity != *limit && !may_overcommit(name) => {
                r.invalid(&requests_at, quantity.to_string(), &format!("must be equal to {name} limit of {limit}"));
            }
            Some(limit) if quantity > *limit => {
                let why = format!("must be less than or equal to {name} limit of {limit}");
                r.invalid(&requests_at, quantity.to_string(), &why);
            }
            Some(_) => {}
            None if !may_overcommit(name) => {
                r.required(&limits_at, "Limit must be set for non overcommitable resources");
            }
            None => {}
        }
    }
    if huge && !computes {
        r.forbidden(path, "HugePages require cpu or memory");
    }
    claim_names(items(resources, "claims"), claims, &path.child("claims"), r);
}

/// What a pod takes beside its containers.
pub(super) fn overhead(spec: &Value, path: &Path<'_>, r: &mut Report) {
    let at = path.child("limits");
    for (name, value) in entries(spec, "overhead") {
        resource_name(name, Level::Container, &at.key(name), r);
        amount(name, value, &at.key(name), r);
    }
}

fn claim_names(claims: &[Value], known: &[&str], path: &Path<'_>, r: &mut Report) {
    let mut seen: Vec<String> = Vec::new();
    for (i, claim) in claims.iter().enumerate() {
        let path = path.index(i);
        let (name, request) = (text(claim, "name"), text(claim, "request"));
        if name.is_empty() {
            r.required(&path, "");
            continue;
        }
        if seen.iter().any(|s| s == name) {
            r.duplicate(&path, name);
        } else {
            let mut key = name.to_owned();
            if !request.is_empty() {
                r.name(&path.child("request"), request, names::dns1123_label);
                key = format!("{name}/{request}");
            }
            let part = |s: &String| s.split_once('/').is_some_and(|(claim, _)| claim == name);
            if seen.contains(&key) {
                r.duplicate(&path, key.as_str());
            } else if request.is_empty() && seen.iter().any(part) {
                r.duplicate(&path, name);
            }
            seen.push(key);
        }
        if !known.contains(&name) {
            let mut sorted = known.to_vec();
            sorted.sort_unstable();
            let rest = if known.is_empty() { " which is empty".into() } else { format!(": {}", sorted.join(", ")) };
            let why = format!("must be one of the names in pod.spec.resourceClaims{rest}");
            r.0.push(kiln_apimachinery::FieldError::not_found(path, &name.into()).with_detail(&why));
        }
    }
}

/// What a whole pod asks for, and whether its containers fit into it.
pub(super) fn of_pod(spec: &Value, claims: &[&str], path: &Path<'_>, r: &mut Report) {
    let Some(resources) = get(spec, "resources") else { return };
    let path = path.child("resources");
    if spec.get("os").is_some_and(|os| text(os, "name") == "windows") {
        return r.forbidden(&path, "may not be set for a windows pod");
    }
    if get(resources, "claims").is_some() {
        r.forbidden(&path.child("claims"), "claims may not be set for Resources at pod-level");
    }
    requirements(resources, Level::Pod, claims, &path, r);
    let (limits, requests) = (amounts(resources.get("limits")), amounts(resources.get("requests")));
    let requests_at = path.child("requests");
    for (name, sum) in of_containers(spec, "requests") {
        if let Some(whole) = requests.get(&name).filter(|whole| sum > **whole) {
            let why = format!("must be greater than or equal to aggregate container requests of {sum}");
            r.invalid(&requests_at.key(&name), whole.to_string(), &why);
        }
    }
    let limits_at = path.child("limits");
    for (name, sum) in of_containers(spec, "limits").into_iter().filter(|(name, _)| is_huge_page(name)) {
        if let Some(whole) = limits.get(&name).filter(|whole| sum > **whole) {
            let why = format!("must be greater than or equal to aggregate container limits of {sum}");
            r.invalid(&limits_at.key(&name), whole.to_string(), &why);
        }
    }
    let containers = path.child("containers");
    for (i, container) in items(spec, "containers").iter().enumerate() {
        let own = amounts(container.get("resources").and_then(|res| res.get("limits")));
        for (name, limit) in own {
            if let Some(whole) = limits.get(&name).filter(|whole| limit > **whole) {
                let why = format!("must be less than or equal to pod limits of {whole}");
                r.invalid(&containers.index(i).key(&name).child("limits"), limit.to_string(), &why);
            }
        }
    }
}
