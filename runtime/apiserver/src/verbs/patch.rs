//! Patching an object: read, patch, write, and again if another write came between.

use ::http::{Response, StatusCode};
use bytes::Bytes;
use kiln_apimachinery::patch::{self, PatchError};
use kiln_apimachinery::status::Reason;
use kiln_apimachinery::{FieldError, Gvk, Status, decode as strict, meta};
use serde_json::Value;

use super::create::{create_object, place};
use super::decode::{self, Unfit, Validation};
use super::managed::{self, Owners};
use super::store::Stored;
use super::tree::Tree;
use super::update::{ATTEMPTS, Failure, current, may_create, replace};
use super::{Cx, encode, errors, lines, render, restore};
use crate::http::body::Body;
use crate::http::negotiate::{from_yaml, media_type};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Merge,
    Strategic,
    Apply,
}

const APPLY: &str = "application/apply-patch+yaml";

pub(crate) async fn patch(cx: &Cx<'_>) -> Result<Response<Body>, Status> {
    let kind = match media_type(cx.headers).as_str() {
        "application/json-patch+json" => Kind::Json,
        "application/merge-patch+json" => Kind::Merge,
        "application/strategic-merge-patch+json" if knows_lists(cx) => Kind::Strategic,
        APPLY => Kind::Apply,
        _ => return Err(unsupported(cx)),
    };
    managed::check_options(cx, kind == Kind::Apply)?;
    let patch = match kind {
        Kind::Apply => from_yaml(&cx.body).map_err(|e| Status::bad_request(format!("error decoding YAML: {e}")))?,
        _ => strict::json(&cx.body).map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?,
    };
    let mut attempt = 0;
    loop {
        attempt += 1;
        match one(cx, kind, &patch).await {
            Err(Failure::Overtaken(_)) if attempt < ATTEMPTS => {}
            Err(Failure::Overtaken(status) | Failure::Refused(status)) => return Err(status),
            Ok((code, bytes)) => return render::object(cx, code, &bytes),
        }
    }
}

/// One attempt.
async fn one(cx: &Cx<'_>, kind: Kind, patch: &strict::Decoded) -> Result<(StatusCode, Bytes), Failure> {
    let old = current(cx).await?;
    let creates = kind == Kind::Apply && cx.info.subresource.is_empty();
    if old.is_none() && !creates {
        return Err(cx.not_found(&cx.info.name).into());
    }
    let mut object = patched(cx, kind, old.as_ref(), patch)?;
    place(cx, &mut object)?;
    let name = meta::name(&object);
    if !name.is_empty() && name != cx.info.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            cx.info.name
        ))
        .into());
    }
    if let Some(conversion) = cx.resource.conversion {
        (conversion.to_stored)(&mut object);
    }
    let owners = if kind == Kind::Apply { Owners::Told } else { Owners::Track };
    let Some(old) = old else {
        return create(cx, object, owners).await.map(|bytes| (StatusCode::CREATED, bytes));
    };
    // A patch that names a revision is a condition; the one that was merely read is not.
    let conditional = meta::resource_version(&object) != old.record.mod_revision.to_string();
    match replace(cx, &old, object, owners).await {
        Err(Failure::Overtaken(status)) if conditional => Err(Failure::Refused(status)),
        done => done.map(|bytes| (StatusCode::OK, bytes)),
    }
}

/// Creates the object that an apply did not find.
async fn create(cx: &Cx<'_>, mut object: Value, owners: Owners) -> Result<Bytes, Failure> {
    let uid = meta::uid(&object);
    if !uid.is_empty() {
        let why = format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
        return Err(Status::conflict(&cx.resource.group_resource(), &cx.info.name, &why).into());
    }
    may_create(cx).await?;
    meta::metadata_mut(&mut object).remove("resourceVersion");
    create_object(cx, object, owners).await.map_err(|status| match status {
        // Somebody else was faster; on the next attempt there is an object.
        status if status.is(Reason::AlreadyExists) => Failure::Overtaken(status),
        status => Failure::Refused(status),
    })
}

/// Refuses or warns of keys that stand twice in the YAML of an apply.
fn check_twice(cx: &Cx<'_>, patch: &strict::Decoded) -> Result<(), Status> {
    if patch.duplicates.is_empty() {
        return Ok(());
    }
    let mut found = lines::duplicates(&String::from_utf8_lossy(&cx.body));
    if found.is_empty() {
        // In mappings within a line; which one is not told.
        let last = |path: &String| path.rsplit('.').next().unwrap_or_default().to_owned();
        found =
            patch.duplicates.iter().map(|path| format!("line 1: key {:?} already set in map", last(path))).collect();
    }
    let text = format!("error converting YAML to JSON: yaml: unmarshal errors:\n  {}", found.join("\n  "));
    match decode::validation(cx)? {
        Validation::Strict => Err(Status::bad_request(format!("error strict decoding YAML: {text}"))),
        Validation::Warn => {
            // A header has one line.
            cx.warn(text.replace("\n  ", " "));
            Ok(())
        }
        Validation::Ignore => Ok(()),
    }
}

/// What is to be said of a patch in JSON itself: keys that stand twice, and fields that an operation has not.
fn strict_findings(kind: Kind, patch: &strict::Decoded) -> Vec<String> {
    let twice = |prefix: &str| {
        let text = |path: &String| format!("{prefix}duplicate field {path:?}");
        patch.duplicates.iter().map(text).collect::<Vec<_>>()
    };
    if kind != Kind::Json {
        return twice("");
    }
    let mut found = Vec::new();
    for (i, operation) in patch.value.as_array().into_iter().flatten().enumerate() {
        let keys = operation.as_object().into_iter().flatten().map(|(key, _)| key);
        let unknown = keys.filter(|key| !matches!(key.as_str(), "op" | "path" | "from" | "value"));
        found.extend(unknown.map(|key| format!("json patch unknown field \"[{i}].{key}\"")));
    }
    found.extend(twice("json patch "));
    found
}

/// The object as the patch makes it, in the request's version.
fn patched(cx: &Cx<'_>, kind: Kind, old: Option<&Stored>, patch: &strict::Decoded) -> Result<Value, Status> {
    let mut object = old.map(|old| old.object.clone());
    if let (Some(conversion), Some(object)) = (cx.resource.conversion, &mut object) {
        (conversion.from_stored)(object);
    }
    if kind == Kind::Apply {
        let mut object = managed::apply_config(cx, object.as_ref(), &patch.value)?;
        check_twice(cx, patch)?;
        encode::prune(&cx.resource, &mut object);
        decode::check_patched(cx, &mut object, &[]).map_err(|unfit| match unfit {
            Unfit::Undecodable(why) => errors::plain(format!(
                "failed to convert new object ({}/{}; {}) to proper version: {why}",
                cx.namespace(),
                cx.info.name,
                cx.resource.gvk()
            )),
            Unfit::Refused(status) => status,
        })?;
        return Ok(object);
    }
    let mut object = object.unwrap_or_default();
    // A patch may name whatever is shown.
    encode::complete(&cx.resource, &mut object);
    apply(cx, kind, &mut object, patch.value.clone())?;
    decode::check_patched(cx, &mut object, &strict_findings(kind, patch)).map_err(|unfit| match unfit {
        Unfit::Undecodable(why) => {
            let error = match kind {
                Kind::Strategic => {
                    FieldError::invalid("patch", &restore::shown(&patch.value).into(), &restore::reason(&why))
                }
                _ => FieldError::invalid("patch", &object.to_string().into(), &why),
            };
            Status::invalid(&Gvk::new("", "", ""), "", &[error])
        }
        Unfit::Refused(status) => status,
    })?;
    Ok(object)
}

fn apply(cx: &Cx<'_>, kind: Kind, object: &mut Value, body: Value) -> Result<(), Status> {
    let applied = match kind {
        Kind::Json => patch::json_patch(object, body),
        Kind::Strategic => patch::strategic_merge_patch(Tree::of(&cx.resource), object, body),
        Kind::Merge | Kind::Apply => patch::object_merge_patch(object, body),
    };
    applied.map_err(|e| match e {
        PatchError::Malformed(text) => Status::bad_request(text),
        PatchError::TooLong(text) => Status::failure(Reason::RequestEntityTooLarge, text),
        PatchError::Failed(text) => errors::plain(text),
        // The reference does not say why.
        PatchError::DoesNotFit(_) => {
            Status::failure(Reason::Invalid, "the server rejected our request due to an error in our request")
        }
    })
}

/// True if the schema says how lists merge, which that of a custom resource does not.
fn knows_lists(cx: &Cx<'_>) -> bool {
    matches!(Tree::of(&cx.resource), Tree::Known(_))
}

fn unsupported(cx: &Cx<'_>) -> Status {
    let mut known = vec!["application/json-patch+json", "application/merge-patch+json"];
    if knows_lists(cx) {
        known.push("application/strategic-merge-patch+json");
    }
    known.push(APPLY);
    let text = format!(
        "the body of the request was in an unknown format - accepted media types include: {}",
        known.join(", ")
    );
    Status::failure(Reason::UnsupportedMediaType, text)
}
