//! Checks of what clients send against its type, with the words of Go's decoder, which people know and search for:
//! `json: cannot unmarshal number into Go struct field ConfigMap.data of type string`. What is good is walked once, without
//! allocation; unknown fields, nulls and what Go takes for nothing go, times and amounts take the form that is stored.

use std::fmt::Write as _;

use kiln_apimachinery::json_kind;
use kiln_apimachinery::quantity::Quantity;
use serde_json::{Map, Value};

use crate::table::{ALWAYS, Code, INLINE, POINTER, TypeRef};
use crate::time;

/// Most unknown fields that are told.
const MOST: usize = 100;

/// What is not wrong enough to refuse the object.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Paths of the fields that the type has not, such as `spec.containers[0].foo`; they were dropped.
    pub unknown: Vec<String>,
}

/// Checks and cleans a value. The error is a sentence for a 400.
pub fn check(ty: TypeRef<'_>, value: &mut Value) -> Result<Findings, String> {
    let mut walk = Walk { findings: Findings::default(), silent: false };
    walk.value(ty, value, None)?;
    Ok(walk.findings)
}

/// Drops the nulls that mean absence: those of fields, at any depth, but not what is inside untyped JSON.
pub fn prune_nulls(ty: TypeRef<'_>, value: &mut Value) {
    match (ty.code(), value) {
        (Code::Struct, Value::Object(map)) => {
            map.retain(|_, v| !v.is_null());
            for (key, value) in map.iter_mut() {
                if let Some(field) = ty.json_field(key) {
                    prune_nulls(ty.to(field.node), value);
                }
            }
        }
        (Code::Map, Value::Object(map)) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(|v| prune_nulls(ty.inner(), v));
        }
        (Code::List, Value::Array(list)) => list.iter_mut().for_each(|v| prune_nulls(ty.inner(), v)),
        _ => {}
    }
}

#[derive(Clone, Copy)]
enum Step<'a> {
    /// A field of a struct.
    Field(TypeRef<'a>, &'a str),
    Index(usize),
    Key(&'a str),
}

/// Where a value stands: a step, and the path before it.
#[derive(Clone, Copy)]
struct Path<'a> {
    before: Option<&'a Path<'a>>,
    step: Step<'a>,
}

impl<'a> Path<'a> {
    fn steps(self) -> Vec<Step<'a>> {
        let mut out = vec![self.step];
        let mut at = self.before;
        while let Some(path) = at {
            out.push(path.step);
            at = path.before;
        }
        out.reverse();
        out
    }

    /// As the strict decoder writes it: `spec.containers[0].name`.
    fn strict(self) -> String {
        let mut out = String::new();
        for step in self.steps() {
            match step {
                Step::Field(_, name) | Step::Key(name) => {
                    if !out.is_empty() {
                        out.push('.');
                    }
                    out.push_str(name);
                }
                // Writing into a String does not fail.
                Step::Index(at) => drop(write!(out, "[{at}]")),
            }
        }
        out
    }

    /// As the errors of Go write it: the innermost struct, and the fields from the outermost on, embedded types among them.
    fn go(self) -> String {
        let (mut owner, mut fields) = (String::new(), String::new());
        for step in self.steps() {
            if let Step::Field(ty, name) = step {
                owner = go_name(ty.name()).to_owned();
                embedded(ty, name, &mut fields);
                fields.push('.');
                fields.push_str(name);
            }
        }
        owner + &fields
    }
}

/// Adds the names of the embedded types through which a struct has a field.
fn embedded(ty: TypeRef<'_>, name: &str, out: &mut String) {
    if ty.fields().iter().any(|f| !f.is(INLINE) && ty.table.str(f.name) == name) {
        return;
    }
    let inner = ty.fields().iter().filter(|f| f.is(INLINE)).map(|f| (f.name, ty.to(f.node)));
    for (text, inner) in inner.filter(|(_, inner)| inner.json_field(name).is_some()) {
        out.push('.');
        out.push_str(ty.table.str(text));
        embedded(inner, name, out);
    }
}

/// `PodSpec` of `core.v1.PodSpec`.
fn go_name(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// A type as Go writes it.
fn go_type(ty: TypeRef<'_>) -> String {
    let node = ty.record();
    let said = ty.table.str(node.go);
    if !said.is_empty() {
        return said.to_owned();
    }
    match node.code {
        Code::Bool => "bool".into(),
        Code::Int32 => "int32".into(),
        Code::Int64 => "int64".into(),
        Code::Double => "float64".into(),
        Code::Bytes => "[]uint8".into(),
        Code::List => format!("[]{}", go_type(ty.inner())),
        Code::Map => format!("map[string]{}", go_type(ty.inner())),
        // Without the group.
        Code::Struct => ty.name().split_once('.').map_or(ty.name(), |(_, name)| name).to_owned(),
        Code::Time => "v1.Time".into(),
        Code::MicroTime => "v1.MicroTime".into(),
        Code::Quantity => "resource.Quantity".into(),
        Code::IntOrString => "intstr.IntOrString".into(),
        _ => "string".into(),
    }
}

fn mismatch(found: &str, ty: TypeRef<'_>, path: Option<Path<'_>>) -> String {
    match path {
        Some(path) => {
            format!("json: cannot unmarshal {found} into Go struct field {} of type {}", path.go(), go_type(ty))
        }
        None => format!("json: cannot unmarshal {found} into Go value of type {}", go_type(ty)),
    }
}

struct Walk {
    findings: Findings,
    /// Unknown fields are not told here.
    silent: bool,
}

impl Walk {
    fn value(&mut self, ty: TypeRef<'_>, value: &mut Value, path: Option<Path<'_>>) -> Result<(), String> {
        match (ty.code(), &mut *value) {
            (Code::Struct, Value::Object(map)) => self.fields(ty, map, path),
            (Code::Map, Value::Object(map)) => {
                let inner = ty.inner();
                for (key, value) in map.iter_mut() {
                    let path = Path { before: path.as_ref(), step: Step::Key(key) };
                    self.element(inner, value, path)?;
                }
                Ok(())
            }
            (Code::List, Value::Array(list)) => {
                let inner = ty.inner();
                for (at, value) in list.iter_mut().enumerate() {
                    let path = Path { before: path.as_ref(), step: Step::Index(at) };
                    self.element(inner, value, path)?;
                }
                Ok(())
            }
            (Code::Texts, Value::Array(list)) => match list.iter().find(|v| !v.is_string()) {
                Some(odd) => {
                    let found = json_kind(odd);
                    let go = path.map(Path::go).unwrap_or_default();
                    Err(format!("json: cannot unmarshal {found} into Go struct field {go} of type string"))
                }
                None => Ok(()),
            },
            (Code::Text, Value::String(_)) | (Code::Bool, Value::Bool(_)) | (Code::Double, Value::Number(_)) => Ok(()),
            (Code::Int32, Value::Number(n)) if n.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => Ok(()),
            (Code::Int64, Value::Number(n)) if n.is_i64() => Ok(()),
            (Code::Int32 | Code::Int64, Value::Number(n)) => Err(mismatch(&format!("number {n}"), ty, path)),
            (Code::Bytes, Value::String(text)) => match base64_fault(text.as_bytes()) {
                Some(at) => Err(format!("illegal base64 data at input byte {at}")),
                None => Ok(()),
            },
            (Code::Raw | Code::Fields | Code::Json | Code::Any, _) => Ok(()),
            (code, _) => self.special(code, ty, value, path),
        }
    }

    /// The types with decoders of their own.
    fn special(
        &mut self,
        code: Code,
        ty: TypeRef<'_>,
        value: &mut Value,
        path: Option<Path<'_>>,
    ) -> Result<(), String> {
        let plain = |value: &Value, ty: &str| {
            Err(format!("json: cannot unmarshal {} into Go value of type {ty}", json_kind(value)))
        };
        match code {
            Code::Time | Code::MicroTime => {
                let Value::String(text) = &*value else { return plain(value, "string") };
                let read = if code == Code::Time { time::seconds(text)? } else { time::micros(text)? };
                if let std::borrow::Cow::Owned(text) = read {
                    *value = text.into();
                }
                Ok(())
            }
            Code::Quantity => {
                let read = Quantity::from_value(value).map_err(|e| e.to_string())?;
                if !value.as_str().is_some_and(|text| is_written(read, text)) {
                    *value = read.to_string().into();
                }
                Ok(())
            }
            Code::IntOrString => match &*value {
                Value::String(_) => Ok(()),
                Value::Number(n) if n.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => Ok(()),
                Value::Number(n) => Err(format!("json: cannot unmarshal number {n} into Go value of type int32")),
                other => plain(other, "int32"),
            },
            Code::SchemaOrBool if value.is_boolean() => Ok(()),
            Code::SchemaOrBool if !value.is_object() => Err("boolean or JSON schema expected".into()),
            Code::SchemaOrArray | Code::SchemaOrBool | Code::SchemaOrStrings => self.schema(code, ty.inner(), value),
            _ => Err(mismatch(json_kind(value), ty, path)),
        }
    }

    /// A schema, or a list. Decoders of their own begin a path of their own and do not tell unknown fields.
    fn schema(&mut self, code: Code, schema: TypeRef<'_>, value: &mut Value) -> Result<(), String> {
        let before = std::mem::replace(&mut self.silent, true);
        let result = match value {
            Value::Object(map) => self.fields(schema, map, None),
            Value::Array(list) if code == Code::SchemaOrArray => {
                list.iter_mut().try_for_each(|v| self.value(schema, v, None))
            }
            _ => Ok(()),
        };
        self.silent = before;
        result
    }

    /// An element of a list or map, where null is the zero of its type.
    fn element(&mut self, ty: TypeRef<'_>, value: &mut Value, path: Path<'_>) -> Result<(), String> {
        if value.is_null() {
            *value = match ty.code() {
                Code::Text | Code::Bytes => "".into(),
                Code::Bool => false.into(),
                Code::Int32 | Code::Int64 | Code::Double | Code::IntOrString => 0.into(),
                Code::Quantity => "0".into(),
                Code::Struct => Map::new().into(),
                _ => Value::Null,
            };
            return Ok(());
        }
        self.value(ty, value, Some(path))
    }

    fn fields(&mut self, ty: TypeRef<'_>, map: &mut Map<String, Value>, path: Option<Path<'_>>) -> Result<(), String> {
        let mut result = Ok(());
        map.retain(|key, value| {
            if result.is_err() {
                return true;
            }
            let path = Path { before: path.as_ref(), step: Step::Field(ty, key) };
            match ty.json_field(key) {
                Some(_) if value.is_null() => false,
                Some(field) => {
                    let ty = ty.to(field.node);
                    result = self.value(ty, value, Some(path));
                    field.is(POINTER | ALWAYS) || !is_zero(ty, value)
                }
                None => {
                    if !self.silent && self.findings.unknown.len() < MOST {
                        self.findings.unknown.push(path.strict());
                    }
                    false
                }
            }
        });
        result
    }
}

/// True for what Go does not tell from absence, and leaves out where the field is neither a pointer nor always written.
fn is_zero(ty: TypeRef<'_>, value: &Value) -> bool {
    match (ty.code(), value) {
        (Code::Text | Code::Bytes, Value::String(text)) => text.is_empty(),
        (Code::Bool, Value::Bool(yes)) => !yes,
        (Code::Int32 | Code::Int64 | Code::Double, Value::Number(n)) => n.as_f64() == Some(0.0),
        (Code::List | Code::Texts, Value::Array(list)) => list.is_empty(),
        (Code::Map, Value::Object(map)) => map.is_empty(),
        _ => false,
    }
}

/// True if this text is how the amount is written, told without writing it.
fn is_written(amount: Quantity, text: &str) -> bool {
    struct Rest<'a>(&'a str);
    impl std::fmt::Write for Rest<'_> {
        fn write_str(&mut self, part: &str) -> std::fmt::Result {
            self.0 = self.0.strip_prefix(part).ok_or(std::fmt::Error)?;
            Ok(())
        }
    }
    let mut rest = Rest(text);
    write!(rest, "{amount}").is_ok() && rest.0.is_empty()
}

/// The byte at which Go's decoder gives up on base64; line breaks are skipped.
fn base64_fault(text: &[u8]) -> Option<usize> {
    let is_break = |b: u8| matches!(b, b'\n' | b'\r');
    let skip = |mut at: usize| {
        while text.get(at).is_some_and(|b| is_break(*b)) {
            at += 1;
        }
        at
    };
    // How many of a group of four there are.
    let mut group = 0;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => group = (group + 1) % 4,
            b'\n' | b'\r' => {}
            b'=' if group >= 2 => {
                let mut end = skip(at + 1);
                if group == 2 {
                    if text.get(end) != Some(&b'=') {
                        return Some(end);
                    }
                    end = skip(end + 1);
                }
                return (end < text.len()).then_some(end);
            }
            _ => return Some(at),
        }
    }
    (group > 0).then(|| text.len() - group)
}

#[cfg(test)]
mod tests;
