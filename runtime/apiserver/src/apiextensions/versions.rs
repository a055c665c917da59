//! Custom resources as they are stored, and as a request's version shows them.
//!
//! Most objects go out as the bytes that are stored. Those that are stored in another version are converted; those that
//! were written before the definition became what it is are pruned and get their defaults on the way out.

use bytes::Bytes;
use kiln_apimachinery::{Status, meta};
use kiln_storage::{NewValue, Record, Revision};
use serde_json::Value;

use super::Custom;
use super::schema::{self, Schema};
use crate::registry::Resource;
use crate::server::ApiServer;
use crate::verbs::encode;

/// Records with their values as the version shows them.
pub(crate) async fn shown_all(server: &ApiServer, resource: &Resource, records: &mut [Record]) -> Result<(), Status> {
    let Some(custom) = &resource.custom else { return Ok(()) };
    let stale: Vec<usize> = (0..records.len())
        .filter(|at| !is_current(custom, resource, &records[*at].value, records[*at].mod_revision))
        .collect();
    if stale.is_empty() {
        return Ok(());
    }
    let parse = |at: &usize| serde_json::from_slice(&records[*at].value).map_err(Status::internal);
    let objects = stale.iter().map(parse).collect::<Result<Vec<Value>, Status>>()?;
    let objects = custom.converter.convert(server, objects, &resource.api_version()).await?;
    for (at, mut object) in stale.into_iter().zip(objects) {
        tidy(&custom.schema, &mut object);
        records[at].value = encode::restamped(&encode::stored(&object).bytes.into(), records[at].mod_revision);
    }
    Ok(())
}

/// One record with its value as the version shows it.
pub(crate) async fn shown(server: &ApiServer, resource: &Resource, mut record: Record) -> Result<Record, Status> {
    shown_all(server, resource, std::slice::from_mut(&mut record)).await?;
    Ok(record)
}

/// Bytes that carry this revision, as the version shows them.
pub(crate) async fn shown_bytes(server: &ApiServer, resource: &Resource, value: Bytes) -> Result<Bytes, Status> {
    let Some(custom) = &resource.custom else { return Ok(value) };
    let revision = encode::revision(&value);
    if is_current(custom, resource, &value, revision) {
        return Ok(value);
    }
    let object: Value = serde_json::from_slice(&value).map_err(Status::internal)?;
    let converted = custom.converter.convert(server, vec![object], &resource.api_version()).await?;
    let Some(mut object) = converted.into_iter().next() else { return Ok(value) };
    tidy(&custom.schema, &mut object);
    Ok(encode::restamped(&encode::stored(&object).bytes.into(), revision))
}

/// An object in the version in which it is stored; `None` if that is the request's own.
pub(crate) async fn kept(server: &ApiServer, resource: &Resource, object: &Value) -> Result<Option<NewValue>, Status> {
    let Some(custom) = &resource.custom else { return Ok(None) };
    if resource.api_version() == custom.stored_version {
        return Ok(None);
    }
    let converted = custom.converter.convert(server, vec![object.clone()], &custom.stored_version).await?;
    let Some(mut object) = converted.into_iter().next() else { return Ok(None) };
    tidy(&custom.stored_schema, &mut object);
    Ok(Some(encode::stored(&object)))
}

/// An object in another version of its kind, as that version's schema has it.
pub(crate) async fn converted(server: &ApiServer, wanted: &Resource, object: Value) -> Result<Value, Status> {
    let Some(custom) = &wanted.custom else { return Ok(object) };
    if meta::text(&object, &["apiVersion"]) == wanted.api_version() {
        return Ok(object);
    }
    let converted = custom.converter.convert(server, vec![object], &wanted.api_version()).await?;
    let mut object = converted.into_iter().next().unwrap_or_default();
    tidy(&custom.schema, &mut object);
    Ok(object)
}

/// True if stored bytes are what the version shows.
fn is_current(custom: &Custom, resource: &Resource, value: &[u8], revision: Revision) -> bool {
    let (kind, version) = (resource.kind.as_bytes(), resource.api_version());
    let head = || {
        let rest = value.strip_prefix(b"{\"kind\":\"")?.strip_prefix(kind)?;
        rest.strip_prefix(b"\",\"apiVersion\":\"")?.strip_prefix(version.as_bytes())?.strip_prefix(b"\"")
    };
    revision > custom.since && head().is_some()
}

fn tidy(schema: &Schema, object: &mut Value) {
    let root = schema.root();
    schema::prune(root, object);
    schema::nulls(Some(root), object);
    schema::defaults(root, object);
}
