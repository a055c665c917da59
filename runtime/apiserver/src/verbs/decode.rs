//! Objects out of request bodies: kind and version checked, unknown and duplicate fields refused, warned of or dropped.

use kiln_apimachinery::{FieldError, Gvk, Status, meta, shape};
use serde_json::Value;

use super::{Cx, encode};
use crate::http::negotiate;

/// What to do about fields that the kind has not, and keys that stand twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Validation {
    Ignore,
    Warn,
    Strict,
}

fn validation(cx: &Cx<'_>) -> Result<Validation, Status> {
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
    let decoded = negotiate::read_body(cx.headers, &cx.body)?;
    let mut object = decoded.value;
    let resource = &cx.resource;
    check(cx, &mut object, decoded.duplicates).map_err(|unfit| match unfit {
        Unfit::Undecodable(why) => Status::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: {why}",
            resource.kind, resource.version, resource.kind
        )),
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

/// Checks and cleans an object in the shape of the request's version.
pub(crate) fn check(cx: &Cx<'_>, object: &mut Value, duplicates: Vec<String>) -> Result<(), Unfit> {
    let resource = &cx.resource;
    meta::check_shape(&resource.kind, object).map_err(Unfit::Undecodable)?;
    shape::check(&resource.kind, resource.shapes, object).map_err(Unfit::Undecodable)?;
    let (kind, version) = (resource.kind.clone(), resource.api_version());
    for (key, expected) in [("kind", &kind), ("apiVersion", &version)] {
        let found = object.get(key).cloned().unwrap_or_default();
        match found.as_str() {
            None if found.is_null() => {}
            Some("") => {}
            Some(found) if found == expected => {}
            Some(found) if key == "apiVersion" => {
                let text = format!(
                    "the API version in the data ({found}) does not match the expected API version ({expected})"
                );
                return Err(Status::bad_request(text).into());
            }
            _ => return Err(Unfit::Undecodable(format!("the body is a {found}"))),
        }
        meta::object_mut(object).insert(key.into(), expected.as_str().into());
    }
    let unknown = drop_unknown(cx, object);
    let texts: Vec<String> = unknown
        .iter()
        .map(|f| format!("unknown field {f:?}"))
        .chain(duplicates.iter().map(|f| format!("duplicate field {f:?}")))
        .collect();
    match validation(cx)? {
        Validation::Strict if !texts.is_empty() => {
            return Err(Unfit::Undecodable(format!("strict decoding error: {}", texts.join(", "))));
        }
        Validation::Warn => texts.into_iter().for_each(|t| cx.warn(t)),
        _ => {}
    }
    encode::prune_nulls(object);
    Ok(())
}

/// Removes the fields that the kind has not, and gives their paths.
fn drop_unknown(cx: &Cx<'_>, object: &mut Value) -> Vec<String> {
    let fields = &cx.resource.fields;
    let mut out = Vec::new();
    let map = meta::object_mut(object);
    if !fields.is_empty() {
        map.retain(|key, _| {
            let known = matches!(key.as_str(), "kind" | "apiVersion" | "metadata") || fields.contains(key);
            if !known {
                out.push(key.clone());
            }
            known
        });
    }
    if let Some(metadata) = map.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| {
            let known = meta::FIELDS.iter().any(|(name, _)| name == key);
            if !known {
                out.push(format!("metadata.{key}"));
            }
            known
        });
    }
    out
}
