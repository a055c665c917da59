//! Replacing an object, and what replacing and patching share.

use ::http::{Response, StatusCode};
use bytes::Bytes;
use kiln_apimachinery::{FieldError, Status, meta};
use serde_json::Value;

use super::create::{create_object, place};
use super::store::Stored;
use super::{Cx, decode, encode, errors, render};
use crate::admission;
use crate::allocate;
use crate::http::body::Body;

/// How often a write is tried again that others' writes overtook.
pub(crate) const ATTEMPTS: usize = 5;

pub(crate) async fn put(cx: &Cx<'_>) -> Result<Response<Body>, Status> {
    let mut object = decode::body(cx)?;
    let name = &cx.info.name;
    match meta::name(&object) {
        "" => return Err(Status::bad_request("name must be provided")),
        found if found != name => {
            return Err(Status::bad_request(format!(
                "the name of the object ({found}) does not match the name on the URL ({name})"
            )));
        }
        _ => {}
    }
    place(cx, &mut object)?;
    let free = meta::resource_version(&object).is_empty();
    if let Some(conversion) = cx.resource.conversion {
        (conversion.to_stored)(&mut object);
    }
    let mut attempt = 0;
    loop {
        attempt += 1;
        let Some(old) = current(cx).await? else {
            if cx.resource.create_on_update && cx.info.subresource.is_empty() && free {
                let bytes = create_object(cx, object).await?;
                return render::object(cx, StatusCode::CREATED, &bytes);
            }
            return Err(cx.not_found(name));
        };
        if free && !cx.resource.unconditional_update {
            let error = FieldError::invalid("metadata.resourceVersion", &0.into(), "must be specified for an update");
            return Err(cx.invalid(&object, &[error]));
        }
        match replace(cx, &old, object.clone()).await {
            // Without a revision the writer wants the last word, so it is had on whatever is there now.
            Err(Failure::Overtaken(_)) if free && attempt < ATTEMPTS => {}
            Err(Failure::Overtaken(status) | Failure::Refused(status)) => return Err(status),
            Ok(bytes) => return render::object(cx, StatusCode::OK, &bytes),
        }
    }
}

/// The object that the request names.
pub(crate) async fn current(cx: &Cx<'_>) -> Result<Option<Stored>, Status> {
    let key = cx.resource.key(cx.namespace(), &cx.info.name);
    let record = cx.server.storage().get(&key).await.map_err(errors::storage)?;
    record.map(Stored::parse).transpose()
}

/// Why a replacement failed.
pub(crate) enum Failure {
    /// The store has another revision by now.
    Overtaken(Status),
    /// Anything else.
    Refused(Status),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

/// Replaces `old` by `new` (both in stored form), with everything an update is held to. Gives the bytes as stored.
pub(crate) async fn replace(cx: &Cx<'_>, old: &Stored, mut new: Value) -> Result<Bytes, Failure> {
    let resource = &cx.resource;
    let (group_resource, name) = (resource.group_resource(), cx.info.name.as_str());
    let uid = meta::uid(&new);
    if !uid.is_empty() && uid != meta::uid(&old.object) {
        let why =
            format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", meta::uid(&old.object));
        return Err(Status::conflict(&group_resource, name, &why).into());
    }
    let revision = meta::resource_version(&new);
    if !revision.is_empty() && revision != old.record.mod_revision.to_string() {
        if revision.parse::<u64>().is_err() {
            let error = FieldError::invalid("metadata.resourceVersion", &revision.into(), "must be a number");
            return Err(cx.invalid(&new, &[error]).into());
        }
        return Err(Failure::Refused(Status::modified(&group_resource, name)));
    }
    keep_system_metadata(&mut new, &old.object);
    resource.strategy.default(&mut new);
    resource.strategy.prepare_update(&cx.writer(), &mut new, &old.object);
    if resource.generations && without_metadata_and_status(&new) != without_metadata_and_status(&old.object) {
        let generation = meta::at(&old.object, &["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0);
        meta::metadata_mut(&mut new).insert("generation".into(), (generation + 1).into());
    }
    encode::prune_nulls(&mut new);
    admission::update(cx, &mut new, &old.object).await?;
    let mut problems = meta::validate(&new, resource.namespaced, resource.strategy.name_rule());
    problems.extend(resource.strategy.validate_write(&cx.writer(), &new, &old.object));
    problems.extend(new_finalizers(&new, &old.object));
    if !problems.is_empty() {
        return Err(cx.invalid(&new, &problems).into());
    }
    if same_but_for_revision(&new, &old.object) {
        return Ok(old.record.value.clone());
    }
    let change = allocate::update(cx, &mut new, &old.object).await?;
    let written = write(cx, old, new).await;
    change.finish(written.is_ok()).await;
    written
}

/// The last step: the object is whole and goes into the store, or out of it if only finalizers had held it.
async fn write(cx: &Cx<'_>, old: &Stored, new: Value) -> Result<Bytes, Failure> {
    let (group_resource, name) = (cx.resource.group_resource(), cx.info.name.as_str());
    let value = encode::stored(&new);
    if cx.dry_run {
        let revision = old.record.mod_revision;
        return Ok(encode::restamped(&value.bytes.into(), revision));
    }
    let (key, expected) = (old.record.key.to_string(), old.record.mod_revision);
    let overtaken = |e| match errors::write(e, &group_resource, name) {
        status if status.is(kiln_apimachinery::Reason::Conflict) => Failure::Overtaken(status),
        status => Failure::Refused(status),
    };
    if is_released(cx, &new) {
        let (_, revision) = cx.server.storage().delete(key, Some(expected)).await.map_err(overtaken)?;
        allocate::gone(cx, &new).await;
        return Ok(encode::restamped(&value.bytes.into(), revision));
    }
    Ok(cx.server.storage().update(key, value, expected).await.map_err(overtaken)?.value)
}

/// True if a delete was asked for and nothing holds the object any more: no finalizer and no grace period.
pub(crate) fn is_released(cx: &Cx<'_>, object: &Value) -> bool {
    let grace = meta::at(object, &["metadata", "deletionGracePeriodSeconds"]).and_then(Value::as_i64).unwrap_or(0);
    meta::is_terminating(object) && grace == 0 && !is_held(cx, object)
}

/// True if finalizers keep the object.
pub(crate) fn is_held(cx: &Cx<'_>, object: &Value) -> bool {
    let namespace = cx.resource.group.is_empty() && cx.resource.plural == "namespaces";
    let contents = || !meta::strings(meta::at(object, &["spec", "finalizers"])).is_empty();
    !meta::finalizers(object).is_empty() || (namespace && contents())
}

fn keep_system_metadata(new: &mut Value, old: &Value) {
    let metadata = meta::metadata_mut(new);
    metadata.remove("selfLink");
    metadata.remove("managedFields");
    for key in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
    ] {
        match meta::at(old, &["metadata", key]) {
            Some(value) => metadata.insert(key.into(), value.clone()),
            None => metadata.remove(key),
        };
    }
}

fn without_metadata_and_status(object: &Value) -> Vec<(&String, &Value)> {
    let fields = object.as_object().into_iter().flatten();
    fields.filter(|(k, _)| !matches!(k.as_str(), "metadata" | "status")).collect()
}

fn same_but_for_revision(a: &Value, b: &Value) -> bool {
    fn metadata(o: &Value) -> Vec<(&String, &Value)> {
        o.get("metadata")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter(|(k, _)| *k != "resourceVersion")
            .collect()
    }
    fn rest(o: &Value) -> Vec<(&String, &Value)> {
        o.as_object().into_iter().flatten().filter(|(k, _)| *k != "metadata").collect()
    }
    metadata(a) == metadata(b) && rest(a) == rest(b)
}

fn new_finalizers(new: &Value, old: &Value) -> Option<FieldError> {
    let known = meta::finalizers(old);
    let added: Vec<&str> = meta::finalizers(new).into_iter().filter(|f| !known.contains(f)).collect();
    (meta::is_terminating(old) && !added.is_empty()).then(|| {
        let list = added.iter().map(|f| format!("{f:?}")).collect::<Vec<_>>().join(", ");
        let why = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{list}}}"
        );
        FieldError::forbidden("metadata.finalizers", &why)
    })
}
