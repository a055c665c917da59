//! The stored form: JSON bytes that begin with kind, apiVersion and a metadata whose first key is the revision, so that
//! the store can write it in and a later revision can replace it without parsing.

use bytes::Bytes;
use kiln_apimachinery::meta;
use kiln_schema::TypeRef;
use kiln_storage::{NewValue, Revision};
use serde_json::{Map, Value};

use crate::registry::Resource;

/// What stands before the digits of the revision.
const MARK: &[u8] = b"\"metadata\":{\"resourceVersion\":\"";

/// The bytes to store of an object; its `resourceVersion` is left to the store.
pub(crate) fn stored(object: &Value) -> NewValue {
    let mut bytes = Vec::with_capacity(512);
    let empty = Map::new();
    let map = object.as_object().unwrap_or(&empty);
    bytes.push(b'{');
    for key in ["kind", "apiVersion"] {
        push_key(&mut bytes, key);
        push(&mut bytes, map.get(key).unwrap_or(&Value::Null));
        bytes.push(b',');
    }
    bytes.extend_from_slice(MARK);
    let revision_at = bytes.len();
    bytes.push(b'"');
    let metadata = map.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    for (key, value) in metadata.iter().filter(|(k, _)| *k != "resourceVersion") {
        bytes.push(b',');
        push_key(&mut bytes, key);
        push(&mut bytes, value);
    }
    bytes.push(b'}');
    for (key, value) in map.iter().filter(|(k, _)| !matches!(k.as_str(), "kind" | "apiVersion" | "metadata")) {
        bytes.push(b',');
        push_key(&mut bytes, key);
        push(&mut bytes, value);
    }
    bytes.push(b'}');
    NewValue { bytes, revision_at: Some(revision_at) }
}

fn push_key(bytes: &mut Vec<u8>, key: &str) {
    push(bytes, &Value::String(key.to_owned()));
    bytes.push(b':');
}

fn push(bytes: &mut Vec<u8>, value: &Value) {
    // A Value has text keys only and a Vec takes all, so this can't fail; Display would do the same with more copying.
    if serde_json::to_writer(&mut *bytes, value).is_err() {
        bytes.extend_from_slice(b"null");
    }
}

/// Stored bytes with another revision: what a watcher gets of a deleted object.
pub(crate) fn restamped(bytes: &Bytes, revision: Revision) -> Bytes {
    // Kind and apiVersion stand before the mark and can't hold it, since quotes in them would be escaped.
    let Some(at) = bytes.windows(MARK.len()).position(|w| w == MARK) else { return bytes.clone() };
    let start = at + MARK.len();
    let digits = bytes[start..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut out = Vec::with_capacity(bytes.len() + 4);
    out.extend_from_slice(&bytes[..start]);
    out.extend_from_slice(revision.to_string().as_bytes());
    out.extend_from_slice(&bytes[start + digits..]);
    out.into()
}

/// The revision in stored bytes; 0 if there is none.
pub(crate) fn revision(bytes: &[u8]) -> Revision {
    let Some(at) = memchr::memmem::find(bytes, MARK) else { return 0 };
    let digits = bytes[at + MARK.len()..].iter().take_while(|b| b.is_ascii_digit());
    digits.fold(0, |n: Revision, d| n.saturating_mul(10).saturating_add(Revision::from(d - b'0')))
}

/// Drops the nulls of a resource's object: by its type, which tells where null is a value, or, without one, all of them.
pub(crate) fn prune(resource: &Resource, object: &mut Value) {
    if resource.custom.is_some() {
        // Null may be a value; the kind's own defaults tell.
        return;
    }
    match resource.schema.filter(|_| resource.conversion.is_none()) {
        Some(ty) => kiln_schema::decode::prune_nulls(ty, object),
        None => prune_nulls(object),
    }
}

/// Adds what an object always has and is not null, in stored form or in the request's version.
pub(crate) fn fill(resource: &Resource, object: &mut Value) {
    if let Some(ty) = type_of(resource, object) {
        kiln_schema::fill::fill(ty, object);
    }
}

/// Adds everything that an object always has: the last step before it is stored or shown. Nothing here works on objects
/// that have nulls in place of what is absent.
pub(crate) fn complete(resource: &Resource, object: &mut Value) {
    if let Some(ty) = type_of(resource, object) {
        kiln_schema::fill::complete(ty, object);
    }
}

fn type_of(resource: &Resource, object: &Value) -> Option<TypeRef<'static>> {
    match resource.schema {
        Some(ty) if resource.conversion.is_none() => Some(ty),
        None => None,
        Some(_) => kiln_schema::lookup(meta::text(object, &["apiVersion"]), &resource.kind),
    }
}

/// Drops null members of objects, which mean "absent".
pub(crate) fn prune_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(prune_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(prune_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn stored_bytes_take_a_revision_and_another_one_later() {
        let object = json!({"kind": "A", "apiVersion": "v1", "metadata": {"name": "x", "resourceVersion": "9"}, "data": {"a": "\"metadata\":{"}});
        let NewValue { bytes, revision_at } = stored(&object);
        let at = revision_at.unwrap();
        let mut whole = bytes[..at].to_vec();
        whole.extend_from_slice(b"17");
        whole.extend_from_slice(&bytes[at..]);
        let read: Value = serde_json::from_slice(&whole).unwrap();
        assert_eq!(read["metadata"], json!({"name": "x", "resourceVersion": "17"}));
        assert_eq!(read["data"], object["data"]);
        let again: Value = serde_json::from_slice(&restamped(&whole.into(), 123)).unwrap();
        assert_eq!(again["metadata"]["resourceVersion"], "123");
    }
}
