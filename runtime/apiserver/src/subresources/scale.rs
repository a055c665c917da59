//! `scale`: how many replicas, the same for every kind that has some.

use ::http::Response;
use kiln_apimachinery::apply;
use kiln_apimachinery::patch::{self, PatchError};
use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, GroupResource, Gvk, Reason, Status, decode as strict, meta};
use serde_json::{Value, json};

use crate::apiextensions::scale::Paths;
use crate::http::body::Body;
use crate::http::negotiate::{self, media_type};
use crate::registry::columns::{AGE, Cell, Column, number, text};
use crate::registry::workloads::cells::selector_terms;
use crate::verbs::managed::{self, Owners};
use crate::verbs::store::Stored;
use crate::verbs::update::{ATTEMPTS, Failure, current, replace};
use crate::verbs::{Cx, decode, errors, render};

const COLUMNS: &[Column] = &[
    text("Name", Cell::Path(&["metadata", "name"])),
    number("Desired", Cell::Path(&["spec", "replicas"])),
    number("Available", Cell::Path(&["status", "replicas"])),
    AGE,
];

const APPLY: &str = "application/apply-patch+yaml";

fn gvk() -> Gvk {
    Gvk::new("autoscaling", "v1", "Scale")
}

pub(crate) async fn serve(cx: &Cx<'_>) -> Result<Response<Body>, Status> {
    if cx.info.verb == "get" {
        let found = current(cx).await?.ok_or_else(|| absent(cx))?;
        return render::part(cx, COLUMNS, scale_of(cx, &found.object)?);
    }
    let patches = cx.info.verb == "patch";
    let applies = patches && media_type(cx.headers) == APPLY;
    managed::check_options(cx, applies)?;
    let wanted = if patches { Value::Null } else { decode::body_as(cx, &gvk())? };
    let mut attempt = 0;
    loop {
        attempt += 1;
        let old = current(cx).await?.ok_or_else(|| absent(cx))?;
        let scale = match (applies, patches) {
            (true, _) => config(cx)?,
            (_, true) => patched(cx, &old)?,
            _ => wanted.clone(),
        };
        let read = old.record.mod_revision.to_string();
        let asked = meta::resource_version(&scale);
        // A revision that the writer named is a condition; one that was merely read is not.
        let merely_read = patches && asked == read;
        let conditional = !asked.is_empty() && !merely_read;
        let (new, owners) = if applies {
            (applied(cx, &old, &scale)?, Owners::Told)
        } else {
            (rescaled(cx, &old, &scale)?, Owners::Track)
        };
        match replace(cx, &old, new, owners).await {
            Err(Failure::Overtaken(_)) if !conditional && attempt < ATTEMPTS => {}
            Err(Failure::Overtaken(status) | Failure::Refused(status)) => return Err(status),
            Ok(bytes) => {
                let object: Value = serde_json::from_slice(&bytes).map_err(Status::internal)?;
                return render::part(cx, COLUMNS, scale_of(cx, &object)?);
            }
        }
    }
}

fn absent(cx: &Cx<'_>) -> Status {
    Status::not_found(&cx.resource.group_resource(), &cx.info.name)
}

/// The scale of an object.
fn scale_of(cx: &Cx<'_>, object: &Value) -> Result<Value, Status> {
    if let Some(paths) = custom(cx) {
        let wanted = paths.wanted(object).ok_or_else(|| {
            let (name, path) = (meta::name(object), paths.wanted_path());
            Status::internal(format!("the spec replicas field {path:?} does not exist in {name}"))
        })?;
        let mut status = json!({"replicas": paths.found(object)});
        if !paths.selector(object).is_empty() {
            status["selector"] = paths.selector(object).into();
        }
        return Ok(scale(object, wanted, status));
    }
    let selector = meta::at(object, &["spec", "selector"]).unwrap_or(&Value::Null);
    // The oldest of the kinds selects by a plain map.
    let selector = match meta::text(object, &["kind"]) {
        "ReplicationController" => json!({"matchLabels": selector}),
        _ => selector.clone(),
    };
    let selector = selector_terms(&selector).ok_or_else(|| Status::bad_request("invalid label selector"))?;
    let count = |part: &str| meta::at(object, &[part, "replicas"]).and_then(Value::as_i64).unwrap_or(0);
    let mut status = json!({"replicas": count("status")});
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    Ok(scale(object, count("spec"), status))
}

/// Where a custom kind keeps its replicas.
fn custom<'a>(cx: &'a Cx<'_>) -> Option<&'a Paths> {
    cx.resource.custom.as_ref()?.scale.as_ref()
}

fn scale(object: &Value, wanted: i64, status: Value) -> Value {
    let metadata: serde_json::Map<String, Value> = ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"]
        .into_iter()
        .filter_map(|key| meta::at(object, &["metadata", key]).map(|v| (key.to_owned(), v.clone())))
        .collect();
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": {"replicas": wanted}, "status": status,
    })
}

/// The object with the replicas that the scale asks for.
fn rescaled(cx: &Cx<'_>, old: &Stored, scale: &Value) -> Result<Value, Status> {
    let name = cx.info.name.as_str();
    match meta::name(scale) {
        "" => return Err(Status::bad_request("name must be provided")),
        found if found != name => {
            return Err(Status::bad_request(format!(
                "the name of the object ({found}) does not match the name on the URL ({name})"
            )));
        }
        _ => {}
    }
    let replicas = meta::at(scale, &["spec", "replicas"]).and_then(Value::as_i64).unwrap_or(0);
    if replicas < 0 {
        let why = "must be greater than or equal to 0";
        let error = FieldError::invalid(Path::new("spec.replicas"), &replicas.into(), why);
        return Err(Status::invalid(&gvk(), name, &[error]));
    }
    let (asked, found) = (meta::uid(scale), meta::uid(&old.object));
    if !asked.is_empty() && asked != found {
        let resource = GroupResource::new(&cx.resource.group, &format!("{}/scale", cx.resource.plural));
        let why = format!("Precondition failed: UID in precondition: {asked}, UID in object meta: {found}");
        return Err(Status::conflict(&resource, name, &why));
    }
    let mut new = old.object.clone();
    match custom(cx) {
        Some(paths) => paths.set(&mut new, &replicas.into()),
        None => drop(meta::child(&mut new, "spec").insert("replicas".into(), replicas.into())),
    }
    let metadata = meta::metadata_mut(&mut new);
    match meta::resource_version(scale) {
        "" => metadata.remove("resourceVersion"),
        revision => metadata.insert("resourceVersion".into(), revision.into()),
    };
    Ok(new)
}

/// The scale that an apply asks for.
fn config(cx: &Cx<'_>) -> Result<Value, Status> {
    let read = negotiate::from_yaml(&cx.body);
    let config = read.map_err(|e| Status::bad_request(format!("error decoding YAML: {e}")))?.value;
    let (version, kind) = (meta::text(&config, &["apiVersion"]), meta::text(&config, &["kind"]));
    if (version, kind) != ("autoscaling/v1", "Scale") {
        let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
        return Err(Status::bad_request(format!("invalid object type: {}", Gvk::new(group, version, kind))));
    }
    if let Some(ty) = kiln_schema::lookup(version, kind) {
        apply::check(ty, &config).map_err(|why| {
            let name = format!("{}/{}; {}", meta::namespace(&config), meta::name(&config), gvk());
            errors::plain(format!("failed to create typed patch object ({name}): {why}"))
        })?;
    }
    Ok(config)
}

/// The object to which the replicas of a scale were applied: they are the object's own field, so that whoever applies the
/// object itself shares or disputes them.
fn applied(cx: &Cx<'_>, old: &Stored, scale: &Value) -> Result<Value, Status> {
    let mut config = json!({"apiVersion": cx.resource.api_version(), "kind": cx.resource.kind});
    for key in ["metadata", "spec"] {
        if let Some(value) = scale.get(key) {
            config[key] = value.clone();
        }
    }
    if let Some(paths) = custom(cx) {
        let wanted = meta::at(scale, &["spec", "replicas"]).cloned();
        meta::object_mut(&mut config).remove("spec");
        wanted.iter().for_each(|replicas| paths.set(&mut config, replicas));
    }
    let new = managed::apply_config(cx, Some(&old.object), &config)?;
    let (name, found) = (cx.info.name.as_str(), meta::name(&new));
    if found != name {
        let why = format!("the name of the object ({found}) does not match the name on the URL ({name})");
        return Err(Status::bad_request(why));
    }
    Ok(new)
}

/// The object's scale as the patch makes it.
fn patched(cx: &Cx<'_>, old: &Stored) -> Result<Value, Status> {
    let mut scale = scale_of(cx, &old.object)?;
    let media = media_type(cx.headers);
    let body = strict::json(&cx.body).map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?.value;
    let done = match media.as_str() {
        "application/json-patch+json" => patch::json_patch(&mut scale, body),
        // A scale has no lists, so that these come to the same.
        "application/merge-patch+json" | "application/strategic-merge-patch+json" => {
            patch::object_merge_patch(&mut scale, body)
        }
        _ => {
            let why = "the body of the request was in an unknown format - accepted media types include: \
                       application/json-patch+json, application/merge-patch+json, \
                       application/strategic-merge-patch+json, application/apply-patch+yaml";
            return Err(Status::failure(Reason::UnsupportedMediaType, why));
        }
    };
    done.map_err(|e| match e {
        PatchError::Malformed(text) => Status::bad_request(text),
        PatchError::TooLong(text) => Status::failure(Reason::RequestEntityTooLarge, text),
        PatchError::Failed(text) => errors::plain(text),
        PatchError::DoesNotFit(_) => {
            Status::failure(Reason::Invalid, "the server rejected our request due to an error in our request")
        }
    })?;
    let checked = kiln_schema::lookup("autoscaling/v1", "Scale").map(|ty| kiln_schema::decode::check(ty, &mut scale));
    if let Some(Err(why)) = checked {
        let error = FieldError::invalid("patch", &scale.to_string().into(), &why);
        return Err(Status::invalid(&Gvk::new("", "", ""), "", &[error]));
    }
    Ok(scale)
}
