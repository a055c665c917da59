//! Kubernetes' protobuf: bodies that Go clients send for built-in kinds. A table of messages, by field number, drives the
//! reader; out comes the JSON value that a JSON client would have sent. Field numbers and types are facts of the public API.

mod schema;
mod wire;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kiln_apimachinery::{gvk, time};
use serde_json::{Map, Number, Value};

use schema::{Field, Flag, Kind, Message, message_of};
use wire::{Fields, Item};

/// The media type.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";
/// Deepest nesting of messages; real objects stay far below.
const MAX_DEPTH: usize = 64;

/// A body that can't be read; the text says why.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtobufError {
    /// The bytes do not begin like a Kubernetes object.
    #[error("the body does not begin with the mark of a Kubernetes protobuf object")]
    NoMagic,
    /// A length or number goes past the end, or a wire type is unknown.
    #[error("the body is truncated or malformed")]
    Malformed,
    /// Text that is no UTF-8.
    #[error("field {0} holds text that is not UTF-8")]
    Text(String),
    /// A kind that the table has not.
    #[error("no protobuf message is known for {0}")]
    UnknownKind(String),
    /// Messages nested too deep.
    #[error("messages are nested more than {MAX_DEPTH} deep")]
    TooDeep,
}

/// Reads a body into the object it stands for.
pub(crate) fn decode(body: &[u8]) -> Result<Value, ProtobufError> {
    let body = body.strip_prefix(MAGIC).ok_or(ProtobufError::NoMagic)?;
    let (mut version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for item in Fields(body) {
        match item? {
            (1, Item::Bytes(meta)) => {
                for item in Fields(meta) {
                    match item? {
                        (1, Item::Bytes(b)) => version = text("apiVersion", b)?,
                        (2, Item::Bytes(b)) => kind = text("kind", b)?,
                        _ => {}
                    }
                }
            }
            (2, Item::Bytes(b)) => raw = b,
            _ => {}
        }
    }
    let (group, v) = gvk::split_api_version(&version).unwrap_or(("", &version));
    let message =
        message_of(group, v, &kind).ok_or_else(|| ProtobufError::UnknownKind(format!("{version}, Kind={kind}")))?;
    let mut object = Map::new();
    object.insert("apiVersion".into(), version.into());
    object.insert("kind".into(), kind.into());
    read(message, raw, &mut object, 0)?;
    Ok(Value::Object(object))
}

fn text(name: &str, bytes: &[u8]) -> Result<String, ProtobufError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| ProtobufError::Text(name.to_owned()))
}

/// Reads a message's fields into `out`.
fn read(message: &Message, bytes: &[u8], out: &mut Map<String, Value>, depth: usize) -> Result<(), ProtobufError> {
    if depth > MAX_DEPTH {
        return Err(ProtobufError::TooDeep);
    }
    for item in Fields(bytes) {
        let (number, item) = item?;
        let Some(field) = message.field(number) else { continue };
        match (field.flag, item) {
            (Flag::Inline, Item::Bytes(bytes)) => {
                if let Kind::Message(name) = field.kind
                    && let Some(inner) = schema::message(name)
                {
                    read(inner, bytes, out, depth + 1)?;
                }
            }
            (Flag::Map, Item::Bytes(entry)) => {
                let (key, value) = map_entry(field, entry, depth)?;
                if let Value::Object(map) = out.entry(field.name).or_insert_with(|| Value::Object(Map::new())) {
                    map.insert(key, value);
                }
            }
            (Flag::List, item) => {
                let value = value(field, item, depth)?;
                if let Value::Array(list) = out.entry(field.name).or_insert_with(|| Value::Array(Vec::new())) {
                    list.push(value);
                }
            }
            (flag, item) => {
                let value = value(field, item, depth)?;
                // Go writes the zero of every field that is no pointer, where JSON has nothing.
                if flag == Flag::Pointer || !is_zero(&value) {
                    out.insert(field.name.to_owned(), value);
                }
            }
        }
    }
    Ok(())
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Bool(true) => false,
    }
}

fn map_entry(field: &Field, entry: &[u8], depth: usize) -> Result<(String, Value), ProtobufError> {
    let (mut key, mut found) = (String::new(), None);
    for item in Fields(entry) {
        match item? {
            (1, Item::Bytes(bytes)) => key = text(field.name, bytes)?,
            (2, item) => found = Some(value(field, item, depth)?),
            _ => {}
        }
    }
    let empty = if matches!(field.kind, Kind::Text | Kind::Bytes) { Value::String(String::new()) } else { Value::Null };
    Ok((key, found.unwrap_or(empty)))
}

fn value(field: &Field, item: Item<'_>, depth: usize) -> Result<Value, ProtobufError> {
    Ok(match (field.kind, item) {
        (Kind::Text, Item::Bytes(b)) => text(field.name, b)?.into(),
        (Kind::Bytes, Item::Bytes(b)) => STANDARD.encode(b).into(),
        (Kind::Bool, Item::Integer(n)) => (n != 0).into(),
        (Kind::Integer, Item::Integer(n)) => n.into(),
        (Kind::Double, Item::Fixed64(n)) => Number::from_f64(f64::from_bits(n)).map_or(Value::Null, Value::Number),
        (Kind::Time, Item::Bytes(b)) => timestamp(b)?.map_or(Value::Null, |t| time::rfc3339(t).into()),
        (Kind::MicroTime, Item::Bytes(b)) => timestamp(b)?.map_or(Value::Null, |t| time::rfc3339_micro(t).into()),
        (Kind::Quantity, Item::Bytes(b)) => first_text(field.name, b)?.into(),
        (Kind::IntOrString, Item::Bytes(b)) => int_or_string(field.name, b)?,
        (Kind::Json, Item::Bytes(b)) => {
            let raw = Fields(b).find_map(|i| match i {
                Ok((1, Item::Bytes(raw))) => Some(raw),
                _ => None,
            });
            match raw {
                Some(raw) => serde_json::from_slice(raw).map_err(|_| ProtobufError::Malformed)?,
                None => Value::Null,
            }
        }
        (Kind::Texts, Item::Bytes(b)) => {
            let mut list = Vec::new();
            for item in Fields(b) {
                if let (1, Item::Bytes(b)) = item? {
                    list.push(Value::String(text(field.name, b)?));
                }
            }
            list.into()
        }
        (Kind::Message(name), Item::Bytes(b)) => {
            let mut out = Map::new();
            if let Some(message) = schema::message(name) {
                read(message, b, &mut out, depth + 1)?;
            }
            out.into()
        }
        _ => return Err(ProtobufError::Malformed),
    })
}

fn timestamp(bytes: &[u8]) -> Result<Option<Timestamp>, ProtobufError> {
    let (mut seconds, mut nanos) = (0, 0);
    for item in Fields(bytes) {
        match item? {
            (1, Item::Integer(n)) => seconds = n,
            (2, Item::Integer(n)) => nanos = i32::try_from(n).map_err(|_| ProtobufError::Malformed)?,
            _ => {}
        }
    }
    if bytes.is_empty() {
        return Ok(None);
    }
    Timestamp::new(seconds, nanos).map(Some).map_err(|_| ProtobufError::Malformed)
}

fn first_text(name: &str, bytes: &[u8]) -> Result<String, ProtobufError> {
    for item in Fields(bytes) {
        if let (1, Item::Bytes(b)) = item? {
            return text(name, b);
        }
    }
    Ok(String::new())
}

fn int_or_string(name: &str, bytes: &[u8]) -> Result<Value, ProtobufError> {
    let (mut is_text, mut number, mut string) = (false, 0, String::new());
    for item in Fields(bytes) {
        match item? {
            (1, Item::Integer(n)) => is_text = n == 1,
            (2, Item::Integer(n)) => number = n,
            (3, Item::Bytes(b)) => string = text(name, b)?,
            _ => {}
        }
    }
    Ok(if is_text { string.into() } else { number.into() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A field with a length, as tests write it.
    fn len(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, bytes.len() as u8];
        out.extend_from_slice(bytes);
        out
    }

    fn body(kind: &str, raw: &[u8]) -> Vec<u8> {
        let meta = [len(1, b"v1"), len(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), len(1, &meta), len(2, raw)].concat()
    }

    #[test]
    fn a_config_map_from_a_go_client_is_the_json_it_stands_for() {
        let metadata = [len(1, b"a"), len(2, b""), vec![7 << 3, 0], len(8, b"")].concat();
        let entry = [len(1, b"k"), len(2, b"v")].concat();
        let raw = [len(1, &metadata), len(2, &entry), vec![4 << 3, 0]].concat();
        assert_eq!(
            decode(&body("ConfigMap", &raw)).unwrap(),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}, "immutable": false})
        );
    }

    #[test]
    fn broken_bodies_are_errors() {
        assert_eq!(decode(b"{}"), Err(ProtobufError::NoMagic));
        assert_eq!(decode(&body("Nonsense", b"")), Err(ProtobufError::UnknownKind("v1, Kind=Nonsense".into())));
        assert_eq!(decode(&body("ConfigMap", &[0x0a, 0x7f])), Err(ProtobufError::Malformed));
        assert_eq!(decode(&body("ConfigMap", &[0xff; 12])), Err(ProtobufError::Malformed));
    }

    #[test]
    fn every_message_of_the_table_is_known() {
        assert_eq!(schema::unknown_names(), Vec::<&str>::new());
    }
}
