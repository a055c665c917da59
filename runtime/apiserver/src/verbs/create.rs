//! Create.

use ::http::{Response, StatusCode};
use bytes::Bytes;
use kiln_apimachinery::{FieldError, Status, meta};
use kiln_storage::{Record, StorageError};
use serde_json::Value;

use super::managed::{self, Owners};
use super::{Cx, decode, encode, errors, render, store};
use crate::admission;
use crate::allocate;
use crate::apiextensions::versions;
use crate::http::body::Body;
use crate::policies;
use crate::warnings;

/// How often a generated name may be taken before the create fails.
const NAME_ATTEMPTS: usize = 8;

pub(crate) async fn create(cx: &Cx<'_>) -> Result<Response<Body>, Status> {
    managed::check_options(cx, false)?;
    let mut object = decode::body(cx)?;
    managed::dedup_references(cx, &mut object, "");
    let bytes = create_object(cx, object, Owners::Track).await?;
    render::object(cx, StatusCode::CREATED, &bytes)
}

/// Creates an object that has been decoded; gives the bytes as stored.
pub(crate) async fn create_object(cx: &Cx<'_>, mut object: Value, owners: Owners) -> Result<Bytes, Status> {
    let resource = &cx.resource;
    place(cx, &mut object)?;
    if let Some(conversion) = resource.conversion {
        (conversion.to_stored)(&mut object);
    }
    let generates = meta::name(&object).is_empty() && !meta::text(&object, &["metadata", "generateName"]).is_empty();
    let mut attempt = 0;
    loop {
        attempt += 1;
        let mut candidate = object.clone();
        if generates {
            let base = meta::text(&object, &["metadata", "generateName"]);
            let name = meta::generated_name(base).map_err(Status::internal)?;
            meta::metadata_mut(&mut candidate).insert("name".into(), name.into());
        }
        match attempt_create(cx, candidate, owners).await {
            Err(Attempt::Taken(_)) if generates && attempt < NAME_ATTEMPTS => {}
            Err(Attempt::Taken(status) | Attempt::Refused(status)) => return Err(status),
            Ok(bytes) => return Ok(bytes),
        }
    }
}

enum Attempt {
    Taken(Status),
    Refused(Status),
}

impl From<Status> for Attempt {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

async fn attempt_create(cx: &Cx<'_>, mut object: Value, owners: Owners) -> Result<Bytes, Attempt> {
    let resource = &cx.resource;
    let writer = cx.writer();
    let has_revision = !meta::resource_version(&object).is_empty();
    resource.strategy.default(&mut object);
    encode::fill(resource, &mut object);
    if owners == Owners::Track {
        managed::track(cx, None, &mut object);
    }
    let plan = admission::create(cx, &mut object).await?;
    managed::dedup_references(cx, &mut object, managed::AFTER_ADMISSION);
    store::fresh_metadata(&mut object, resource.generations, writer.now)?;
    if resource.group.is_empty() && resource.plural == "pods" {
        // Of what preparing turns into fields nothing is left to be told later.
        warnings::app_armor(&object).into_iter().for_each(|text| cx.warn(text));
    }
    resource.strategy.prepare_create(&writer, &mut object);
    policies::settle(cx, &mut object, None);
    allocate::prepare_create(cx, &mut object).await?;
    encode::fill(resource, &mut object);
    let mut problems: Vec<FieldError> = meta::validate(&object, resource.namespaced, resource.strategy.name_rule());
    problems.extend(managed::check_owners(meta::at(&object, &["metadata", "managedFields"])));
    problems.extend(resource.strategy.validate(&object));
    if !problems.is_empty() {
        return Err(cx.invalid(&object, &problems).into());
    }
    warnings::of_new(resource, &object).into_iter().for_each(|text| cx.warn(text));
    admission::allow_create(cx, &object).await?;
    // The store's own rule, so that whoever may not write at all hears that first.
    if has_revision && !cx.dry_run {
        return Err(errors::plain("resourceVersion should not be set on objects to be created").into());
    }
    let change = allocate::create(cx, &mut object).await?;
    let written = write(cx, object, plan, owners).await;
    change.finish(written.is_ok()).await;
    written
}

/// The last step: the object is whole and goes into the store.
async fn write(cx: &Cx<'_>, mut object: Value, plan: admission::Plan, owners: Owners) -> Result<Bytes, Attempt> {
    let resource = &cx.resource;
    let name = meta::name(&object).to_owned();
    let key = resource.key(cx.namespace(), &name);
    encode::complete(resource, &mut object);
    if cx.dry_run {
        return match cx.server.storage().get(&key).await.map_err(errors::storage)? {
            Some(found) => Err(Attempt::Taken(taken(cx, &object, Some(found))?)),
            None => Ok(encode::stored(&object).bytes.into()),
        };
    }
    admission::before_create(cx, plan).await?;
    let mut stored = keep(cx, &key, &object).await?;
    if matches!(stored, Err(StorageError::TooLarge)) && owners == Owners::Track {
        // It may be the owners that are too much.
        managed::put(&mut object, None);
        stored = keep(cx, &key, &object).await?;
    }
    match stored {
        Ok(bytes) => Ok(bytes),
        Err(StorageError::Exists) => {
            let found = cx.server.storage().get(&key).await.map_err(errors::storage)?;
            Err(Attempt::Taken(taken(cx, &object, found)?))
        }
        Err(e) => Err(errors::write(e, &resource.group_resource(), &name).into()),
    }
}

/// Puts a new object into the store, in the version that is kept; gives the bytes to show.
async fn keep(cx: &Cx<'_>, key: &str, object: &Value) -> Result<Result<Bytes, StorageError>, Status> {
    let value = encode::stored(object);
    let storage = cx.server.storage();
    let Some(kept) = versions::kept(cx.server, &cx.resource, object).await? else {
        return Ok(storage.create(key.to_owned(), value).await.map(|record| record.value));
    };
    let stored = storage.create(key.to_owned(), kept).await;
    Ok(stored.map(|record| encode::restamped(&value.bytes.into(), record.mod_revision)))
}

/// 409: the name is taken, maybe by an object that is going, maybe one that was to be unique.
fn taken(cx: &Cx<'_>, object: &Value, found: Option<Record>) -> Result<Status, Status> {
    let mut status = Status::already_exists(&cx.resource.group_resource(), meta::name(object));
    if !meta::text(object, &["metadata", "generateName"]).is_empty() {
        status.message.push_str(", the server was not able to generate a unique name for the object");
        if let Some(details) = &mut status.details {
            details.retry_after_seconds = 1;
        }
    }
    if let Some(found) = found.map(store::Stored::parse).transpose()?
        && meta::is_terminating(&found.object)
    {
        status.message = format!("object is being deleted: {}", status.message);
    }
    Ok(status)
}

/// Gives the object the namespace of the URL, which must be its own if it names one.
pub(crate) fn place(cx: &Cx<'_>, object: &mut Value) -> Result<(), Status> {
    let namespace = cx.namespace();
    match meta::namespace(object) {
        "" if namespace.is_empty() => {}
        "" => {
            meta::metadata_mut(object).insert("namespace".into(), namespace.into());
        }
        found if found == namespace => {}
        // A cluster-scoped object that names a namespace is told so by validation.
        _ if !cx.resource.namespaced => {}
        _ => {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
    }
    Ok(())
}
