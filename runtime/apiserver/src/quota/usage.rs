//! What objects use.

use std::collections::BTreeMap;

use kiln_apimachinery::quantity::Quantity;
use kiln_apimachinery::{Status, meta};
use kiln_storage::ListOptions;
use serde_json::Value;

use super::{Amounts, scope};
use crate::classes::total;
use crate::registry::cells::items;
use crate::registry::storage::cells::class_of;
use crate::server::ApiServer;
use crate::verbs::errors;

/// Resources that are counted under their own names.
const COUNTED: &[&str] =
    &["configmaps", "persistentvolumeclaims", "replicationcontrollers", "resourcequotas", "secrets", "services"];
/// Resources that a pod must say something about if a quota bounds them.
const COMPUTE: &[&str] = &["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

/// What an object of a group and plural uses.
pub(super) fn of(group: &str, plural: &str, object: &Value) -> Amounts {
    let one = Quantity::whole(1);
    let dot = if group.is_empty() { "" } else { "." };
    let mut out: Amounts = BTreeMap::from([(format!("count/{plural}{dot}{group}"), one)]);
    if !group.is_empty() {
        return out;
    }
    if COUNTED.contains(&plural) {
        out.insert(plural.to_owned(), one);
    }
    match plural {
        "pods" => pod(object, &mut out),
        "services" => service(object, &mut out),
        "persistentvolumeclaims" => claim(object, &mut out),
        _ => {}
    }
    out
}

fn pod(pod: &Value, out: &mut Amounts) {
    // A pod that has ended uses nothing but its place in the store.
    if matches!(meta::text(pod, &["status", "phase"]), "Succeeded" | "Failed") {
        return;
    }
    out.insert("pods".into(), Quantity::whole(1));
    for (resource, amount) in total(pod, "requests") {
        let plain = matches!(resource.as_str(), "cpu" | "memory" | "ephemeral-storage");
        out.insert(format!("requests.{resource}"), amount);
        if plain || resource.starts_with("hugepages-") {
            out.insert(resource, amount);
        }
    }
    for (resource, amount) in total(pod, "limits") {
        if matches!(resource.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            out.insert(format!("limits.{resource}"), amount);
        }
    }
}

fn service(service: &Value, out: &mut Amounts) {
    let kind = meta::text(service, &["spec", "type"]);
    let ports = i64::try_from(items(service, &["spec", "ports"]).len()).unwrap_or(i64::MAX);
    let given = meta::at(service, &["spec", "allocateLoadBalancerNodePorts"]) != Some(&Value::Bool(false));
    match kind {
        "NodePort" => {
            out.insert("services.nodeports".into(), Quantity::whole(ports));
        }
        "LoadBalancer" => {
            out.insert("services.loadbalancers".into(), Quantity::whole(1));
            if given {
                out.insert("services.nodeports".into(), Quantity::whole(ports));
            }
        }
        _ => {}
    }
}

fn claim(claim: &Value, out: &mut Amounts) {
    let storage = meta::at(claim, &["spec", "resources", "requests", "storage"]);
    let storage = storage.and_then(|v| Quantity::from_value(v).ok()).unwrap_or(Quantity::ZERO);
    out.insert("requests.storage".into(), storage);
    let class = class_of(claim);
    if !class.is_empty() {
        out.insert(format!("{class}.storageclass.storage.k8s.io/requests.storage"), storage);
        out.insert(format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"), Quantity::whole(1));
    }
}

/// Whether every container says what it needs of what is bounded; the complaint if not.
pub(super) fn require<'a>(pod: &Value, bounded: impl Iterator<Item = &'a String>) -> Result<(), String> {
    let mut missing: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for resource in bounded.filter(|r| COMPUTE.contains(&r.as_str())) {
        let (list, name) = resource.split_once('.').unwrap_or(("requests", resource));
        if meta::at(pod, &["spec", "resources", list, name]).is_some() {
            continue;
        }
        for container in ["containers", "initContainers"].iter().flat_map(|l| items(pod, &["spec", l])) {
            if meta::at(container, &["resources", list, name]).is_none() {
                missing.entry(resource).or_default().push(meta::text(container, &["name"]).to_owned());
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let all = missing.into_iter().map(|(resource, mut names)| {
        names.sort();
        names.dedup();
        format!("{resource} for: {}", names.join(","))
    });
    Err(format!("must specify {}", all.collect::<Vec<_>>().join("; ")))
}

/// Adds up what the objects of a namespace use of a quota's resources.
pub(super) async fn sum(server: &ApiServer, namespace: &str, quota: &Value, used: &mut Amounts) -> Result<(), Status> {
    for row in server.registry().all().iter().filter(|r| r.namespaced && r.review.is_none() && r.conversion.is_none()) {
        let (group, plural) = (row.group.as_str(), row.plural.as_str());
        // Nothing is listed that no resource of the quota is about.
        let detailed = group.is_empty() && matches!(plural, "pods" | "services" | "persistentvolumeclaims");
        let of_kind = of(group, plural, &Value::Null);
        if !detailed && !of_kind.keys().any(|r| used.contains_key(r)) {
            continue;
        }
        let prefix = row.prefix(namespace);
        let page = server.storage().list(&prefix, ListOptions::default()).await.map_err(errors::storage)?;
        let objects = page.records.iter().filter_map(|r| serde_json::from_slice::<Value>(&r.value).ok());
        for object in objects.filter(|o| scope::matches(quota, plural, o)) {
            for (resource, amount) in of(group, plural, &object) {
                if let Some(have) = used.get_mut(&resource) {
                    *have = have.plus(amount);
                }
            }
        }
    }
    Ok(())
}
