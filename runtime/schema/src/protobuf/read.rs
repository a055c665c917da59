//! Bytes into objects.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kiln_apimachinery::time;
use serde_json::{Map, Number, Value};

use super::wire::{Fields, Item};
use super::{MAGIC, MAX_DEPTH, ProtobufError};
use crate::lookup;
use crate::table::{ALWAYS, Code, Field, INLINE, POINTER, TypeRef};

/// Most values that a body may unfold into. A few bytes can stand for an object of some hundred, so that the size of the body
/// is no bound.
const MAX_VALUES: usize = 400_000;

/// Reads a body into the object it stands for, with `apiVersion` and `kind`.
pub fn decode(body: &[u8]) -> Result<Value, ProtobufError> {
    Reader { left: MAX_VALUES }.envelope(body, 0)
}

struct Reader {
    /// Values that may still come.
    left: usize,
}

fn text(name: &str, bytes: &[u8]) -> Result<String, ProtobufError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(ProtobufError::Text(name.to_owned())),
    }
}

impl Reader {
    fn envelope(&mut self, body: &[u8], depth: usize) -> Result<Value, ProtobufError> {
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
        let ty =
            lookup(&version, &kind).ok_or_else(|| ProtobufError::UnknownKind(format!("{version}, Kind={kind}")))?;
        let mut object = Map::new();
        object.insert("apiVersion".into(), version.into());
        object.insert("kind".into(), kind.into());
        self.message(ty, raw, &mut object, depth)?;
        Ok(Value::Object(object))
    }

    /// Counts one more value.
    fn count(&mut self) -> Result<(), ProtobufError> {
        self.left = self.left.checked_sub(1).ok_or(ProtobufError::TooMany)?;
        Ok(())
    }

    /// Reads a message's fields into `out`.
    fn message(
        &mut self,
        ty: TypeRef<'_>,
        bytes: &[u8],
        out: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), ProtobufError> {
        if depth > MAX_DEPTH {
            return Err(ProtobufError::TooDeep);
        }
        let fields = ty.fields();
        // Fields come in order of their numbers, as a rule.
        let mut at = 0;
        for item in Fields(bytes) {
            let (number, item) = item?;
            if fields.get(at).is_none_or(|f| u32::from(f.number) != number) {
                match fields.iter().position(|f| f.number != 0 && u32::from(f.number) == number) {
                    Some(found) => at = found,
                    None => continue,
                }
            }
            self.field(ty, &fields[at], item, out, depth)?;
            let repeated = matches!(ty.to(fields[at].node).code(), Code::List | Code::Map);
            at += usize::from(!repeated);
        }
        Ok(())
    }

    fn field(
        &mut self,
        of: TypeRef<'_>,
        field: &Field,
        item: Item<'_>,
        out: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), ProtobufError> {
        let (ty, name) = (of.to(field.node), of.table.str(field.name));
        self.count()?;
        match (ty.code(), item) {
            (Code::Struct, Item::Bytes(bytes)) if field.is(INLINE) => self.message(ty, bytes, out, depth + 1),
            (Code::Map, Item::Bytes(entry)) => {
                let (key, value) = self.entry(name, ty.inner(), entry, depth)?;
                if let Value::Object(map) = out.entry(name).or_insert_with(|| Value::Object(Map::new())) {
                    map.insert(key, value);
                }
                Ok(())
            }
            (Code::List, item) => {
                let Value::Array(list) = out.entry(name).or_insert_with(|| Value::Array(Vec::new())) else {
                    return Err(ProtobufError::Malformed);
                };
                match (ty.inner().code(), item) {
                    // Numbers may be packed.
                    (Code::Int32 | Code::Int64, Item::Bytes(bytes)) => {
                        let mut numbers = Fields(bytes);
                        while !numbers.0.is_empty() {
                            self.count()?;
                            list.push(numbers.varint().ok_or(ProtobufError::Malformed)?.cast_signed().into());
                        }
                    }
                    _ => list.push(self.value(name, ty.inner(), item, depth)?),
                }
                Ok(())
            }
            // A message that comes in several parts is one.
            (Code::Struct, Item::Bytes(bytes)) if out.get(name).is_some_and(Value::is_object) => {
                match out.get_mut(name) {
                    Some(Value::Object(known)) => self.message(ty, bytes, known, depth + 1),
                    _ => Ok(()),
                }
            }
            (_, item) => {
                let value = self.value(name, ty, item, depth)?;
                if counts(field, &value) {
                    out.insert(name.to_owned(), value);
                }
                Ok(())
            }
        }
    }

    fn entry(
        &mut self,
        name: &str,
        ty: TypeRef<'_>,
        entry: &[u8],
        depth: usize,
    ) -> Result<(String, Value), ProtobufError> {
        let (mut key, mut found) = (String::new(), None);
        for item in Fields(entry) {
            match item? {
                (1, Item::Bytes(bytes)) => key = text(name, bytes)?,
                (2, item) => found = Some(self.value(name, ty, item, depth)?),
                _ => {}
            }
        }
        let absent = || match ty.code() {
            Code::Text | Code::Bytes => "".into(),
            Code::Quantity => "0".into(),
            Code::Struct => Map::new().into(),
            _ => Value::Null,
        };
        Ok((key, found.unwrap_or_else(absent)))
    }

    fn value(&mut self, name: &str, ty: TypeRef<'_>, item: Item<'_>, depth: usize) -> Result<Value, ProtobufError> {
        Ok(match (ty.code(), item) {
            (Code::Text, Item::Bytes(b)) => text(name, b)?.into(),
            (Code::Bytes, Item::Bytes(b)) => STANDARD.encode(b).into(),
            (Code::Bool, Item::Integer(n)) => (n != 0).into(),
            // Go keeps the lower half.
            (Code::Int32, Item::Integer(n)) => (n as i32).into(),
            (Code::Int64, Item::Integer(n)) => n.into(),
            (Code::Double, Item::Fixed64(n)) => double(f64::from_bits(n)),
            (Code::Time, Item::Bytes(b)) => match timestamp(b)? {
                Some((seconds, _)) => time::rfc3339(moment(seconds, 0)?).into(),
                None => Value::Null,
            },
            (Code::MicroTime, Item::Bytes(b)) => match timestamp(b)? {
                Some((seconds, nanos)) => time::rfc3339_micro(moment(seconds, nanos / 1000 * 1000)?).into(),
                None => Value::Null,
            },
            (Code::Quantity, Item::Bytes(b)) => match first(b)? {
                [] => "0".into(),
                amount => text(name, amount)?.into(),
            },
            (Code::IntOrString, Item::Bytes(b)) => int_or_string(name, b)?,
            (Code::Raw | Code::Fields | Code::Json, Item::Bytes(b)) => {
                let raw = first(b)?;
                if raw.starts_with(MAGIC) {
                    if depth >= MAX_DEPTH {
                        return Err(ProtobufError::TooDeep);
                    }
                    self.envelope(raw, depth + 1)?
                } else if raw.is_empty() {
                    Value::Null
                } else {
                    serde_json::from_slice(raw).map_err(|_| ProtobufError::Malformed)?
                }
            }
            (Code::Texts, Item::Bytes(b)) => {
                let mut list = Vec::new();
                for item in Fields(b) {
                    if let (1, Item::Bytes(b)) = item? {
                        self.count()?;
                        list.push(Value::String(text(name, b)?));
                    }
                }
                list.into()
            }
            (Code::Struct, Item::Bytes(b)) => {
                let mut out = Map::new();
                self.message(ty, b, &mut out, depth + 1)?;
                out.into()
            }
            (Code::SchemaOrArray | Code::SchemaOrBool | Code::SchemaOrStrings, Item::Bytes(b)) => {
                self.schema(name, ty, b, depth)?
            }
            _ => return Err(ProtobufError::Malformed),
        })
    }

    /// The three types of schemas that JSON tells apart by what they look like.
    fn schema(&mut self, name: &str, ty: TypeRef<'_>, bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
        let (schema, code) = (ty.inner(), ty.code());
        let (mut one, mut list, mut allows) = (None, Vec::new(), false);
        for item in Fields(bytes) {
            self.count()?;
            match (code, item?) {
                (Code::SchemaOrBool, (1, Item::Integer(n))) => allows = n != 0,
                (Code::SchemaOrBool, (2, item)) | (_, (1, item)) => {
                    one = Some(self.value(name, schema, item, depth + 1)?)
                }
                (Code::SchemaOrArray, (2, item)) => list.push(self.value(name, schema, item, depth + 1)?),
                (Code::SchemaOrStrings, (2, Item::Bytes(b))) => list.push(text(name, b)?.into()),
                _ => {}
            }
        }
        Ok(match (list.is_empty(), one) {
            (false, _) => list.into(),
            (true, Some(one)) => one,
            (true, None) if code == Code::SchemaOrBool => allows.into(),
            (true, None) => Value::Null,
        })
    }
}

/// True if a value stands in JSON. Go writes the zero of every field that is no pointer, where JSON has nothing, but for
/// scalars that JSON always has.
fn counts(field: &Field, value: &Value) -> bool {
    match value {
        Value::Null => false,
        _ if field.is(POINTER) => true,
        Value::Bool(false) => field.is(ALWAYS),
        Value::Number(n) if n.as_f64() == Some(0.0) => field.is(ALWAYS),
        Value::String(s) if s.is_empty() => field.is(ALWAYS),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    }
}

/// Whole numbers are written as such, as JSON does.
fn double(n: f64) -> Value {
    let whole = n as i64;
    // Both sides are exact below 2^53.
    if whole as f64 == n && whole.unsigned_abs() < 1 << 53 {
        return whole.into();
    }
    Number::from_f64(n).map_or(Value::Null, Value::Number)
}

/// Seconds and nanoseconds; nothing for no time.
fn timestamp(bytes: &[u8]) -> Result<Option<(i64, i32)>, ProtobufError> {
    let (mut seconds, mut nanos) = (0, 0);
    for item in Fields(bytes) {
        match item? {
            (1, Item::Integer(n)) => seconds = n,
            (2, Item::Integer(n)) => nanos = i32::try_from(n).map_err(|_| ProtobufError::Malformed)?,
            _ => {}
        }
    }
    Ok((!bytes.is_empty()).then_some((seconds, nanos)))
}

fn moment(seconds: i64, nanos: i32) -> Result<Timestamp, ProtobufError> {
    Timestamp::new(seconds, nanos).map_err(|_| ProtobufError::Malformed)
}

/// The bytes of a message's only field.
fn first(bytes: &[u8]) -> Result<&[u8], ProtobufError> {
    for item in Fields(bytes) {
        if let (1, Item::Bytes(b)) = item? {
            return Ok(b);
        }
    }
    Ok(&[])
}

/// A number or a string. Zero as a number is what Go writes for nothing, and what counts as nothing.
fn int_or_string(name: &str, bytes: &[u8]) -> Result<Value, ProtobufError> {
    let (mut is_text, mut number, mut string) = (false, 0, String::new());
    for item in Fields(bytes) {
        match item? {
            (1, Item::Integer(n)) => is_text = n == 1,
            (2, Item::Integer(n)) => number = n as i32,
            (3, Item::Bytes(b)) => string = text(name, b)?,
            _ => {}
        }
    }
    Ok(if is_text { string.into() } else { number.into() })
}
