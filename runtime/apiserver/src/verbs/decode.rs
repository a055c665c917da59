//! Objects out of request bodies: kind and version checked, unknown and duplicate fields refused, warned of or dropped.

use kiln_apimachinery::decode::{MAX_DEPTH, deeper_than};
use kiln_apimachinery::gvk::{api_version, split_api_version};
use kiln_apimachinery::{FieldError, Gvk, Status, meta};
use kiln_schema::TypeRef;
use kiln_schema::decode::Findings;
use serde_json::{Map, Value};

use super::{Cx, encode};
use crate::apiextensions::{self, Custom};
use crate::http::negotiate;

/// What to do about fields that the kind has not, and keys that stand twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Validation {
    Ignore,
    Warn,
    Strict,
}

pub(super) fn validation(cx: &Cx<'_>) -> Result<Validation, Status> {
    match cx.query.get("fieldValidation") {
        None | Some("Warn") => Ok(Validation::Warn),
        Some("Ignore") => Ok(Validation::Ignore),
        Some("Strict") => Ok(Validation::Strict),
        Some(other) => {
            let error = FieldError::not_supported("fieldValidation", &other.into(), &["Ignore", "Strict", "Warn"]);
            Err(Status::invalid(&Gvk::new("meta.k8s.io", "v1", "CreateOptions"), "", &[error]))
        }
    }
}

/// Reads the object in the body, in the shape of the request's version.
pub(crate) fn body(cx: &Cx<'_>) -> Result<Value, Status> {
    read(cx, &cx.resource.gvk(), cx.resource.schema)
}

/// Reads an object of another kind than the resource's, such as the `TokenRequest` of a subresource.
pub(crate) fn body_as(cx: &Cx<'_>, kind: &Gvk) -> Result<Value, Status> {
    read(cx, kind, kiln_schema::lookup(&kind.api_version(), &kind.kind))
}

fn read(cx: &Cx<'_>, kind: &Gvk, schema: Option<TypeRef<'static>>) -> Result<Value, Status> {
    let decoded = negotiate::read_body(cx.headers, &cx.body).map_err(|unread| unread.status(&kind.kind, &cx.body))?;
    let mut object = decoded.value;
    check_as(cx, kind, schema, &mut object, &[], &decoded.duplicates).map_err(|unfit| match unfit {
        Unfit::Undecodable(why) => {
            let found = |key: &str| object.get(key).and_then(Value::as_str).filter(|s| !s.is_empty());
            let version = found("apiVersion").and_then(split_api_version).map_or(kind.version.as_str(), |(_, v)| v);
            let found = found("kind").unwrap_or(&kind.kind);
            Status::bad_request(format!("{found} in version {version:?} cannot be handled as a {}: {why}", kind.kind))
        }
        Unfit::Refused(status) => status,
    })?;
    Ok(object)
}

/// Why an object can't be taken.
#[derive(Debug)]
pub(crate) enum Unfit {
    /// It is no object of the kind; the sentence says why.
    Undecodable(String),
    /// Anything else.
    Refused(Status),
}

impl From<Status> for Unfit {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

/// Checks and cleans an object that was patched; `patch` is what is to be said of the patch itself.
pub(crate) fn check_patched(cx: &Cx<'_>, object: &mut Value, patch: &[String]) -> Result<(), Unfit> {
    check_as(cx, &cx.resource.gvk(), cx.resource.schema, object, patch, &[])
}

fn check_as(
    cx: &Cx<'_>,
    kind: &Gvk,
    schema: Option<TypeRef<'static>>,
    object: &mut Value,
    before: &[String],
    duplicates: &[String],
) -> Result<(), Unfit> {
    same_kind(cx, kind, object)?;
    if too_deep(object) {
        return Err(Unfit::Undecodable("exceeded max depth".into()));
    }
    let findings = match (schema, &cx.resource.custom) {
        (Some(ty), _) => kiln_schema::decode::check(ty, object).map_err(Unfit::Undecodable)?,
        (None, Some(custom)) => check_custom(kind, custom, object)?,
        (None, None) => check_metadata(object).map_err(Unfit::Undecodable)?,
    };
    let map = meta::object_mut(object);
    map.insert("kind".into(), kind.kind.as_str().into());
    map.insert("apiVersion".into(), kind.api_version().into());
    let texts: Vec<String> = before
        .iter()
        .cloned()
        .chain(findings.unknown.iter().map(|f| format!("unknown field {f:?}")))
        .chain(duplicates.iter().map(|f| format!("duplicate field {f:?}")))
        .collect();
    match validation(cx)? {
        Validation::Strict if !texts.is_empty() => {
            Err(Unfit::Undecodable(format!("strict decoding error: {}", texts.join(", "))))
        }
        Validation::Warn => {
            texts.into_iter().for_each(|t| cx.warn(t));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// True for an object that is nested too deep. The owners of fields are nested as deep as those, and a little deeper.
fn too_deep(object: &Value) -> bool {
    let Some(map) = object.as_object() else { return deeper_than(object, MAX_DEPTH) };
    map.iter().any(|(key, value)| match (key.as_str(), value) {
        ("metadata", Value::Object(metadata)) => metadata.iter().any(|(key, value)| {
            let most = if key == "managedFields" { MAX_DEPTH + 5 } else { MAX_DEPTH - 2 };
            deeper_than(value, most)
        }),
        _ => deeper_than(value, MAX_DEPTH - 1),
    })
}

/// Refuses an object that says it is of another kind or version.
fn same_kind(cx: &Cx<'_>, kind: &Gvk, object: &Value) -> Result<(), Unfit> {
    let found = |key: &str| object.get(key).and_then(Value::as_str).filter(|s| !s.is_empty());
    let expected = kind.api_version();
    let version = found("apiVersion").unwrap_or(&expected);
    let named = found("kind").unwrap_or(&kind.kind);
    if version == expected && named == kind.kind {
        return Ok(());
    }
    if cx.resource.custom.is_some() {
        return other_custom(kind, version, named, object);
    }
    if kiln_schema::lookup(version, named).is_none() {
        let (group, v) = split_api_version(version).unwrap_or(("", version));
        return Err(Unfit::Undecodable(format!(
            "no kind {named:?} is registered for version {:?} in scheme \"k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30\"",
            api_version(group, v)
        )));
    }
    if version != expected {
        return Err(Status::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({expected})"
        ))
        .into());
    }
    let group = if kind.group.is_empty() { "core" } else { kind.group.split('.').next().unwrap_or_default() };
    Err(Unfit::Undecodable(format!(
        "converting ({}.{named}) to ({group}.{}): unknown conversion",
        kind.version, kind.kind
    )))
}

/// Refuses a custom resource that says it is something else.
fn other_custom(kind: &Gvk, version: &str, named: &str, object: &Value) -> Result<(), Unfit> {
    let expected = kind.api_version();
    if version != expected {
        return Err(Status::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({expected})"
        ))
        .into());
    }
    let why = format!("must be {}", kind.kind);
    let error = FieldError::invalid("kind", &named.into(), &why);
    Err(Status::invalid(kind, meta::name(object), &[error]).into())
}

/// Checks a custom resource.
fn check_custom(kind: &Gvk, custom: &Custom, object: &mut Value) -> Result<Findings, Unfit> {
    apiextensions::decode::check(custom, object).map_err(|unfit| match unfit {
        apiextensions::decode::Unfit::Undecodable(why) => Unfit::Undecodable(why),
        apiextensions::decode::Unfit::Field(error) => Status::invalid(kind, meta::name(object), &[error]).into(),
    })
}

/// Checks an object of whose kind nothing is known but that it has metadata.
fn check_metadata(object: &mut Value) -> Result<Findings, String> {
    let Some(map) = object.as_object_mut() else {
        return Err("json: cannot unmarshal value into Go value of type map[string]interface {}".into());
    };
    let Some(metadata) = map.get_mut("metadata") else { return Ok(Findings::default()) };
    let mut wrapped = Value::Object(Map::from_iter([("metadata".to_owned(), metadata.take())]));
    let ty = kiln_schema::lookup("v1", "PartialObjectMetadata");
    let findings = ty.map(|ty| kiln_schema::decode::check(ty, &mut wrapped)).transpose()?;
    *metadata = wrapped["metadata"].take();
    encode::prune_nulls(object);
    Ok(findings.unwrap_or_default())
}
