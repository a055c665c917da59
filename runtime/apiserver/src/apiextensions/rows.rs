//! Definitions as rows of the registry.

use std::sync::Arc;

use kiln_apimachinery::meta;
use kiln_storage::Revision;
use serde_json::Value;

use super::convert::Converter;
use super::definition::storage_version;
use super::kind::Kind;
use super::schema::Schema;
use super::{Custom, CustomColumn, scale};
use crate::registry::cells::items;
use crate::registry::{Resource, STATUS, Subresource};

/// The rows of a definition: one for each version that is served.
pub(super) fn rows(definition: &Value, tag: &str, since: Revision) -> Vec<Arc<Resource>> {
    let versions = items(definition, &["spec", "versions"]);
    let group = meta::text(definition, &["spec", "group"]);
    let stored = storage_version(definition);
    // Versions with the same schema share one.
    let mut schemas: Vec<(&Value, Arc<Schema>)> = Vec::new();
    let mut schema = |version: &str| {
        let found = versions.iter().find(|v| meta::text(v, &["name"]) == version);
        let source = found.and_then(|v| meta::at(v, &["schema", "openAPIV3Schema"])).unwrap_or(&Value::Null);
        if let Some((_, known)) = schemas.iter().find(|(s, _)| *s == source) {
            return known.clone();
        }
        let read = Arc::new(Schema::read(source));
        schemas.push((source, read.clone()));
        read
    };
    let stored_schema = schema(stored);
    let served = versions.iter().filter(|v| v.get("served") == Some(&Value::Bool(true)));
    let mut out = Vec::new();
    for version in served {
        let name = meta::text(version, &["name"]);
        let custom = Custom {
            definition: meta::name(definition).to_owned(),
            tag: tag.to_owned(),
            list_kind: meta::text(definition, &["status", "acceptedNames", "listKind"]).to_owned(),
            schema: schema(name),
            stored_schema: stored_schema.clone(),
            columns: CustomColumn::of(version),
            scale: scale::Paths::of(version),
            has_status: meta::at(version, &["subresources", "status"]).is_some_and(|s| !s.is_null()),
            converter: Converter::of(definition),
            stored_version: format!("{group}/{stored}"),
            since,
            deprecation: deprecation(definition, version),
            terminating: meta::is_terminating(definition),
        };
        out.push(Arc::new(row(definition, version, name, custom)));
    }
    out
}

fn deprecation(definition: &Value, version: &Value) -> Option<String> {
    if version.get("deprecated") != Some(&Value::Bool(true)) {
        return None;
    }
    let told = version.get("deprecationWarning").and_then(Value::as_str);
    let (group, kind) =
        (meta::text(definition, &["spec", "group"]), meta::text(definition, &["spec", "names", "kind"]));
    let plain = || format!("{group}/{} {kind} is deprecated", meta::text(version, &["name"]));
    Some(told.map_or_else(plain, str::to_owned))
}

fn row(definition: &Value, version: &Value, name: &str, custom: Custom) -> Resource {
    let names = meta::at(definition, &["status", "acceptedNames"]).unwrap_or(&Value::Null);
    let group = meta::text(definition, &["spec", "group"]);
    let owned = |key: &str| meta::strings(names.get(key)).into_iter().map(str::to_owned).collect();
    let mut subresources = Vec::new();
    if custom.has_status {
        subresources.push(STATUS);
    }
    if custom.scale.is_some() {
        let kind = Some(("autoscaling", "v1", "Scale"));
        subresources.push(Subresource { name: "scale", verbs: &["get", "patch", "update"], kind });
    }
    let fields = items(version, &["selectableFields"]).iter();
    let selectable = fields.map(|f| meta::text(f, &["jsonPath"]).trim_start_matches('.').to_owned()).collect();
    let custom = Arc::new(custom);
    let plain = Resource::new(group, name, meta::text(names, &["kind"]), meta::text(names, &["plural"]));
    Resource {
        singular: meta::text(names, &["singular"]).to_owned(),
        short_names: owned("shortNames"),
        categories: owned("categories"),
        namespaced: meta::text(definition, &["spec", "scope"]) == "Namespaced",
        subresources,
        schema: None,
        selectable,
        columns: vec![crate::registry::columns::NAME],
        strategy: Arc::new(Kind(custom.clone())),
        unconditional_update: false,
        generations: true,
        custom: Some(custom),
        ..plain
    }
}
