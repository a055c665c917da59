//! sprig's arithmetic and conversions of numbers.

use super::{Made, at_least, exactly, int};
use crate::value::Value;
use crate::yaml::go_int;

/// The most numbers that a function counts out.
const MOST: i64 = 1_000_000;

pub(super) fn find(name: &str) -> Option<fn(&[Value]) -> Made> {
    Some(match name {
        "int" | "int64" => |given| Ok(Value::Int(to_int(&exactly::<1>(given)?[0]))),
        "float64" => |given| Ok(Value::Float(to_float(&exactly::<1>(given)?[0]))),
        "toDecimal" => |given| {
            let text = exactly::<1>(given)?[0].to_string();
            Ok(Value::Int(i64::from_str_radix(&text, 8).unwrap_or_default()))
        },
        "add1" => |given| Ok(Value::Int(to_int(&exactly::<1>(given)?[0]).wrapping_add(1))),
        "add" => |given| Ok(Value::Int(given.iter().fold(0, |sum, value| sum.wrapping_add(to_int(value))))),
        "sub" => |given| ints(given, |a, b| Ok(a.wrapping_sub(b))),
        "div" => |given| ints(given, |a, b| divisible(b).map(|()| a.wrapping_div(b))),
        "mod" => |given| ints(given, |a, b| divisible(b).map(|()| a.wrapping_rem(b))),
        "mul" => |given| {
            let given = at_least(given, 1)?;
            Ok(Value::Int(given.iter().map(to_int).fold(1, i64::wrapping_mul)))
        },
        "add1f" => |given| Ok(Value::Float(to_float(&exactly::<1>(given)?[0]) + 1.0)),
        "addf" => |given| Ok(Value::Float(tidy(given.iter().map(to_float).sum()))),
        "subf" => |given| floats(given, |a, b| a - b),
        "mulf" => |given| floats(given, |a, b| a * b),
        "divf" => |given| {
            if given.iter().skip(1).any(|value| to_float(value) == 0.0) {
                return Err("decimal division by 0".to_owned());
            }
            floats(given, |a, b| a / b)
        },
        "max" | "biggest" => |given| Ok(Value::Int(at_least(given, 1)?.iter().map(to_int).max().unwrap_or_default())),
        "min" => |given| Ok(Value::Int(at_least(given, 1)?.iter().map(to_int).min().unwrap_or_default())),
        "maxf" => |given| floats(given, f64::max),
        "minf" => |given| floats(given, f64::min),
        "ceil" => |given| Ok(Value::Float(to_float(&exactly::<1>(given)?[0]).ceil())),
        "floor" => |given| Ok(Value::Float(to_float(&exactly::<1>(given)?[0]).floor())),
        "round" => round,
        "until" => |given| {
            let count = int(&exactly::<1>(given)?[0])?;
            counted(0, count, if count < 0 { -1 } else { 1 }).map(Value::list)
        },
        "untilStep" => |given| {
            let [start, stop, step] = exactly::<3>(given)?;
            counted(int(start)?, int(stop)?, int(step)?).map(Value::list)
        },
        "seq" => seq,
        _ => return None,
    })
}

/// cast's `ToInt64`: what is no number is 0.
pub(super) fn to_int(value: &Value) -> i64 {
    match value {
        Value::Int(value) => *value,
        Value::Float(value) => *value as i64,
        Value::Bool(value) => i64::from(*value),
        Value::Str(text) => {
            // `1.00` counts as 1, other fractions as nothing.
            let text = match text.split_once('.') {
                Some((whole, fraction)) if fraction.bytes().all(|digit| digit == b'0') => whole,
                _ => text,
            };
            go_int(text).and_then(|value| i64::try_from(value).ok()).unwrap_or_default()
        }
        _ => 0,
    }
}

/// cast's `ToFloat64`.
pub(super) fn to_float(value: &Value) -> f64 {
    match value {
        Value::Int(value) => *value as f64,
        Value::Float(value) => *value,
        Value::Bool(value) => f64::from(u8::from(*value)),
        Value::Str(text) => text.parse().unwrap_or_default(),
        _ => 0.0,
    }
}

fn ints(given: &[Value], reckon: fn(i64, i64) -> Result<i64, String>) -> Made {
    let [a, b] = exactly::<2>(given)?;
    reckon(to_int(a), to_int(b)).map(Value::Int)
}

fn divisible(by: i64) -> Result<(), String> {
    if by == 0 { Err("runtime error: integer divide by zero".to_owned()) } else { Ok(()) }
}

fn floats(given: &[Value], reckon: fn(f64, f64) -> f64) -> Made {
    let numbers = at_least(given, 1)?.iter().map(to_float);
    Ok(Value::Float(tidy(numbers.reduce(reckon).unwrap_or_default())))
}

/// sprig reckons in decimals: what binary fractions add behind the sixteenth digit is taken away.
fn tidy(value: f64) -> f64 {
    format!("{value:.15e}").parse().unwrap_or(value)
}

fn round(given: &[Value]) -> Made {
    let given = at_least(given, 2)?;
    let (value, places) = (to_float(&given[0]), int(&given[1])?.clamp(0, 300));
    let on = given.get(2).map_or(0.5, to_float);
    let scale = 10f64.powi(i32::try_from(places).unwrap_or_default());
    let scaled = value * scale;
    let rounded = if scaled.fract() >= on { scaled.ceil() } else { scaled.floor() };
    Ok(Value::Float(rounded / scale))
}

fn counted(start: i64, stop: i64, step: i64) -> Result<Vec<Value>, String> {
    let mut numbers = Vec::new();
    let mut at = start;
    while (step > 0 && at < stop) || (step < 0 && at > stop) {
        if numbers.len() as i64 >= MOST {
            return Err("too many numbers".to_owned());
        }
        numbers.push(Value::Int(at));
        at = at.saturating_add(step);
    }
    Ok(numbers)
}

fn seq(given: &[Value]) -> Made {
    let numbers: Vec<i64> = given.iter().map(int).collect::<Result<_, _>>()?;
    let (from, step, to) = match numbers.as_slice() {
        [] => return Ok(Value::str("")),
        [to] => (1, if *to < 1 { -1 } else { 1 }, *to),
        [from, to] => (*from, if to < from { -1 } else { 1 }, *to),
        [from, step, to] => (*from, *step, *to),
        _ => return Ok(Value::str("")),
    };
    let counted = counted(from, to.saturating_add(step.signum()), step)?;
    let texts: Vec<String> = counted.iter().map(Value::to_string).collect();
    Ok(Value::str(texts.join(" ")))
}
