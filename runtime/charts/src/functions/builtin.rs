//! text/template's own functions.

use std::cmp::Ordering;

use super::format::{sprint, sprintf};
use super::{Made, at_least, exactly, text};
use crate::value::{Object, Value};

pub(super) fn find(name: &str) -> Option<fn(&[Value]) -> Made> {
    Some(match name {
        "eq" => eq,
        "ne" => |given| Ok(Value::Bool(!is_equal(&exactly::<2>(given)?[0], &given[1])?)),
        "lt" => |given| order(given, |order| order == Ordering::Less),
        "le" => |given| order(given, |order| order != Ordering::Greater),
        "gt" => |given| order(given, |order| order == Ordering::Greater),
        "ge" => |given| order(given, |order| order != Ordering::Less),
        "not" => |given| Ok(Value::Bool(!exactly::<1>(given)?[0].is_true())),
        "len" => len,
        "index" => index,
        "print" => |given| Ok(Value::str(sprint(given))),
        "println" => |given| {
            let texts: Vec<String> = given.iter().map(Value::to_string).collect();
            Ok(Value::str(texts.join(" ") + "\n"))
        },
        "printf" => |given| Ok(Value::str(sprintf(text(&at_least(given, 1)?[0])?, &given[1..]))),
        "html" => |given| Ok(Value::str(html(&sprint(given)))),
        "js" => |given| Ok(Value::str(js(&sprint(given)))),
        "urlquery" => |given| Ok(Value::str(urlquery(&sprint(given)))),
        "call" => |_| Err("no value here is a function".to_owned()),
        _ => return None,
    })
}

/// What values of a kind can be compared with.
#[derive(PartialEq, Clone, Copy)]
enum Basic {
    Bool,
    Int,
    Float,
    Text,
    Other,
}

fn basic(value: &Value) -> Basic {
    match value {
        Value::Bool(_) => Basic::Bool,
        Value::Int(_) => Basic::Int,
        Value::Float(_) => Basic::Float,
        Value::Str(_) => Basic::Text,
        _ => Basic::Other,
    }
}

fn incompatible(a: &Value, b: &Value) -> String {
    format!("incompatible types for comparison: {} and {}", a.type_name(), b.type_name())
}

fn is_equal(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Nil, _) | (_, Value::Nil) => Ok(matches!((a, b), (Value::Nil, Value::Nil))),
        _ if basic(a) != basic(b) => Err(incompatible(a, b)),
        _ if basic(a) == Basic::Other => {
            Err(format!("non-comparable types {a}: {}, {}: {b}", a.type_name(), b.type_name()))
        }
        _ => Ok(a.equals(b)),
    }
}

fn eq(given: &[Value]) -> Made {
    let given = at_least(given, 1)?;
    if given.len() == 1 {
        return Err("missing argument for comparison".to_owned());
    }
    for other in &given[1..] {
        if is_equal(&given[0], other)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn order(given: &[Value], holds: fn(Ordering) -> bool) -> Made {
    let [a, b] = exactly::<2>(given)?;
    let order = match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::Str(a), Value::Str(b)) => Some(a.cmp(b)),
        _ if basic(a) == Basic::Other
            || basic(b) == Basic::Other
            || matches!((a, b), (Value::Bool(_), Value::Bool(_))) =>
        {
            return Err("invalid type for comparison".to_owned());
        }
        _ => return Err(incompatible(a, b)),
    };
    Ok(Value::Bool(order.is_some_and(holds)))
}

fn len(given: &[Value]) -> Made {
    let [value] = exactly::<1>(given)?;
    let length = match value {
        Value::Str(text) => text.len(),
        Value::List(items) => items.len(),
        Value::Map(map) => map.borrow().len(),
        Value::Nil => return Err("len of nil pointer".to_owned()),
        Value::Object(object) => match &**object {
            Object::Files(files) => files.len(),
            Object::Versions(versions) => versions.len(),
            _ => return Err(format!("len of type {}", value.type_name())),
        },
        _ => return Err(format!("len of type {}", value.type_name())),
    };
    Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
}

fn index(given: &[Value]) -> Made {
    let mut value = at_least(given, 1)?[0].clone();
    if matches!(value, Value::Nil) {
        return Err("index of untyped nil".to_owned());
    }
    for key in &given[1..] {
        value = match (&value, key) {
            (Value::Nil, _) => return Err("index of nil pointer".to_owned()),
            (Value::Map(map), Value::Str(key)) => map.borrow().get(key).cloned().unwrap_or(Value::Nil),
            (Value::Map(_), Value::Nil) => return Err("value is nil; should be of type string".to_owned()),
            (Value::Map(_), key) => return Err(format!("value has type {}; should be string", key.type_name())),
            (Value::List(items), Value::Int(at)) => {
                let found = usize::try_from(*at).ok().and_then(|at| items.get(at));
                found.cloned().ok_or_else(|| format!("index out of range: {at}"))?
            }
            (Value::Str(text), Value::Int(at)) => {
                let found = usize::try_from(*at).ok().and_then(|at| text.as_bytes().get(at));
                Value::Int(i64::from(*found.ok_or_else(|| format!("index out of range: {at}"))?))
            }
            (Value::List(_) | Value::Str(_), Value::Nil) => return Err("cannot index slice/array with nil".to_owned()),
            (Value::List(_) | Value::Str(_), key) => {
                return Err(format!("cannot index slice/array with type {}", key.type_name()));
            }
            (other, _) => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(value)
}

fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\0' => out.push('\u{fffd}'),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
    out
}

fn js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", c as u32)),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

/// `url.QueryEscape`
pub(super) fn urlquery(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
