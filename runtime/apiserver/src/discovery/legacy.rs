//! Discovery in many small documents: `/api`, `/apis`, `/apis/G`, `/api/v1`, `/apis/G/V`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_apimachinery::gvk::api_version;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::aggregation::Table;
use crate::registry::{Registry, Resource, Subresource};

/// Paths besides those of groups, for the list at `/`.
const PATHS: &[&str] = &[
    "/healthz",
    "/livez",
    "/metrics",
    "/metrics/slis",
    "/openapi/v2",
    "/openapi/v3",
    "/openapi/v3/",
    "/readyz",
    "/version",
];

/// The document at a path.
pub(crate) fn document(registry: &Registry, table: &Table, path: &str) -> Option<Value> {
    let groups = super::groups(registry, table);
    match path.split('/').collect::<Vec<_>>().as_slice() {
        [""] => Some(index(&groups)),
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

fn index(groups: &[(String, Vec<String>)]) -> Value {
    let mut paths: Vec<String> = PATHS.iter().map(|p| (*p).to_owned()).collect();
    paths.extend(["/api".to_owned(), "/apis".to_owned(), "/apis/".to_owned()]);
    for (group, versions) in groups {
        if group.is_empty() {
            paths.extend(versions.iter().map(|v| format!("/api/{v}")));
        } else {
            paths.push(format!("/apis/{group}"));
            paths.extend(versions.iter().map(|v| format!("/apis/{group}/{v}")));
        }
    }
    paths.sort_unstable();
    json!({"paths": paths})
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
    let all: Vec<Value> = rows.iter().flat_map(|r| entries(registry, r)).collect();
    Some(
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version(group, version), "resources": all}),
    )
}

fn entries(registry: &Registry, r: &Resource) -> Vec<Value> {
    let mut main = json!({
        "name": r.plural, "singularName": r.singular, "namespaced": r.namespaced, "kind": r.kind, "verbs": r.verbs,
    });
    if !r.short_names.is_empty() {
        main["shortNames"] = json!(r.short_names);
    }
    if !r.categories.is_empty() {
        main["categories"] = json!(r.categories);
    }
    if let Some(hash) = storage_hash(registry, r) {
        main["storageVersionHash"] = hash.into();
    }
    let mut parts: Vec<&Subresource> = r.subresources.iter().collect();
    parts.sort_by_key(|s| s.name);
    let part = |s: &Subresource| {
        let (group, version, kind) = super::kind_of(r, s);
        let mut entry = json!({
            "name": format!("{}/{}", r.plural, s.name), "singularName": "", "namespaced": r.namespaced, "kind": kind,
            "verbs": s.verbs,
        });
        for (key, value) in [("group", group), ("version", version)] {
            if let Some(value) = value.filter(|v| !v.is_empty()) {
                entry[key] = value.into();
            }
        }
        entry
    };
    std::iter::once(main).chain(parts.into_iter().map(part)).collect()
}

/// Names the shape in which objects are stored; the same for all versions of a kind. Upstream's hash.
fn storage_hash(registry: &Registry, r: &Resource) -> Option<String> {
    if r.review.is_some() || !r.verbs.contains(&"update") {
        return None;
    }
    let hash = match &r.custom {
        Some(custom) => Sha256::digest(format!("{}/{}", custom.stored_version, r.kind)),
        None => {
            let all = registry.all();
            let stored = all.iter().find(|row| row.conversion.is_none() && row.prefix("") == r.prefix(""));
            let of = stored.map_or(r, AsRef::as_ref);
            Sha256::digest(format!("{}/{}/{}", of.group, of.version, of.kind))
        }
    };
    Some(STANDARD.encode(&hash[..8]))
}
