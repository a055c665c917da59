//! Discovery in one document (`apidiscovery.k8s.io/v2`).

use serde_json::{Value, json};

use crate::aggregation::Table;
use crate::registry::{Registry, Resource, Subresource};

/// The document at `/api` (core) or `/apis`.
pub(crate) fn document(registry: &Registry, table: &Table, core: bool) -> Value {
    let groups = super::groups(registry, table);
    let items: Vec<Value> = groups
        .into_iter()
        .filter(|(group, _)| group.is_empty() == core)
        .map(|(group, versions)| {
            let version = |v: &String| {
                if let Some(remote) = table.remote(&group, v) {
                    return remote.link.told().entry(v);
                }
                let resources: Vec<Value> = registry.of(&group, v).iter().map(|r| resource(r)).collect();
                json!({"version": v, "freshness": "Current", "resources": resources})
            };
            let versions: Vec<Value> = versions.iter().map(version).collect();
            let metadata = if core { json!({}) } else { json!({"name": group}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn resource(r: &Resource) -> Value {
    let mut out = json!({
        "resource": r.plural,
        // Empty group and version: those that the resource is listed under.
        "responseKind": {"group": "", "version": "", "kind": r.kind},
        "scope": if r.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": r.singular,
        "verbs": r.verbs,
    });
    if !r.short_names.is_empty() {
        out["shortNames"] = json!(r.short_names);
    }
    if !r.categories.is_empty() {
        out["categories"] = json!(r.categories);
    }
    if !r.subresources.is_empty() {
        let mut parts: Vec<&Subresource> = r.subresources.iter().collect();
        parts.sort_by_key(|s| s.name);
        let part = |s: &Subresource| {
            let (group, version, kind) = super::kind_of(r, s);
            json!({
                "subresource": s.name, "verbs": s.verbs,
                "responseKind": {"group": group.unwrap_or_default(), "version": version.unwrap_or_default(), "kind": kind},
            })
        };
        out["subresources"] = parts.into_iter().map(part).collect();
    }
    out
}
