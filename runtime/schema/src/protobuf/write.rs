//! Objects into bytes, in the order and with the zeros of Kubernetes' own writer.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use kiln_apimachinery::time;
use serde_json::{Map, Value};

use super::wire::{put_bytes, put_integer, put_key, put_message, put_varint};
use super::{MAGIC, MAX_DEPTH, ProtobufError};
use crate::lookup;
use crate::table::{Code, Field, INLINE, POINTER, TypeRef};

/// Base64 as leniently as Go reads it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// What stands behind the message in an envelope: an empty content encoding and content type.
const TAIL: &[u8] = &[0x1a, 0, 0x22, 0];

/// Writes an object with `apiVersion` and `kind`.
pub fn encode(object: &Value) -> Result<Vec<u8>, ProtobufError> {
    let (version, kind) = (text_of(object, "apiVersion"), text_of(object, "kind"));
    let ty = lookup(version, kind).ok_or_else(|| ProtobufError::UnknownKind(format!("{version}, Kind={kind}")))?;
    let mut raw = Vec::with_capacity(1024);
    message(ty, object, &mut raw)?;
    let mut out = head(version, kind, raw.len());
    out.extend_from_slice(&raw);
    out.extend_from_slice(TAIL);
    Ok(out)
}

/// Writes the message of an object, without the envelope.
pub fn message(ty: TypeRef<'_>, object: &Value, out: &mut Vec<u8>) -> Result<(), ProtobufError> {
    fields(ty, object.as_object(), out, 0)
}

fn text_of<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The envelope up to its message of this length.
fn head(version: &str, kind: &str, len: usize) -> Vec<u8> {
    let mut meta = Vec::with_capacity(version.len() + kind.len() + 4);
    put_bytes(&mut meta, 1, version.as_bytes());
    put_bytes(&mut meta, 2, kind.as_bytes());
    let mut out = Vec::with_capacity(len + meta.len() + 20);
    out.extend_from_slice(MAGIC);
    put_bytes(&mut out, 1, &meta);
    put_key(&mut out, 2, 2);
    put_varint(&mut out, len as u64);
    out
}

/// Writes a list item by item, so that no more than one of them is parsed at a time.
#[derive(Debug)]
pub struct ListWriter {
    version: String,
    kind: String,
    metadata: Vec<u8>,
    item: TypeRef<'static>,
    len: usize,
}

impl ListWriter {
    /// A list of this version and kind, such as `PodList`, with this metadata.
    pub fn new(version: &str, kind: &str, metadata: &Value) -> Result<Self, ProtobufError> {
        let unknown = || ProtobufError::UnknownKind(format!("{version}, Kind={kind}"));
        let ty = lookup(version, kind).ok_or_else(unknown)?;
        let items = ty.json_field("items").ok_or_else(unknown)?;
        let metadata_type = ty.json_field("metadata").ok_or_else(unknown)?;
        let mut out = Vec::new();
        put_message(&mut out, metadata_type.number, |out| message(ty.to(metadata_type.node), metadata, out))?;
        let len = out.len();
        Ok(Self { version: version.into(), kind: kind.into(), metadata: out, item: ty.to(items.node).inner(), len })
    }

    /// The bytes of the next item.
    pub fn item(&mut self, object: &Value) -> Result<Vec<u8>, ProtobufError> {
        let mut out = Vec::with_capacity(512);
        put_message(&mut out, 2, |out| message(self.item, object, out))?;
        self.len += out.len();
        Ok(out)
    }

    /// What stands before the items and behind them, when all of them have been written.
    pub fn finish(self) -> (Vec<u8>, &'static [u8]) {
        let mut out = head(&self.version, &self.kind, self.len);
        out.extend_from_slice(&self.metadata);
        (out, TAIL)
    }
}

/// Writes the frames of a watch.
#[derive(Clone, Copy, Debug)]
pub struct WatchWriter;

impl WatchWriter {
    /// One event, whose object has `apiVersion` and `kind`: its length in four bytes, and an envelope-less `WatchEvent`.
    pub fn frame(kind: &str, object: &Value) -> Result<Vec<u8>, ProtobufError> {
        let object = encode(object)?;
        let mut raw = Vec::with_capacity(object.len() + 8);
        put_bytes(&mut raw, 1, &object);
        let mut event = vec![0; 4];
        put_bytes(&mut event, 1, kind.as_bytes());
        put_bytes(&mut event, 2, &raw);
        let len = u32::try_from(event.len() - 4).map_err(|_| ProtobufError::TooMany)?;
        event[..4].copy_from_slice(&len.to_be_bytes());
        Ok(event)
    }
}

fn fields(
    ty: TypeRef<'_>,
    object: Option<&Map<String, Value>>,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), ProtobufError> {
    if depth > MAX_DEPTH {
        return Err(ProtobufError::TooDeep);
    }
    for field in ty.fields().iter().filter(|f| f.number != 0) {
        let inner = ty.to(field.node);
        if field.is(INLINE) {
            // An embedded type is a message of its own, of the same JSON object.
            put_message(out, field.number, |out| fields(inner, object, out, depth + 1))?;
            continue;
        }
        let name = ty.table.str(field.name);
        let value = object.and_then(|o| o.get(name)).filter(|v| !v.is_null());
        put_field(name, field, inner, value, out, depth)?;
    }
    Ok(())
}

fn put_field(
    name: &str,
    field: &Field,
    ty: TypeRef<'_>,
    value: Option<&Value>,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), ProtobufError> {
    match (ty.code(), value) {
        (Code::List, Some(Value::Array(list))) => {
            list.iter().try_for_each(|v| put_value(name, field.number, ty.inner(), Some(v), out, depth))
        }
        (Code::Map, Some(Value::Object(map))) => map.iter().try_for_each(|(key, v)| {
            put_message(out, field.number, |out| {
                put_bytes(out, 1, key.as_bytes());
                put_value(name, 2, ty.inner(), Some(v), out, depth)
            })
        }),
        (Code::List | Code::Map, Some(_)) => Err(ProtobufError::Type(name.to_owned())),
        (Code::List | Code::Map, None) => Ok(()),
        (_, None) if field.is(POINTER) => Ok(()),
        // A slice with a writer of its own counts as a message, which is not there if it is empty.
        (Code::Texts, None) => Ok(()),
        (_, value) => put_value(name, field.number, ty, value, out, depth),
    }
}

/// Writes one value, or the zero of its type.
fn put_value(
    name: &str,
    number: u16,
    ty: TypeRef<'_>,
    value: Option<&Value>,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), ProtobufError> {
    let wrong = || ProtobufError::Type(name.to_owned());
    let value = value.filter(|v| !v.is_null());
    let text = || value.map_or(Ok(""), |v| v.as_str().ok_or_else(wrong));
    match ty.code() {
        Code::Text => put_bytes(out, number, text()?.as_bytes()),
        Code::Bytes => put_bytes(out, number, &bytes_of(text()?).ok_or_else(wrong)?),
        Code::Bool => put_integer(out, number, value.map_or(Ok(false), |v| v.as_bool().ok_or_else(wrong))?.into()),
        Code::Int32 | Code::Int64 => {
            put_integer(out, number, value.map_or(Ok(0), |v| v.as_i64().ok_or_else(wrong))?);
        }
        Code::Double => {
            put_key(out, number, 1);
            let n = value.map_or(Ok(0.0), |v| v.as_f64().ok_or_else(wrong))?;
            out.extend_from_slice(&n.to_bits().to_le_bytes());
        }
        code @ (Code::Time | Code::MicroTime) => {
            let time = match text()? {
                "" => None,
                text => Some(time::parse(text).ok_or_else(wrong)?),
            };
            return put_message(out, number, |out| {
                if let Some(time) = time {
                    let nanos = time.subsec_nanosecond();
                    // Fractions count forward in time.
                    let (seconds, nanos) = if nanos < 0 {
                        (time.as_second() - 1, nanos + 1_000_000_000)
                    } else {
                        (time.as_second(), nanos)
                    };
                    put_integer(out, 1, seconds);
                    put_integer(out, 2, if code == Code::Time { 0 } else { i64::from(nanos / 1000 * 1000) });
                }
                Ok(())
            });
        }
        Code::Quantity => {
            let amount = match value {
                None => Cow::Borrowed("0"),
                Some(Value::String(text)) => Cow::Borrowed(text.as_str()),
                Some(Value::Number(n)) => Cow::Owned(n.to_string()),
                Some(_) => return Err(wrong()),
            };
            return put_message(out, number, |out| {
                put_bytes(out, 1, amount.as_bytes());
                Ok(())
            });
        }
        Code::IntOrString => {
            let (kind, int, text) = match value {
                None => (0, 0, ""),
                Some(Value::String(text)) => (1, 0, text.as_str()),
                Some(v) => (0, v.as_i64().ok_or_else(wrong)?, ""),
            };
            return put_message(out, number, |out| {
                put_integer(out, 1, kind);
                put_integer(out, 2, int);
                put_bytes(out, 3, text.as_bytes());
                Ok(())
            });
        }
        Code::Raw | Code::Fields | Code::Json => {
            return put_message(out, number, |out| {
                if let Some(value) = value {
                    put_bytes(out, 1, value.to_string().as_bytes());
                }
                Ok(())
            });
        }
        Code::Texts => {
            let list = value.map_or(Ok(&[][..]), |v| v.as_array().map(Vec::as_slice).ok_or_else(wrong))?;
            return put_message(out, number, |out| {
                list.iter().try_for_each(|v| {
                    put_bytes(out, 1, v.as_str().ok_or_else(wrong)?.as_bytes());
                    Ok(())
                })
            });
        }
        Code::Struct => {
            let object = value.map_or(Ok(None), |v| v.as_object().map(Some).ok_or_else(wrong))?;
            return put_message(out, number, |out| fields(ty, object, out, depth + 1));
        }
        code @ (Code::SchemaOrArray | Code::SchemaOrBool | Code::SchemaOrStrings) => {
            return put_message(out, number, |out| put_schema(name, code, ty.inner(), value, out, depth + 1));
        }
        Code::List | Code::Map | Code::Any => return Err(wrong()),
    }
    Ok(())
}

/// The three types of schemas that JSON tells apart by what they look like.
fn put_schema(
    name: &str,
    code: Code,
    schema: TypeRef<'_>,
    value: Option<&Value>,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), ProtobufError> {
    if code == Code::SchemaOrBool {
        put_integer(out, 1, i64::from(value.is_some_and(|v| v.is_object() || *v == Value::Bool(true))));
    }
    let one = if code == Code::SchemaOrBool { 2 } else { 1 };
    match value {
        Some(Value::Object(object)) => put_message(out, one, |out| fields(schema, Some(object), out, depth)),
        Some(Value::Array(list)) => list.iter().try_for_each(|v| match v {
            Value::String(text) => {
                put_bytes(out, 2, text.as_bytes());
                Ok(())
            }
            other => put_message(out, 2, |out| fields(schema, other.as_object(), out, depth)),
        }),
        None | Some(Value::Bool(_)) => Ok(()),
        Some(_) => Err(ProtobufError::Type(name.to_owned())),
    }
}

/// The bytes that base64 stands for, line breaks skipped.
fn bytes_of(text: &str) -> Option<Vec<u8>> {
    if text.contains(['\n', '\r']) {
        return BASE64.decode(text.replace(['\n', '\r'], "")).ok();
    }
    BASE64.decode(text).ok()
}
