//! Objects as they come in: JSON, protobuf, and the owners of their fields.

use kiln_apimachinery::{apply, decode};
use kiln_schema::protobuf;
use serde_json::Value;

/// JSON: read strictly, checked against the schema, written as protobuf and read back.
pub(super) fn json(data: &[u8]) {
    let Ok(decoded) = decode::json(data) else { return };
    survives_both(decoded.value);
}

/// Protobuf: what is read is an object that JSON can say, and that is written and read as itself.
pub(super) fn protobuf(data: &[u8]) {
    let Ok(value) = protobuf::decode(data) else { return };
    survives_both(value);
}

fn survives_both(mut value: Value) {
    if decode::deeper_than(&value, decode::MAX_DEPTH) {
        return;
    }
    let word = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (version, kind) = (word("apiVersion"), word("kind"));
    let Some(ty) = kiln_schema::lookup(&version, &kind) else { return };
    if kiln_schema::decode::check(ty, &mut value).is_err() {
        return;
    }
    super::survives(&value);
    let Ok(bytes) = protobuf::encode(&value) else { return };
    let again = protobuf::decode(&bytes).expect("what was written is read");
    assert_eq!(protobuf::encode(&again).as_ref(), Ok(&bytes), "{again}");
    for owned in value["metadata"]["managedFields"].as_array().into_iter().flatten() {
        owners(&owned["fieldsV1"]);
    }
    owners(&apply::set_of(ty, &value).to_value());
}

/// `fieldsV1`: what is read is written as what reads the same, and the laws of sets hold.
pub(super) fn fields(data: &[u8]) {
    let Some([a, b]) = super::parts(data) else { return };
    let read = |text: &str| serde_json::from_str::<Value>(text).ok();
    let (Some(a), Some(b)) = (read(a), read(b)) else { return };
    owners(&a);
    let (Ok(a), Ok(b)) = (apply::Set::from_value(&a), apply::Set::from_value(&b)) else { return };
    let both = a.clone().union(b.clone());
    for path in a.paths().iter().chain(&b.paths()) {
        assert!(both.has(path), "{path:?}");
        assert_eq!(a.intersection(&b).has(path), a.has(path) && b.has(path), "{path:?}");
    }
    let mut less = a.clone();
    less.subtract(&b);
    for path in less.paths() {
        assert!(a.has(&path) && !b.has(&path), "{path:?}");
    }
}

fn owners(fields: &Value) {
    let Ok(set) = apply::Set::from_value(fields) else { return };
    let written = set.to_value();
    let again = apply::Set::from_value(&written).expect("what was written is read");
    assert_eq!(again.to_value(), written);
}
