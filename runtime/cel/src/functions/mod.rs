//! Operators and functions: those of CEL itself, and the way to those of the libraries.

mod text;

use std::sync::Arc;

use kiln_apimachinery::duration;
use regex_lite::Regex;
use text::text;

use crate::eval::{EvalError, Run, no_overload};
use crate::libraries;
use crate::value::Value;

type Result<T> = std::result::Result<T, EvalError>;

/// Longest list or text that an expression may make by adding up.
const LONGEST: usize = 3 * 1024 * 1024;

/// A type by its name.
pub(crate) fn type_named(name: &str) -> Option<Value<'static>> {
    const TYPES: [&str; 11] =
        ["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type", "dyn"];
    TYPES.iter().find(|t| **t == name).map(|t| Value::Type(t))
}

/// The name of a function that is written with dots, such as `optional.of`.
pub(crate) fn qualified(target: &str, name: &str) -> Option<&'static str> {
    const NAMES: [&str; 10] = [
        "optional.of",
        "optional.none",
        "optional.ofNonZeroValue",
        "sets.contains",
        "sets.equivalent",
        "sets.intersects",
        "ip.isCanonical",
        "format.named",
        "strings.quote",
        "jsonpatch.escapeKey",
    ];
    let whole = format!("{target}.{name}");
    NAMES.iter().chain(libraries::FORMATS.iter()).find(|n| **n == whole).copied()
}

/// What is at an index or key.
pub(crate) fn index<'a>(of: &Value<'a>, at: &Value<'a>, optional: bool) -> Result<Value<'a>> {
    let wrap = |value: Option<Value<'a>>| Value::Optional(value.map(Arc::new));
    if let Value::Optional(inner) = of {
        return match inner {
            Some(inner) => index(inner, at, true),
            None => Ok(Value::Optional(None)),
        };
    }
    let found = match (of, at) {
        (_, Value::Text(key)) => of.member(key).transpose()?,
        _ => match (of.items(), of.entries()) {
            (Some(items), _) => match whole(at) {
                Some(n) => usize::try_from(n).ok().and_then(|n| items.get(n).cloned()),
                None => return Err(no_overload("_[_]", &[of.clone(), at.clone()])),
            },
            (_, Some(entries)) => entries.into_iter().find(|(k, _)| k.equals(at)).map(|(_, v)| v),
            _ => return Err(no_overload("_[_]", &[of.clone(), at.clone()])),
        },
    };
    if optional {
        return Ok(wrap(found));
    }
    found.ok_or_else(|| match at {
        Value::Text(key) => EvalError::new(format!("no such key: {}", &**key)),
        at => EvalError::new(format!("index out of bounds: {}", whole(at).unwrap_or_default())),
    })
}

fn whole(value: &Value<'_>) -> Option<i64> {
    match value {
        Value::Int(n) => Some(*n),
        Value::Uint(n) => i64::try_from(*n).ok(),
        // A number that JSON has as 1.0 is one.
        Value::Double(n) if n.fract() == 0.0 => Some(*n as i64),
        _ => None,
    }
}

/// A tenth of a size, which is what looking through it costs.
pub(crate) fn walk(value: &Value<'_>) -> u64 {
    value.size().unwrap_or(1).div_ceil(10)
}

fn price(name: &str, values: &[Value<'_>]) -> u64 {
    let first = values.first();
    let of = |at: usize| values.get(at).map_or(1, walk);
    match name {
        "contains" => 1 + of(0) * of(1),
        "matches" | "find" | "findAll" => {
            1 + of(0).max(1) * values.get(1).and_then(Value::size).unwrap_or(1).div_ceil(4)
        }
        "_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_" => 1 + of(0).min(of(1)),
        "_+_" => 1 + of(0) + of(1),
        "@in" => 1 + values.get(1).and_then(Value::size).unwrap_or(1),
        "startsWith" | "endsWith" => 1 + of(1),
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" | "distinct" | "sort" | "flatten" => {
            1 + first.and_then(Value::size).unwrap_or(1)
        }
        "split" | "replace" | "join" | "lowerAscii" | "upperAscii" | "trim" | "substring" | "url" | "isURL"
        | "string" | "bytes" | "quantity" | "isQuantity" | "ip" | "isIP" | "cidr" | "isCIDR" | "format" | "reverse" => {
            1 + of(0)
        }
        "sets.contains" | "sets.equivalent" | "sets.intersects" => {
            1 + first.and_then(Value::size).unwrap_or(1) * values.get(1).and_then(Value::size).unwrap_or(1)
        }
        "check" => 350_000,
        _ => 1,
    }
}

/// Calls a function; the target of a method is the first value.
pub(crate) fn call<'a: 'v, 'v>(
    run: &mut Run<'a, 'v>,
    name: &str,
    values: Vec<Value<'a>>,
    method: bool,
) -> Result<Value<'a>> {
    run.pay(price(name, &values))?;
    match operator(name, &values) {
        Some(result) => return result,
        None if name.starts_with('_') || name.starts_with('@') => return Err(no_overload(name, &values)),
        None => {}
    }
    let done = if method { text(name, &values) } else { convert(name, &values) };
    if let Some(result) = done {
        return result;
    }
    if let Some(result) = libraries::call(run.host(), name, &values, method) {
        return result;
    }
    Err(no_overload(name, &values))
}

fn overflow(what: &str) -> EvalError {
    EvalError::new(format!("{what} overflow"))
}

fn operator<'a>(name: &str, values: &[Value<'a>]) -> Option<Result<Value<'a>>> {
    use Value::{Bool, Double, Duration, Int, Text, Time, Uint};
    let ordered = |holds: fn(std::cmp::Ordering) -> bool| {
        let [a, b] = values else { return None };
        match a.compare(b) {
            Some(order) => Some(Ok(Bool(holds(order)))),
            // Nothing is smaller or larger than what is no number.
            None if matches!((a, b), (Double(_), _) | (_, Double(_))) => Some(Ok(Bool(false))),
            None => None,
        }
    };
    let number = |n: Option<i64>, kind: &str| Some(n.map(Int).ok_or_else(|| overflow(kind)));
    let unsigned = |n: Option<u64>| Some(n.map(Uint).ok_or_else(|| overflow("unsigned integer")));
    Some(match (name, values) {
        ("_==_", [a, b]) => Ok(Bool(a.equals(b))),
        ("_!=_", [a, b]) => Ok(Bool(!a.equals(b))),
        ("_<_", _) => return ordered(std::cmp::Ordering::is_lt),
        ("_<=_", _) => return ordered(std::cmp::Ordering::is_le),
        ("_>_", _) => return ordered(std::cmp::Ordering::is_gt),
        ("_>=_", _) => return ordered(std::cmp::Ordering::is_ge),
        ("!_", [Bool(yes)]) => Ok(Bool(!yes)),
        ("-_", [Int(n)]) => return number(n.checked_neg(), "integer"),
        ("-_", [Double(n)]) => Ok(Double(-n)),
        ("-_", [Duration(n)]) => n.checked_neg().map(Duration).ok_or_else(|| overflow("duration")),
        ("@in", [key, of]) => match (of.items(), of.entries()) {
            (Some(items), _) => Ok(Bool(items.iter().any(|i| i.equals(key)))),
            (_, Some(entries)) => Ok(Bool(entries.iter().any(|(k, _)| k.equals(key)))),
            _ => return None,
        },
        ("_+_", [Int(a), Int(b)]) => return number(a.checked_add(*b), "integer"),
        ("_-_", [Int(a), Int(b)]) => return number(a.checked_sub(*b), "integer"),
        ("_*_", [Int(a), Int(b)]) => return number(a.checked_mul(*b), "integer"),
        ("_/_", [Int(_), Int(0)]) | ("_/_", [Uint(_), Uint(0)]) => Err(EvalError::new("division by zero")),
        ("_%_", [Int(_), Int(0)]) | ("_%_", [Uint(_), Uint(0)]) => Err(EvalError::new("modulus by zero")),
        ("_/_", [Int(a), Int(b)]) => return number(a.checked_div(*b), "integer"),
        ("_%_", [Int(a), Int(b)]) => return number(a.checked_rem(*b), "integer"),
        ("_+_", [Uint(a), Uint(b)]) => return unsigned(a.checked_add(*b)),
        ("_-_", [Uint(a), Uint(b)]) => return unsigned(a.checked_sub(*b)),
        ("_*_", [Uint(a), Uint(b)]) => return unsigned(a.checked_mul(*b)),
        ("_/_", [Uint(a), Uint(b)]) => Ok(Uint(a / b)),
        ("_%_", [Uint(a), Uint(b)]) => Ok(Uint(a % b)),
        ("_+_", [Double(a), Double(b)]) => Ok(Double(a + b)),
        ("_-_", [Double(a), Double(b)]) => Ok(Double(a - b)),
        ("_*_", [Double(a), Double(b)]) => Ok(Double(a * b)),
        ("_/_", [Double(a), Double(b)]) => Ok(Double(a / b)),
        ("_+_", [Text(a), Text(b)]) if a.len() + b.len() <= LONGEST => Ok(Value::text(format!("{}{}", &**a, &**b))),
        ("_+_", [Value::Bytes(a), Value::Bytes(b)]) => Ok(Value::Bytes([&**a, &**b].concat().into())),
        ("_+_", [Duration(a), Duration(b)]) => a.checked_add(*b).map(Duration).ok_or_else(|| overflow("duration")),
        ("_-_", [Duration(a), Duration(b)]) => a.checked_sub(*b).map(Duration).ok_or_else(|| overflow("duration")),
        ("_+_", [Time(t), Duration(d)] | [Duration(d), Time(t)]) => {
            t.checked_add(jiff::SignedDuration::from_nanos(*d)).map(Time).map_err(|_| overflow("timestamp"))
        }
        ("_-_", [Time(t), Duration(d)]) => {
            t.checked_sub(jiff::SignedDuration::from_nanos(*d)).map(Time).map_err(|_| overflow("timestamp"))
        }
        ("_-_", [Time(a), Time(b)]) => {
            i64::try_from(a.as_nanosecond() - b.as_nanosecond()).map(Duration).map_err(|_| overflow("timestamp"))
        }
        ("_+_", [a, b]) => match (a.items(), b.items()) {
            (Some(mut a), Some(b)) if a.len() + b.len() <= LONGEST => {
                a.extend(b);
                Ok(Value::list(a))
            }
            _ => return None,
        },
        _ => return None,
    })
}

fn convert<'a>(name: &str, values: &[Value<'a>]) -> Option<Result<Value<'a>>> {
    use Value::{Bool, Bytes, Double, Duration, Int, Text, Time, Uint};
    let unread =
        |text: &str, to: &str| EvalError::new(format!("type conversion error from 'string' to '{to}': {text:?}"));
    let range = |to: &str| EvalError::new(format!("{to} overflow"));
    Some(match (name, values) {
        ("size", [of]) => match of.size() {
            Some(n) => Ok(Int(n.cast_signed())),
            None => return None,
        },
        ("dyn", [value]) => Ok(value.clone()),
        ("type", [value]) => Ok(Value::Type(value.type_name())),
        ("int", [Int(n)]) => Ok(Int(*n)),
        ("int", [Uint(n)]) => i64::try_from(*n).map(Int).map_err(|_| range("integer")),
        ("int", [Double(n)]) if n.abs() < 9.2e18 => Ok(Int(*n as i64)),
        ("int", [Double(_)]) => Err(range("integer")),
        ("int", [Text(t)]) => t.parse().map(Int).map_err(|_| unread(t, "int")),
        ("int", [Time(t)]) => Ok(Int(t.as_second())),
        ("uint", [Int(n)]) => u64::try_from(*n).map(Uint).map_err(|_| range("unsigned integer")),
        ("uint", [Uint(n)]) => Ok(Uint(*n)),
        ("uint", [Double(n)]) if *n >= 0.0 && *n < 1.8e19 => Ok(Uint(*n as u64)),
        ("uint", [Text(t)]) => t.parse().map(Uint).map_err(|_| unread(t, "uint")),
        ("double", [Int(n)]) => Ok(Double(*n as f64)),
        ("double", [Uint(n)]) => Ok(Double(*n as f64)),
        ("double", [Double(n)]) => Ok(Double(*n)),
        ("double", [Text(t)]) => t.parse().map(Double).map_err(|_| unread(t, "double")),
        ("bool", [Bool(yes)]) => Ok(Bool(*yes)),
        ("bool", [Text(t)]) => match &**t {
            "true" | "True" | "TRUE" | "t" | "1" => Ok(Bool(true)),
            "false" | "False" | "FALSE" | "f" | "0" => Ok(Bool(false)),
            other => Err(unread(other, "bool")),
        },
        ("string", [Text(t)]) => Ok(Text(t.clone())),
        ("string", [Bytes(b)]) => match std::str::from_utf8(b) {
            Ok(text) => Ok(Value::text(text)),
            Err(_) => Err(EvalError::new("invalid UTF-8 in bytes, cannot convert to string")),
        },
        ("string", [value]) => shown(value).map(Value::text).ok_or_else(|| no_overload(name, values)),
        ("bytes", [Bytes(b)]) => Ok(Bytes(b.clone())),
        ("bytes", [Text(t)]) => Ok(Bytes(t.as_bytes().into())),
        ("timestamp", [Time(t)]) => Ok(Time(*t)),
        ("timestamp", [Text(t)]) => t.parse().map(Time).map_err(|_| unread(t, "timestamp")),
        ("timestamp", [Int(n)]) => jiff::Timestamp::from_second(*n).map(Time).map_err(|_| range("timestamp")),
        ("duration", [Duration(d)]) => Ok(Duration(*d)),
        ("duration", [Text(t)]) => duration::parse(t).map(Duration).map_err(|_| unread(t, "duration")),
        ("matches", [Text(t), Text(pattern)]) => matches(t, pattern),
        ("jsonpatch.escapeKey", [Text(t)]) => Ok(Value::text(t.replace('~', "~0").replace('/', "~1"))),
        ("strings.quote", [Text(t)]) => Ok(Value::text(format!("{:?}", &**t))),
        _ => return None,
    })
}

/// A scalar as text.
pub(crate) fn shown(value: &Value<'_>) -> Option<String> {
    Some(match value {
        Value::Text(text) => text.to_string(),
        Value::Bool(yes) => yes.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Uint(n) => n.to_string(),
        Value::Double(n) => n.to_string(),
        Value::Time(t) => t.to_string(),
        Value::Duration(d) => format!("{}s", *d as f64 / 1e9),
        Value::Quantity(q) => q.to_string(),
        Value::Ip(ip) => ip.to_string(),
        Value::Cidr(ip, bits) => format!("{ip}/{bits}"),
        Value::Type(name) => (*name).to_owned(),
        Value::Null => "null".to_owned(),
        _ => return None,
    })
}

fn matches(text: &str, pattern: &str) -> Result<Value<'static>> {
    let regex = Regex::new(pattern).map_err(|e| EvalError::new(format!("error parsing regexp: {e}")))?;
    Ok(Value::Bool(regex.is_match(text)))
}

/// The hour, the year and so on of a time, in a zone.
pub(crate) fn part_of_time(name: &str, at: jiff::Timestamp, zone: Option<&str>) -> Option<Result<i64>> {
    let zone = match zone {
        None => jiff::tz::TimeZone::UTC,
        Some(name) => match jiff::tz::TimeZone::get(name) {
            Ok(zone) => zone,
            Err(why) => return Some(Err(EvalError::new(why.to_string()))),
        },
    };
    let at = at.to_zoned(zone);
    Some(Ok(match name {
        "getFullYear" => i64::from(at.year()),
        "getMonth" => i64::from(at.month()) - 1,
        "getDate" => i64::from(at.day()),
        "getDayOfMonth" => i64::from(at.day()) - 1,
        "getDayOfWeek" => i64::from(at.weekday().to_sunday_zero_offset()),
        "getDayOfYear" => i64::from(at.day_of_year()) - 1,
        "getHours" => i64::from(at.hour()),
        "getMinutes" => i64::from(at.minute()),
        "getSeconds" => i64::from(at.second()),
        "getMilliseconds" => i64::from(at.millisecond()),
        _ => return None,
    }))
}
