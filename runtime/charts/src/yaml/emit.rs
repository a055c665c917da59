//! From JSON to text.

use serde_json::Value;

use super::YamlError;
use super::order::compare;
use super::raw::{Emitter, Style};
use super::resolve::{Scalar, is_time, resolve};

/// A document of this value, with a line's end behind it.
pub fn to_string(value: &Value) -> Result<String, YamlError> {
    let mut emitter = Emitter::new()?;
    emit(&mut emitter, value)?;
    String::from_utf8(emitter.finish()?).map_err(|_| YamlError::new("cannot be written"))
}

fn emit(emitter: &mut Emitter, value: &Value) -> Result<(), YamlError> {
    match value {
        Value::Null => emitter.scalar("null", Style::Plain),
        Value::Bool(value) => emitter.scalar(if *value { "true" } else { "false" }, Style::Plain),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => emitter.scalar(&float_text(float), Style::Plain),
            None => emitter.scalar(&number.to_string(), Style::Plain),
        },
        Value::String(text) => emitter.scalar(text, style(text)),
        Value::Array(items) => {
            emitter.sequence()?;
            items.iter().try_for_each(|item| emit(emitter, item))?;
            emitter.end_sequence()
        }
        Value::Object(map) => {
            emitter.mapping()?;
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|(a, _), (b, _)| compare(a, b));
            for (key, value) in entries {
                emitter.scalar(key, style(key))?;
                emit(emitter, value)?;
            }
            emitter.end_mapping()
        }
    }
}

fn style(text: &str) -> Style {
    if text.contains('\n') {
        Style::Literal
    } else if resolve(text) == Scalar::Text && !is_time(text) && !is_base60(text) && text != "<<" {
        Style::Plain
    } else {
        Style::DoubleQuoted
    }
}

/// A whole number as such, as it comes out of JSON.
fn float_text(value: f64) -> String {
    if value == value.trunc() && value.abs() < 1e21 { format!("{value:.0}") } else { crate::number::shortest(value) }
}

/// `^[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?$`
fn is_base60(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let mut parts = text.split(':');
    let first = parts.next().unwrap_or_default();
    if !first.starts_with(|c: char| c.is_ascii_digit()) || !first.bytes().all(|b| b.is_ascii_digit() || b == b'_') {
        return false;
    }
    let mut rest: Vec<&str> = parts.collect();
    let Some(last) = rest.pop() else { return false };
    let (last, fraction) = last.split_once('.').unwrap_or((last, ""));
    let sixty = |part: &str| match part.as_bytes() {
        [digit] => digit.is_ascii_digit(),
        [tens, digit] => (b'0'..=b'5').contains(tens) && digit.is_ascii_digit(),
        _ => false,
    };
    sixty(last) && rest.into_iter().all(sixty) && fraction.bytes().all(|b| b.is_ascii_digit() || b == b'_')
}
