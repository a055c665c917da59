//! OpenAPI documents, made on request and written piece by piece, so that no more than one type or path is in RAM at a time:
//! version 3 for one group and version, version 2 of everything, the latter in JSON or in protobuf. In flow the resources that
//! are served and the table of types; descriptions for people come out of a compressed file.

mod custom;
mod descriptions;
mod gnostic;
mod others;
mod paths;
mod schemas;
#[cfg(test)]
mod tests;
mod verbs;

use std::io::{self, Write};

use kiln_apimachinery::gvk::api_version;
pub use others::excerpt;
use serde_json::{Value, json};

use others::Others;
use schemas::Reached;

/// A resource that is served.
#[derive(Clone, Debug)]
pub struct Served<'a> {
    /// API group; empty for core.
    pub group: &'a str,
    /// Version within the group.
    pub version: &'a str,
    /// Kind of the objects.
    pub kind: &'a str,
    /// Name in URLs.
    pub plural: &'a str,
    /// True if objects live in namespaces.
    pub namespaced: bool,
    /// Verbs of the resource itself.
    pub verbs: &'a [&'a str],
    /// Parts of objects with addresses of their own.
    pub subresources: Vec<ServedPart<'a>>,
    /// What the kind is like, of a kind that is not in the table of types.
    pub custom: Option<Custom<'a>>,
}

/// A custom kind.
#[derive(Clone, Debug)]
pub struct Custom<'a> {
    /// Kind of a list of the objects.
    pub list_kind: &'a str,
    /// The `openAPIV3Schema` of the version.
    pub schema: &'a Value,
    /// Fields that selectors may name.
    pub selectable: &'a [String],
}

/// A subresource.
#[derive(Clone, Debug)]
pub struct ServedPart<'a> {
    /// Name in URLs.
    pub name: &'a str,
    /// Its verbs.
    pub verbs: &'a [&'a str],
    /// Group, version and kind of what is read and written there, if that is not the object itself.
    pub kind: Option<(&'a str, &'a str, &'a str)>,
}

/// Which of the two languages a document is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    V2,
    V3,
}

impl Dialect {
    /// A reference to a type.
    fn reference(self, name: &str) -> Value {
        match self {
            Self::V2 => json!({"$ref": format!("#/definitions/{name}")}),
            Self::V3 => json!({"$ref": format!("#/components/schemas/{name}")}),
        }
    }
}

/// The path of a group and version behind `/openapi/v3/`: `api/v1`, `apis/apps/v1`.
pub fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// Writes the document of a group and version, in JSON.
pub fn v3(
    resources: &[Served<'_>],
    (group, version): (&str, &str),
    server_version: &str,
    out: &mut dyn Write,
) -> io::Result<()> {
    out.write_all(b"{\"components\":{\"schemas\":{")?;
    write_members(out, reached(resources).definitions(Dialect::V3))?;
    write!(out, "}},\"securitySchemes\":{}}},\"info\":{}", security(), info(server_version))?;
    out.write_all(b",\"openapi\":\"3.0.0\",\"paths\":{")?;
    write_members(out, paths::of(resources, &[(group, version)], Dialect::V3))?;
    out.write_all(b"}}")
}

/// Writes the document of everything, in JSON: the resources, and [excerpts](excerpt) of other servers' documents.
pub fn v2(resources: &[Served<'_>], excerpts: &[Value], server_version: &str, out: &mut dyn Write) -> io::Result<()> {
    let others = others(resources, excerpts);
    out.write_all(b"{\"definitions\":{")?;
    write_members(out, definitions(resources, &others))?;
    write!(out, "}},\"info\":{},\"paths\":{{", info(server_version))?;
    write_members(out, paths::of(resources, &versions(resources), Dialect::V2).chain(others.paths))?;
    let security = security();
    write!(out, "}},\"security\":[{{\"BearerToken\":[]}}],\"securityDefinitions\":{security},\"swagger\":\"2.0\"}}")
}

/// Writes the document of everything in the protobuf of gnostic, which kubectl asks for.
pub fn v2_protobuf(
    resources: &[Served<'_>],
    excerpts: &[Value],
    server_version: &str,
    out: &mut dyn Write,
) -> io::Result<()> {
    let others = others(resources, excerpts);
    let versions = versions(resources);
    let own = paths::of(resources, &versions, Dialect::V2);
    let paths = own.chain(others.paths.iter().cloned());
    gnostic::document(server_version, paths, definitions(resources, &others), out)
}

/// What other servers add. Only definitions that theirs may meet are made for it.
fn others(resources: &[Served<'_>], excerpts: &[Value]) -> Others {
    if excerpts.is_empty() {
        return Others::default();
    }
    let met = reached(resources).only(&Others::names(excerpts));
    Others::of(excerpts, met.definitions(Dialect::V2).collect())
}

/// All definitions of a document of version 2.
fn definitions<'a>(resources: &'a [Served<'a>], others: &'a Others) -> impl Iterator<Item = (String, Value)> + 'a {
    let own = reached(resources).definitions(Dialect::V2).map(|definition| others.amended(definition));
    own.chain(others.definitions.iter().map(|(name, schema)| (name.clone(), schema.clone())))
}

fn info(version: &str) -> Value {
    json!({"title": "Kubernetes", "version": version})
}

fn security() -> Value {
    json!({"BearerToken": {
        "description": "Bearer Token authentication", "in": "header", "name": "authorization", "type": "apiKey",
    }})
}

/// The groups and versions that have resources.
fn versions<'a>(resources: &[Served<'a>]) -> Vec<(&'a str, &'a str)> {
    let mut versions: Vec<_> = resources.iter().map(|r| (r.group, r.version)).collect();
    versions.sort_unstable();
    versions.dedup();
    versions
}

/// The types of resources, and what every document has.
fn reached<'a>(resources: &'a [Served<'a>]) -> Reached<'a> {
    let mut reached = Reached::default();
    for resource in resources {
        match &resource.custom {
            Some(custom) => reached.custom(resource, custom),
            None => reached.kind(&api_version(resource.group, resource.version), resource.kind),
        }
        for (group, version, kind) in resource.subresources.iter().filter_map(|p| p.kind) {
            reached.kind(&api_version(group, version), kind);
        }
    }
    reached.common();
    reached
}

/// Writes the members of a JSON object.
fn write_members(out: &mut dyn Write, members: impl Iterator<Item = (String, Value)>) -> io::Result<()> {
    for (at, (name, value)) in members.enumerate() {
        let comma = if at > 0 { "," } else { "" };
        write!(out, "{comma}{}:{value}", Value::from(name))?;
    }
    Ok(())
}
