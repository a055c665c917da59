//! Which objects a quota is about.

use std::collections::BTreeSet;

use kiln_apimachinery::meta;
use serde_json::Value;

use crate::registry::cells::items;

/// Whether an object of this resource falls under a quota.
pub(super) fn matches(quota: &Value, plural: &str, object: &Value) -> bool {
    let scopes = meta::strings(meta::at(quota, &["spec", "scopes"]));
    let selectors = items(quota, &["spec", "scopeSelector", "matchExpressions"]);
    if scopes.is_empty() && selectors.is_empty() {
        return true;
    }
    // Scopes tell pods apart, and claims by their class of attributes.
    let fits = |scope: &str, operator: &str, values: &[&str]| match (plural, scope) {
        ("pods", scope) => pod(object, scope, operator, values),
        ("persistentvolumeclaims", "VolumeAttributesClass") => {
            let classes = attributes_classes(object);
            let one = |class: &&str| selected(class, operator, values);
            classes.iter().any(one) || (classes.is_empty() && selected("", operator, values))
        }
        _ => false,
    };
    scopes.iter().all(|scope| fits(scope, "Exists", &[]))
        && selectors
            .iter()
            .all(|s| fits(meta::text(s, &["scopeName"]), meta::text(s, &["operator"]), &meta::strings(s.get("values"))))
}

/// The classes of attributes that a claim's volume has, is to have, and is being given.
pub(super) fn attributes_classes(claim: &Value) -> BTreeSet<&str> {
    let paths: [&[&str]; 3] = [
        &["spec", "volumeAttributesClassName"],
        &["status", "currentVolumeAttributesClassName"],
        &["status", "modifyVolumeStatus", "targetVolumeAttributesClassName"],
    ];
    paths.into_iter().map(|path| meta::text(claim, path)).filter(|class| !class.is_empty()).collect()
}

fn pod(pod: &Value, scope: &str, operator: &str, values: &[&str]) -> bool {
    let best_effort = || {
        let containers = ["containers", "initContainers"].iter().flat_map(|list| items(pod, &["spec", list]));
        let all = containers.map(|c| c.get("resources")).chain([meta::at(pod, &["spec", "resources"])]);
        let amounts = |r: &Value, key: &str| {
            let list = r.get(key).and_then(Value::as_object);
            list.is_some_and(|l| l.contains_key("cpu") || l.contains_key("memory"))
        };
        !all.flatten().any(|r| amounts(r, "requests") || amounts(r, "limits"))
    };
    let ends = || meta::at(pod, &["spec", "activeDeadlineSeconds"]).and_then(Value::as_i64).is_some_and(|s| s >= 0);
    match scope {
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        "Terminating" => ends(),
        "NotTerminating" => !ends(),
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        "PriorityClass" => selected(meta::text(pod, &["spec", "priorityClassName"]), operator, values),
        _ => false,
    }
}

/// Whether a term of the pod's affinity is about pods of other namespaces.
fn crosses_namespaces(pod: &Value) -> bool {
    ["podAffinity", "podAntiAffinity"].into_iter().any(|kind| {
        let terms = |list| items(pod, &["spec", "affinity", kind, list]).iter();
        let weighted =
            terms("preferredDuringSchedulingIgnoredDuringExecution").filter_map(|w| w.get("podAffinityTerm"));
        terms("requiredDuringSchedulingIgnoredDuringExecution").chain(weighted).any(|term| {
            !items(term, &["namespaces"]).is_empty() || term.get("namespaceSelector").is_some_and(|s| !s.is_null())
        })
    })
}

fn selected(class: &str, operator: &str, values: &[&str]) -> bool {
    match operator {
        "In" => values.contains(&class),
        "NotIn" => !values.contains(&class),
        "DoesNotExist" => class.is_empty(),
        _ => !class.is_empty(),
    }
}
