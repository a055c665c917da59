//! Replacing an object, and what replacing and patching share.

use ::http::{Response, StatusCode};
use bytes::Bytes;
use kiln_apimachinery::apply::ignore_times;
use kiln_apimachinery::{FieldError, Gvk, Status, meta};
use kiln_storage::StorageError;
use serde_json::Value;

use super::create::{create_object, place};
use super::managed::{self, Owners};
use super::store::Stored;
use super::{Cx, decode, encode, errors, render};
use crate::admission;
use crate::allocate;
use crate::apiextensions::versions;
use crate::authz::{self, Attributes};
use crate::http::body::Body;
use crate::policies;
use crate::warnings;

/// How often a write is tried again that others' writes overtook.
pub(crate) const ATTEMPTS: usize = 5;

pub(crate) async fn put(cx: &Cx<'_>) -> Result<Response<Body>, Status> {
    managed::check_options(cx, false)?;
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
    managed::dedup_references(cx, &mut object, "");
    let free = is_free(&object);
    if let Some(conversion) = cx.resource.conversion {
        (conversion.to_stored)(&mut object);
    }
    let mut attempt = 0;
    loop {
        attempt += 1;
        let Some(old) = current(cx).await? else {
            if cx.resource.create_on_update && cx.info.subresource.is_empty() {
                may_create(cx).await?;
                meta::metadata_mut(&mut object).remove("resourceVersion");
                let bytes = create_object(cx, object, Owners::Track).await?;
                return render::object(cx, StatusCode::CREATED, &bytes);
            }
            return Err(cx.not_found(name));
        };
        let (asked, found) = (meta::uid(&object), meta::uid(&old.object));
        if !asked.is_empty() && asked != found {
            let why = format!("Precondition failed: UID in precondition: {asked}, UID in object meta: {found}");
            return Err(Status::conflict(&cx.resource.group_resource(), name, &why));
        }
        if free && !cx.resource.unconditional_update {
            let error = FieldError::invalid("metadata.resourceVersion", &0.into(), "must be specified for an update");
            let resource = Gvk::new(&cx.resource.group, "", &cx.resource.plural);
            return Err(Status::invalid(&resource, name, &[error]));
        }
        match replace(cx, &old, object.clone(), Owners::Track).await {
            // Without a revision the writer wants the last word, so it is had on whatever is there now.
            Err(Failure::Overtaken(_)) if free && attempt < ATTEMPTS => {}
            Err(Failure::Overtaken(status) | Failure::Refused(status)) => return Err(status),
            Ok(bytes) => return render::object(cx, StatusCode::OK, &bytes),
        }
    }
}

/// Whether a writer does not say what it has seen: no revision, or none by number.
fn is_free(object: &Value) -> bool {
    matches!(meta::resource_version(object), "" | "0")
}

/// The object that the request names.
pub(crate) async fn current(cx: &Cx<'_>) -> Result<Option<Stored>, Status> {
    let key = cx.resource.key(cx.namespace(), &cx.info.name);
    let record = cx.server.storage().get(&key).await.map_err(errors::storage)?;
    let Some(record) = record else { return Ok(None) };
    Stored::parse(versions::shown(cx.server, &cx.resource, record).await?).map(Some)
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

/// Refuses a write that would create an object to a user who may not.
pub(crate) async fn may_create(cx: &Cx<'_>) -> Result<(), Status> {
    let what = Attributes { verb: "create".into(), ..Attributes::from(cx.info) };
    let decision = authz::decide(cx.server, cx.user, &what).await?;
    if decision.allowed { Ok(()) } else { Err(what.refusal(cx.user, &decision.reason)) }
}

/// Replaces `old` by `new` (both in stored form), with everything an update is held to. Gives the bytes as stored.
pub(crate) async fn replace(cx: &Cx<'_>, old: &Stored, mut new: Value, owners: Owners) -> Result<Bytes, Failure> {
    let resource = &cx.resource;
    let (group_resource, name) = (resource.group_resource(), cx.info.name.as_str());
    let revision = meta::resource_version(&new);
    if !is_free(&new) && revision != old.record.mod_revision.to_string() {
        if revision.parse::<u64>().is_err() {
            let error = FieldError::invalid("metadata.resourceVersion", &revision.into(), "must be a number");
            return Err(cx.invalid(&new, &[error]).into());
        }
        return Err(Failure::Refused(Status::modified(&group_resource, name)));
    }
    keep_system_metadata(&mut new, &old.object);
    resource.strategy.default(&mut new);
    encode::fill(resource, &mut new);
    if owners == Owners::Track {
        managed::track(cx, Some(&old.object), &mut new);
    }
    // The owners are told: what follows is nobody's doing, and need not see them.
    let told = meta::metadata_mut(&mut new).remove("managedFields");
    admission::update(cx, &mut new, &old.object).await?;
    managed::dedup_references(cx, &mut new, managed::AFTER_ADMISSION);
    resource.strategy.prepare_update(&cx.writer(), &mut new, &old.object);
    allocate::prepare_update(cx, &mut new, &old.object).await?;
    encode::prune(resource, &mut new);
    encode::fill(resource, &mut new);
    if resource.generations && without_metadata_and_status(&new) != without_metadata_and_status(&old.object) {
        let generation = meta::at(&old.object, &["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0);
        meta::metadata_mut(&mut new).insert("generation".into(), (generation + 1).into());
    }
    policies::settle(cx, &mut new, Some(&old.object));
    let mut problems = meta::validate(&new, resource.namespaced, resource.strategy.name_rule());
    problems.extend(resource.strategy.validate_write(&cx.writer(), &new, &old.object));
    problems.extend(new_finalizers(&new, &old.object));
    problems.extend(managed::check_owners(told.as_ref()));
    problems.extend(immutable_metadata(&new, &old.object));
    if !problems.is_empty() {
        return Err(cx.invalid(&new, &problems).into());
    }
    let said = warnings::of_change(resource, &cx.info.subresource, &new, &old.object);
    said.into_iter().for_each(|text| cx.warn(text));
    admission::allow_update(cx, &new, &old.object).await?;
    managed::put(&mut new, told);
    ignore_times(&mut new, &old.object);
    if same_but_for_revision(&new, &old.object) {
        return Ok(old.record.value.clone());
    }
    let change = allocate::update(cx, &mut new, &old.object).await?;
    let written = write(cx, old, new, owners).await;
    change.finish(written.is_ok()).await;
    written
}

/// The last step: the object is whole and goes into the store, or out of it if only finalizers had held it.
async fn write(cx: &Cx<'_>, old: &Stored, mut new: Value, owners: Owners) -> Result<Bytes, Failure> {
    let (group_resource, name) = (cx.resource.group_resource(), cx.info.name.as_str());
    encode::complete(&cx.resource, &mut new);
    let expected = old.record.mod_revision;
    if cx.dry_run {
        return Ok(encode::restamped(&encode::stored(&new).bytes.into(), expected));
    }
    let overtaken = |e| match errors::write(e, &group_resource, name) {
        status if status.is(kiln_apimachinery::Reason::Conflict) => Failure::Overtaken(status),
        status => Failure::Refused(status),
    };
    if is_released(cx, &new) {
        let key = old.record.key.to_string();
        let (_, revision) = cx.server.storage().delete(key, Some(expected)).await.map_err(overtaken)?;
        allocate::gone(cx, &new).await;
        return Ok(encode::restamped(&encode::stored(&new).bytes.into(), revision));
    }
    let mut stored = keep(cx, old, &new).await?;
    if matches!(stored, Err(StorageError::TooLarge)) && owners == Owners::Track {
        // It may be the owners that are too much.
        managed::put(&mut new, None);
        stored = keep(cx, old, &new).await?;
    }
    stored.map_err(overtaken)
}

/// Puts an object into the store in the place of another, in the version that is kept; gives the bytes to show.
async fn keep(cx: &Cx<'_>, old: &Stored, new: &Value) -> Result<Result<Bytes, StorageError>, Status> {
    let (key, expected) = (old.record.key.to_string(), old.record.mod_revision);
    let value = encode::stored(new);
    let storage = cx.server.storage();
    let Some(kept) = versions::kept(cx.server, &cx.resource, new).await? else {
        return Ok(storage.update(key, value, expected).await.map(|record| record.value));
    };
    let stored = storage.update(key, kept, expected).await;
    Ok(stored.map(|record| encode::restamped(&value.bytes.into(), record.mod_revision)))
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

/// Takes from the stored object what a writer can't change or need not say.
fn keep_system_metadata(new: &mut Value, old: &Value) {
    let metadata = meta::metadata_mut(new);
    metadata.remove("selfLink");
    let before = |key: &str| meta::at(old, &["metadata", key]).cloned();
    for key in ["generation", "creationTimestamp"] {
        match before(key) {
            Some(value) => metadata.insert(key.into(), value),
            None => metadata.remove(key),
        };
    }
    for key in ["name", "namespace", "uid", "deletionGracePeriodSeconds"] {
        if let (None, Some(value)) = (metadata.get(key), before(key)) {
            metadata.insert(key.into(), value);
        }
    }
    if let Some(value) = before("deletionTimestamp") {
        metadata.insert("deletionTimestamp".into(), value);
    }
}

/// Complaints about metadata that no writer may change.
fn immutable_metadata(new: &Value, old: &Value) -> Vec<FieldError> {
    const KEYS: [&str; 5] = ["name", "namespace", "uid", "deletionTimestamp", "deletionGracePeriodSeconds"];
    let differs = |key: &&str| meta::at(new, &["metadata", key]) != meta::at(old, &["metadata", key]);
    let complaint = |key: &str| {
        let value = meta::at(new, &["metadata", key]).cloned().unwrap_or_default();
        FieldError::invalid(format!("metadata.{key}"), &value, "field is immutable")
    };
    KEYS.into_iter().filter(differs).map(complaint).collect()
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
