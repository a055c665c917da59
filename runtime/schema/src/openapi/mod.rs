//! OpenAPI documents, made on request and written piece by piece, so that no more than one type or path is in RAM at a time:
//! version 3 for one group and version, version 2 of everything, the latter in JSON or in protobuf. In flow the resources that
//! are served and the table of types; descriptions for people come out of a compressed file, if there is one.

mod descriptions;
mod gnostic;
mod paths;
mod schemas;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use kiln_apimachinery::gvk::api_version;
use serde_json::{Value, json};

pub use descriptions::Descriptions;
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
    descriptions: &Descriptions,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut reached = Reached::default();
    let info = json!({"title": "Kubernetes", "version": server_version});
    out.write_all(b"{\"components\":{\"schemas\":{")?;
    let mut paths = Vec::new();
    for resource in resources {
        reached.kind(&api_version(resource.group, resource.version), resource.kind);
        for part in &resource.subresources {
            if let Some((group, version, kind)) = part.kind {
                reached.kind(&api_version(group, version), kind);
            }
        }
        paths.extend(paths::of(resource, Dialect::V3));
    }
    paths.push(paths::resources(group, version, Dialect::V3));
    paths.sort_by(|a, b| a.0.cmp(&b.0));
    reached.common();
    write_members(out, reached.definitions(Dialect::V3, descriptions))?;
    let security = json!({"BearerToken": {"description": "Bearer Token authentication", "in": "header", "name": "authorization", "type": "apiKey"}});
    write!(out, "}},\"securitySchemes\":{security}}},\"info\":{info},\"openapi\":\"3.0.0\",\"paths\":{{")?;
    write_members(out, paths.into_iter())?;
    out.write_all(b"}}")
}

/// Writes the document of everything, in JSON.
pub fn v2(
    resources: &[Served<'_>],
    server_version: &str,
    descriptions: &Descriptions,
    out: &mut dyn Write,
) -> io::Result<()> {
    out.write_all(b"{\"definitions\":{")?;
    write_members(out, everything(resources).definitions(Dialect::V2, descriptions))?;
    let info = json!({"title": "Kubernetes", "version": server_version});
    write!(out, "}},\"info\":{info},\"paths\":{{")?;
    write_members(out, all_paths(resources).into_iter())?;
    let security = json!({"BearerToken": {"description": "Bearer Token authentication", "in": "header", "name": "authorization", "type": "apiKey"}});
    write!(out, "}},\"security\":[{{\"BearerToken\":[]}}],\"securityDefinitions\":{security},\"swagger\":\"2.0\"}}")
}

/// Writes the document of everything in the protobuf of gnostic, which kubectl asks for.
pub fn v2_protobuf(
    resources: &[Served<'_>],
    server_version: &str,
    descriptions: &Descriptions,
    out: &mut dyn Write,
) -> io::Result<()> {
    let definitions = everything(resources).definitions(Dialect::V2, descriptions);
    gnostic::document(server_version, all_paths(resources).into_iter(), definitions, out)
}

fn everything(resources: &[Served<'_>]) -> Reached {
    let mut reached = Reached::default();
    for resource in resources {
        reached.kind(&api_version(resource.group, resource.version), resource.kind);
        for (group, version, kind) in resource.subresources.iter().filter_map(|p| p.kind) {
            reached.kind(&api_version(group, version), kind);
        }
    }
    reached.common();
    reached
}

/// The paths of all resources. They are far smaller than the types.
fn all_paths(resources: &[Served<'_>]) -> Vec<(String, Value)> {
    let mut versions: Vec<(&str, &str)> = resources.iter().map(|r| (r.group, r.version)).collect();
    versions.sort_unstable();
    versions.dedup();
    let mut all: Vec<_> = resources.iter().flat_map(|r| paths::of(r, Dialect::V2)).collect();
    all.extend(versions.into_iter().map(|(group, version)| paths::resources(group, version, Dialect::V2)));
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// Writes the members of a JSON object.
fn write_members(out: &mut dyn Write, members: impl Iterator<Item = (String, Value)>) -> io::Result<()> {
    for (at, (name, value)) in members.enumerate() {
        let comma = if at > 0 { "," } else { "" };
        write!(out, "{comma}{}:{value}", Value::from(name))?;
    }
    Ok(())
}
