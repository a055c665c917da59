//! Functions of texts.

use regex_lite::Regex;

use super::{Result, matches, shown};
use crate::eval::EvalError;
use crate::value::Value;

/// Characters by their number.
fn slice(text: &str, from: i64, to: Option<i64>) -> Result<Value<'static>> {
    let chars: Vec<char> = text.chars().collect();
    let length = chars.len() as i64;
    let to = to.unwrap_or(length);
    if from < 0 || to > length || from > to {
        let at = if from < 0 || from > length { from } else { to };
        return Err(EvalError::new(format!("index out of range: {at}")));
    }
    Ok(Value::text(chars[from as usize..to as usize].iter().collect::<String>()))
}

/// Where a text stands in another, in characters.
fn place(text: &str, of: &str, last: bool) -> i64 {
    let found = if last { text.rfind(of) } else { text.find(of) };
    found.map_or(-1, |at| text[..at].chars().count() as i64)
}

pub(super) fn text<'a>(name: &str, values: &[Value<'a>]) -> Option<Result<Value<'a>>> {
    use Value::{Bool, Int, Text};
    Some(match (name, values) {
        ("size", [of]) => match of.size() {
            Some(n) => Ok(Int(n.cast_signed())),
            None => return None,
        },
        ("contains", [Text(t), Text(of)]) => Ok(Bool(t.contains(&**of))),
        ("startsWith", [Text(t), Text(of)]) => Ok(Bool(t.starts_with(&**of))),
        ("endsWith", [Text(t), Text(of)]) => Ok(Bool(t.ends_with(&**of))),
        ("matches", [Text(t), Text(pattern)]) => matches(t, pattern),
        ("charAt", [Text(t), Int(at)]) => {
            let count = t.chars().count() as i64;
            if *at == count { Ok(Value::text("")) } else { slice(t, *at, Some(*at + 1)) }
        }
        ("indexOf", [Text(t), Text(of)]) => Ok(Int(place(t, of, false))),
        ("indexOf", [Text(t), Text(of), Int(from)]) => {
            let skipped: String = t.chars().skip(usize::try_from(*from).unwrap_or(0)).collect();
            Ok(Int(match place(&skipped, of, false) {
                -1 => -1,
                at => at + from,
            }))
        }
        ("lastIndexOf", [Text(t), Text(of)]) => Ok(Int(place(t, of, true))),
        ("lastIndexOf", [Text(t), Text(of), Int(to)]) => {
            let until = usize::try_from(*to).unwrap_or(0) + of.chars().count();
            Ok(Int(place(&t.chars().take(until).collect::<String>(), of, true)))
        }
        ("lowerAscii", [Text(t)]) => Ok(Value::text(t.to_ascii_lowercase())),
        ("upperAscii", [Text(t)]) => Ok(Value::text(t.to_ascii_uppercase())),
        ("trim", [Text(t)]) => Ok(Value::text(t.trim())),
        ("reverse", [Text(t)]) => Ok(Value::text(t.chars().rev().collect::<String>())),
        ("replace", [Text(t), Text(a), Text(b)]) => Ok(Value::text(t.replace(&**a, b))),
        ("replace", [Text(t), Text(a), Text(b), Int(n)]) => {
            let count = usize::try_from(*n).unwrap_or(usize::MAX);
            Ok(Value::text(t.replacen(&**a, b, count)))
        }
        ("split", [Text(t), Text(by)]) => Ok(split(t, by, -1)),
        ("split", [Text(t), Text(by), Int(n)]) => Ok(split(t, by, *n)),
        ("substring", [Text(t), Int(from)]) => slice(t, *from, None),
        ("substring", [Text(t), Int(from), Int(to)]) => slice(t, *from, Some(*to)),
        ("join", [list]) | ("join", [list, _]) => {
            let by = values.get(1).and_then(Value::as_text).unwrap_or_default();
            let items = list.items()?;
            let texts: Option<Vec<&str>> = items.iter().map(Value::as_text).collect();
            match texts {
                Some(texts) => Ok(Value::text(texts.join(by))),
                None => return None,
            }
        }
        ("format", [Text(t), list]) => formatted(t, &list.items()?),
        ("find", [Text(t), Text(pattern)]) => match Regex::new(pattern) {
            Ok(regex) => Ok(Value::text(regex.find(t).map_or("", |m| m.as_str()))),
            Err(why) => Err(EvalError::new(format!("Illegal regex: {why}"))),
        },
        ("findAll", [Text(t), Text(pattern)]) | ("findAll", [Text(t), Text(pattern), Int(_)]) => {
            let most = match values.get(2) {
                Some(Int(n)) if *n >= 0 => *n as usize,
                _ => usize::MAX,
            };
            match Regex::new(pattern) {
                Ok(regex) => Ok(Value::list(regex.find_iter(t).take(most).map(|m| Value::text(m.as_str())).collect())),
                Err(why) => Err(EvalError::new(format!("Illegal regex: {why}"))),
            }
        }
        _ => return None,
    })
}

fn split<'a>(text: &str, by: &str, most: i64) -> Value<'a> {
    let all = |parts: Vec<String>| Value::list(parts.into_iter().map(Value::text).collect());
    let letters = || text.chars().map(String::from).collect::<Vec<_>>();
    match (most, by) {
        (0, _) => all(Vec::new()),
        (_, "") => all(letters()),
        (most, by) if most < 0 => all(text.split(by).map(str::to_owned).collect()),
        (most, by) => all(text.splitn(most as usize, by).map(str::to_owned).collect()),
    }
}

/// `'%s has %d'.format([a, b])`.
fn formatted<'a>(pattern: &str, values: &[Value<'a>]) -> Result<Value<'a>> {
    let mut out = String::new();
    let mut values = values.iter();
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut precision = None;
        if rest.peek() == Some(&'.') {
            rest.next();
            let mut digits = String::new();
            while let Some(d) = rest.next_if(char::is_ascii_digit) {
                digits.push(d);
            }
            precision = digits.parse::<usize>().ok();
        }
        let clause = rest.next().ok_or_else(|| EvalError::new("unexpected end of format string"))?;
        if clause == '%' {
            out.push('%');
            continue;
        }
        let value = values.next().ok_or_else(|| EvalError::new("index 0 out of range"))?;
        let text = match (clause, value) {
            ('s', value) => written(value),
            ('d', Value::Int(n)) => Some(n.to_string()),
            ('d', Value::Uint(n)) => Some(n.to_string()),
            ('d', Value::Double(n)) => Some(n.to_string()),
            ('f', Value::Double(n)) => Some(format!("{n:.*}", precision.unwrap_or(6))),
            ('f', Value::Int(n)) => Some(format!("{:.*}", precision.unwrap_or(6), *n as f64)),
            ('e', Value::Double(n)) => Some(format!("{n:.*e}", precision.unwrap_or(6))),
            ('b', Value::Int(n)) => Some(format!("{n:b}")),
            ('b', Value::Bool(yes)) => Some(u8::from(*yes).to_string()),
            ('x', Value::Int(n)) => Some(format!("{n:x}")),
            ('X', Value::Int(n)) => Some(format!("{n:X}")),
            ('o', Value::Int(n)) => Some(format!("{n:o}")),
            ('x', Value::Text(t)) => Some(t.bytes().map(|b| format!("{b:02x}")).collect()),
            _ => None,
        };
        let text = text.ok_or_else(|| {
            EvalError::new(format!("error during formatting: clause %{clause} can't take a {}", value.type_name()))
        })?;
        out.push_str(&text);
    }
    Ok(Value::text(out))
}

/// A value of any type as `%s` writes it.
fn written(value: &Value<'_>) -> Option<String> {
    if let Some(items) = value.items() {
        let all: Option<Vec<String>> = items.iter().map(written).collect();
        return Some(format!("[{}]", all?.join(", ")));
    }
    if let Some(entries) = value.entries() {
        let one = |(k, v): &(Value<'_>, Value<'_>)| Some(format!("{}: {}", written(k)?, written(v)?));
        let mut all: Vec<String> = entries.iter().map(one).collect::<Option<_>>()?;
        all.sort_unstable();
        return Some(format!("{{{}}}", all.join(", ")));
    }
    match value {
        Value::Time(_) | Value::Duration(_) | Value::Text(_) => shown(value),
        value => shown(value),
    }
}
