//! sprig's functions of texts.

use super::format::quote;
use super::{Made, exactly, int, size, text};
use crate::value::Value;

/// The longest text that a function repeats another to.
const LONGEST: usize = 16 << 20;

pub(super) fn find(name: &str) -> Option<fn(&[Value]) -> Made> {
    Some(match name {
        "trim" => |given| one(given, |text| text.trim().to_owned()),
        "upper" => |given| one(given, str::to_uppercase),
        "lower" => |given| one(given, str::to_lowercase),
        "title" => |given| one(given, title),
        "untitle" => |given| one(given, |text| initial(text, |c| c.to_lowercase().collect())),
        "nospace" => |given| one(given, |text| text.chars().filter(|c| !c.is_whitespace()).collect()),
        "initials" => {
            |given| one(given, |text| text.split_whitespace().filter_map(|word| word.chars().next()).collect())
        }
        "swapcase" => |given| one(given, swap_case),
        "snakecase" => |given| one(given, |text| delimited(text, '_')),
        "kebabcase" => |given| one(given, |text| delimited(text, '-')),
        "camelcase" => |given| one(given, camel_case),
        "trunc" => trunc,
        "abbrev" => abbrev,
        "substr" => substr,
        "repeat" => |given| {
            let [count, what] = exactly::<2>(given)?;
            let (count, what) = (size(count)?, text(what)?);
            if count.saturating_mul(what.len()) > LONGEST {
                return Err("the text is too long".to_owned());
            }
            Ok(Value::str(what.repeat(count)))
        },
        "trimAll" | "trimall" => |given| two(given, |cut, text| text.trim_matches(|c| cut.contains(c)).to_owned()),
        "trimSuffix" => |given| two(given, |cut, text| text.strip_suffix(cut).unwrap_or(text).to_owned()),
        "trimPrefix" => |given| two(given, |cut, text| text.strip_prefix(cut).unwrap_or(text).to_owned()),
        "contains" => |given| check(given, |part, text| text.contains(part)),
        "hasPrefix" => |given| check(given, |part, text| text.starts_with(part)),
        "hasSuffix" => |given| check(given, |part, text| text.ends_with(part)),
        "quote" => |given| Ok(Value::str(joined(given, |value| quote(&value.to_string())))),
        "squote" => |given| Ok(Value::str(joined(given, |value| format!("'{value}'")))),
        "cat" => |given| Ok(Value::str(joined(given, Value::to_string))),
        "indent" => |given| {
            let [spaces, what] = exactly::<2>(given)?;
            indented(size(spaces)?, text(what)?).map(Value::str)
        },
        "nindent" => |given| {
            let [spaces, what] = exactly::<2>(given)?;
            indented(size(spaces)?, text(what)?).map(|text| Value::str(format!("\n{text}")))
        },
        "replace" => |given| {
            let [old, new, what] = exactly::<3>(given)?;
            Ok(Value::str(text(what)?.replace(text(old)?, text(new)?)))
        },
        "plural" => |given| {
            let [single, many, count] = exactly::<3>(given)?;
            Ok(if int(count)? == 1 { single.clone() } else { many.clone() })
        },
        "toString" => |given| Ok(Value::str(exactly::<1>(given)?[0].to_string())),
        "wrap" => |given| {
            let [width, what] = exactly::<2>(given)?;
            Ok(Value::str(wrapped(text(what)?, size(width)?, "\n")))
        },
        "wrapWith" => |given| {
            let [width, separator, what] = exactly::<3>(given)?;
            Ok(Value::str(wrapped(text(what)?, size(width)?, text(separator)?)))
        },
        "atoi" => |given| Ok(Value::Int(text(&exactly::<1>(given)?[0])?.parse().unwrap_or_default())),
        "split" => |given| {
            let [separator, what] = exactly::<2>(given)?;
            Ok(numbered(split(text(what)?, text(separator)?, 0)))
        },
        "splitn" => |given| {
            let [separator, count, what] = exactly::<3>(given)?;
            Ok(numbered(split(text(what)?, text(separator)?, size(count)?)))
        },
        "splitList" => |given| {
            let [separator, what] = exactly::<2>(given)?;
            Ok(Value::strings(split(text(what)?, text(separator)?, 0)))
        },
        "toStrings" => |given| Ok(Value::strings(strings(&exactly::<1>(given)?[0]))),
        "join" => |given| {
            let [separator, what] = exactly::<2>(given)?;
            Ok(Value::str(strings(what).join(text(separator)?)))
        },
        "sortAlpha" => |given| {
            let mut texts = strings(&exactly::<1>(given)?[0]);
            texts.sort();
            Ok(Value::strings(texts))
        },
        "hello" => |_| Ok(Value::str("Hello!")),
        _ => return None,
    })
}

fn one(given: &[Value], change: impl Fn(&str) -> String) -> Made {
    Ok(Value::str(change(text(&exactly::<1>(given)?[0])?)))
}

fn two(given: &[Value], change: fn(&str, &str) -> String) -> Made {
    let [first, second] = exactly::<2>(given)?;
    Ok(Value::str(change(text(first)?, text(second)?)))
}

fn check(given: &[Value], holds: fn(&str, &str) -> bool) -> Made {
    let [first, second] = exactly::<2>(given)?;
    Ok(Value::Bool(holds(text(first)?, text(second)?)))
}

/// `strslice`: the texts of a list without its nils, or one text.
pub(super) fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::List(items) => items.iter().filter(|item| !matches!(item, Value::Nil)).map(Value::to_string).collect(),
        Value::Nil => Vec::new(),
        other => vec![other.to_string()],
    }
}

fn joined(given: &[Value], shown: impl Fn(&Value) -> String) -> String {
    let shown: Vec<String> = given.iter().filter(|value| !matches!(value, Value::Nil)).map(shown).collect();
    shown.join(" ")
}

fn indented(spaces: usize, text: &str) -> Result<String, String> {
    let lines = text.matches('\n').count() + 1;
    if lines.saturating_mul(spaces) > LONGEST {
        return Err("the text is too long".to_owned());
    }
    let pad = " ".repeat(spaces);
    Ok(format!("{pad}{}", text.replace('\n', &format!("\n{pad}"))))
}

fn split<'a>(text: &'a str, separator: &str, count: usize) -> Vec<&'a str> {
    if separator.is_empty() {
        let ends = text.char_indices().map(|(at, c)| &text[at..at + c.len_utf8()]);
        return ends.collect();
    }
    if count > 0 { text.splitn(count, separator).collect() } else { text.split(separator).collect() }
}

/// `_0`, `_1`, ...
fn numbered(parts: Vec<&str>) -> Value {
    Value::map(parts.iter().enumerate().map(|(at, part)| (format!("_{at}").into(), Value::str(part))).collect())
}

/// On bytes, as Go's slices; a character that is cut is dropped.
fn cut(text: &str, from: usize, to: usize) -> String {
    String::from_utf8_lossy(text.as_bytes().get(from..to).unwrap_or_default()).replace('\u{fffd}', "")
}

fn trunc(given: &[Value]) -> Made {
    let [count, what] = exactly::<2>(given)?;
    let (count, what) = (int(count)?, text(what)?);
    let size = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if size >= what.len() {
        return Ok(Value::str(what));
    }
    Ok(Value::str(if count < 0 { cut(what, what.len() - size, what.len()) } else { cut(what, 0, size) }))
}

fn abbrev(given: &[Value]) -> Made {
    let [width, what] = exactly::<2>(given)?;
    let (width, what) = (int(width)?, text(what)?);
    let width = usize::try_from(width).unwrap_or_default();
    if width < 4 || what.len() <= width {
        return Ok(Value::str(what));
    }
    Ok(Value::str(cut(what, 0, width - 3) + "..."))
}

fn substr(given: &[Value]) -> Made {
    let [start, end, what] = exactly::<3>(given)?;
    let (start, end, what) = (int(start)?, int(end)?, text(what)?);
    let from = usize::try_from(start).unwrap_or_default();
    let to = usize::try_from(end).map_or(what.len(), |end| end.min(what.len()));
    if from > to {
        return Err(format!("slice bounds out of range [{from}:{to}]"));
    }
    Ok(Value::str(cut(what, from, to)))
}

fn initial(text: &str, change: impl Fn(char) -> String) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| change(first) + chars.as_str())
}

/// `strings.Title`: a letter that begins a word is made a capital.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.push(c);
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphanumeric() || c == '_' || c == '\'';
    }
    out
}

fn swap_case(text: &str) -> String {
    let swap =
        |c: char| -> String { if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() } };
    text.chars().map(swap).collect()
}

/// Words in small letters with something between.
fn delimited(text: &str, delimiter: char) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len() + 4);
    for (at, c) in chars.iter().enumerate() {
        if matches!(c, '_' | '-' | ' ' | '.') {
            if !out.ends_with(delimiter) && !out.is_empty() {
                out.push(delimiter);
            }
            continue;
        }
        let before = at.checked_sub(1).map(|at| chars[at]);
        let after = chars.get(at + 1);
        let begins = c.is_uppercase()
            && (before.is_some_and(|c| c.is_lowercase() || c.is_ascii_digit())
                || (before.is_some_and(char::is_uppercase) && after.is_some_and(|c| c.is_lowercase())));
        let turns = c.is_ascii_digit() && before.is_some_and(char::is_alphabetic);
        if (begins || turns) && !out.ends_with(delimiter) && !out.is_empty() {
            out.push(delimiter);
        }
        out.extend(c.to_lowercase());
    }
    out
}

fn camel_case(text: &str) -> String {
    let words = text.split(['_', '-', ' ']);
    words.map(|word| initial(word, |c| c.to_uppercase().collect())).collect()
}

fn wrapped(text: &str, width: usize, separator: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if !line.is_empty() && line.len() + 1 + word.len() > width.max(1) {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines.join(separator)
}
