//! Discovery in many small documents: `/api`, `/apis`, `/apis/G`, `/api/v1`, `/apis/G/V`.

use kiln_apimachinery::gvk::api_version;
use serde_json::{Value, json};

use crate::registry::{Registry, Resource};

/// The document at a path.
pub(crate) fn document(registry: &Registry, path: &str) -> Option<Value> {
    let groups = registry.groups();
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["", "api"] => Some(json!({
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [],
        })),
        ["", "apis"] => {
            let named: Vec<Value> = groups.iter().filter(|(g, _)| !g.is_empty()).map(|(g, v)| group(g, v)).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": named}))
        }
        ["", "apis", name] if !name.is_empty() => {
            let (name, versions) = groups.iter().find(|(g, _)| g == name)?;
            let mut document = group(name, versions);
            document["kind"] = json!("APIGroup");
            document["apiVersion"] = json!("v1");
            Some(document)
        }
        ["", "api", version] => resources(registry, "", version),
        ["", "apis", group, version] if !group.is_empty() => resources(registry, group, version),
        _ => None,
    }
}

fn group(name: &str, versions: &[String]) -> Value {
    let version = |v: &String| json!({"groupVersion": api_version(name, v), "version": v});
    json!({
        "name": name,
        "versions": versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(version),
    })
}

fn resources(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let rows = registry.of(group, version);
    if rows.is_empty() {
        return None;
    }
    let all: Vec<Value> = rows.iter().flat_map(|r| entries(r)).collect();
    Some(
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version(group, version), "resources": all}),
    )
}

fn entries(r: &Resource) -> Vec<Value> {
    let mut main = json!({
        "name": r.plural, "singularName": r.singular, "namespaced": r.namespaced, "kind": r.kind, "verbs": r.verbs,
    });
    if !r.short_names.is_empty() {
        main["shortNames"] = json!(r.short_names);
    }
    if !r.categories.is_empty() {
        main["categories"] = json!(r.categories);
    }
    let sub = r.subresources.iter().map(|s| {
        let kind = s.kind.map_or(r.kind.as_str(), |(_, _, kind)| kind);
        let mut entry = json!({
            "name": format!("{}/{}", r.plural, s.name), "singularName": "", "namespaced": r.namespaced, "kind": kind, "verbs": s.verbs,
        });
        // Group and version are named where they are not the list's own.
        if let Some((group, version, _)) = s.kind.filter(|(g, v, _)| (*g, *v) != (&*r.group, &*r.version)) {
            entry["group"] = json!(group);
            entry["version"] = json!(version);
        }
        entry
    });
    std::iter::once(main).chain(sub).collect()
}
