//! Discovery in one document (`apidiscovery.k8s.io/v2`).

use serde_json::{Value, json};

use crate::registry::{Registry, Resource};

/// The document at `/api` (core) or `/apis`.
pub(crate) fn document(registry: &Registry, core: bool) -> Value {
    let groups = registry.groups().into_iter().filter(|(g, _)| g.is_empty() == core);
    let items: Vec<Value> = groups
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|v| {
                    let resources: Vec<Value> = registry.of(&group, v).into_iter().map(|r| resource(r)).collect();
                    json!({"version": v, "freshness": "Current", "resources": resources})
                })
                .collect();
            let metadata = if core {
                json!({"creationTimestamp": null})
            } else {
                json!({"name": group, "creationTimestamp": null})
            };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn resource(r: &Resource) -> Value {
    let kind = json!({"group": r.group, "version": r.version, "kind": r.kind});
    let mut out = json!({
        "resource": r.plural,
        "responseKind": kind,
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
        let sub = |s: &crate::registry::Subresource| {
            let kind = s.kind.map_or_else(|| kind.clone(), |(g, v, k)| json!({"group": g, "version": v, "kind": k}));
            json!({"subresource": s.name, "responseKind": kind, "verbs": s.verbs})
        };
        out["subresources"] = r.subresources.iter().map(sub).collect();
    }
    out
}
