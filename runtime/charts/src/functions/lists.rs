//! sprig's functions of lists.

use super::strings::strings;
use super::{Made, at_least, exactly, int, size, text};
use crate::value::Value;

pub(super) fn find(name: &str) -> Option<fn(&[Value]) -> Made> {
    Some(match name {
        "list" | "tuple" => |given| Ok(Value::list(given.to_vec())),
        "first" | "mustFirst" => |given| Ok(items("first", given)?.first().cloned().unwrap_or(Value::Nil)),
        "last" | "mustLast" => |given| Ok(items("last", given)?.last().cloned().unwrap_or(Value::Nil)),
        "rest" | "mustRest" => |given| {
            let items = items("rest", given)?;
            Ok(if items.is_empty() { Value::Nil } else { Value::list(items[1..].to_vec()) })
        },
        "initial" | "mustInitial" => |given| {
            let items = items("initial", given)?;
            Ok(if items.is_empty() { Value::Nil } else { Value::list(items[..items.len() - 1].to_vec()) })
        },
        "append" | "push" | "mustAppend" | "mustPush" => |given| {
            let [what, item] = exactly::<2>(given)?;
            let mut items = listed("push on", what)?.to_vec();
            items.push(item.clone());
            Ok(Value::list(items))
        },
        "prepend" | "mustPrepend" => |given| {
            let [what, item] = exactly::<2>(given)?;
            let mut items = vec![item.clone()];
            items.extend_from_slice(listed("prepend on", what)?);
            Ok(Value::list(items))
        },
        "reverse" | "mustReverse" => |given| Ok(Value::list(items("reverse", given)?.iter().rev().cloned().collect())),
        "uniq" | "mustUniq" => |given| {
            let mut found: Vec<Value> = Vec::new();
            for item in items("uniq", given)? {
                if !found.iter().any(|known| known.equals(item)) {
                    found.push(item.clone());
                }
            }
            Ok(Value::list(found))
        },
        "without" | "mustWithout" => |given| {
            let given = at_least(given, 1)?;
            let left = listed("without", &given[0])?.iter();
            let left = left.filter(|item| !given[1..].iter().any(|other| other.equals(item)));
            Ok(Value::list(left.cloned().collect()))
        },
        "has" | "mustHas" => |given| {
            let [item, what] = exactly::<2>(given)?;
            if matches!(what, Value::Nil) {
                return Ok(Value::Bool(false));
            }
            Ok(Value::Bool(listed("has", what)?.iter().any(|known| known.equals(item))))
        },
        "compact" | "mustCompact" => {
            |given| Ok(Value::list(items("compact", given)?.iter().filter(|item| item.is_true()).cloned().collect()))
        }
        "slice" | "mustSlice" => slice,
        "concat" => |given| {
            let mut all = Vec::new();
            for value in given {
                all.extend_from_slice(listed("concat", value)?);
            }
            Ok(Value::list(all))
        },
        "chunk" | "mustChunk" => |given| {
            let [count, what] = exactly::<2>(given)?;
            let chunks = listed("chunk", what)?.chunks(size(count)?.max(1));
            Ok(Value::list(chunks.map(|chunk| Value::list(chunk.to_vec())).collect()))
        },
        _ => return None,
    })
}

fn listed<'a>(what: &str, value: &'a Value) -> Result<&'a [Value], String> {
    match value {
        Value::List(items) => Ok(items),
        other => Err(format!("Cannot {what} type {}", kind(other))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nil",
        other => other.kind(),
    }
}

fn items<'a>(what: &str, given: &'a [Value]) -> Result<&'a [Value], String> {
    let [value] = exactly::<1>(given)?;
    listed(&format!("find {what} on"), value)
}

/// A list's part. Of a text too, as text/template's own.
fn slice(given: &[Value]) -> Made {
    let given = at_least(given, 1)?;
    let length = match &given[0] {
        Value::Str(text) => text.len(),
        other => listed("slice", other)?.len(),
    };
    let bound = |at: usize, otherwise: usize| {
        given.get(at).map_or(Ok(otherwise), |value| {
            let bound = int(value)?;
            let within = usize::try_from(bound).ok().filter(|bound| *bound <= length);
            within.ok_or_else(|| format!("index out of range: {bound}"))
        })
    };
    let (from, to) = (bound(1, 0)?, bound(2, length)?);
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    match &given[0] {
        Value::Str(whole) => Ok(Value::str(String::from_utf8_lossy(&whole.as_bytes()[from..to]))),
        other => Ok(Value::list(listed("slice", other)?[from..to].to_vec())),
    }
}

/// The texts in a list, for those who want nothing else.
pub(super) fn texts(value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::List(_) | Value::Nil => Ok(strings(value)),
        other => text(other).map(|text| vec![text.to_owned()]),
    }
}
