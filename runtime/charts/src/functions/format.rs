//! fmt's `Sprintf`, `%q` and `Sprint`.

use crate::number;
use crate::value::Value;

/// The widest field.
const WIDEST: usize = 4096;

/// A text in double quotes, as Go writes one.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            c if c.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", c as u32)),
            c if is_printable(c) => quoted.push(c),
            c if (c as u32) < 0x10000 => quoted.push_str(&format!("\\u{:04x}", c as u32)),
            c => quoted.push_str(&format!("\\U{:08x}", c as u32)),
        }
    }
    quoted.push('"');
    quoted
}

fn is_printable(c: char) -> bool {
    !c.is_control()
        && (c == ' ' || !c.is_whitespace())
        && !matches!(c as u32, 0xAD | 0x200B..=0x200F | 0x2028..=0x202E | 0xE000..=0xF8FF | 0xFEFF)
}

/// The flags of a verb.
#[derive(Default)]
struct Spec {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// `fmt.Sprintf`
pub(crate) fn sprintf(format: &str, given: &[Value]) -> String {
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    let mut arguments = given.iter();
    let mut used = 0;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = chars.next_if(|c| "-+# 0".contains(*c)) {
            match flag {
                '-' => spec.minus = true,
                '+' => spec.plus = true,
                '#' => spec.sharp = true,
                ' ' => spec.space = true,
                _ => spec.zero = true,
            }
        }
        let mut number = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| -> Option<usize> {
            if chars.next_if_eq(&'*').is_some() {
                used += 1;
                return match arguments.next() {
                    Some(Value::Int(value)) => Some(usize::try_from(*value).unwrap_or_default().min(WIDEST)),
                    _ => None,
                };
            }
            let mut found = None;
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                let value = found.unwrap_or(0usize) * 10 + digit as usize - '0' as usize;
                found = Some(value.min(WIDEST));
            }
            found
        };
        spec.width = number(&mut chars);
        if chars.next_if_eq(&'.').is_some() {
            spec.precision = Some(number(&mut chars).unwrap_or(0));
        }
        let Some(verb) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        used += 1;
        match arguments.next() {
            Some(value) => out.push_str(&formatted(verb, &spec, value)),
            None => {
                used -= 1;
                out.push_str(&format!("%!{verb}(MISSING)"));
            }
        }
    }
    if used < given.len() {
        let extra: Vec<String> = given[used..]
            .iter()
            .map(|value| match value {
                Value::Nil => "<nil>".to_owned(),
                value => format!("{}={value}", value.type_name()),
            })
            .collect();
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

/// Puts a text into its field.
fn pad(text: String, spec: &Spec, zeros: bool) -> String {
    let length = text.chars().count();
    let Some(missing) = spec.width.and_then(|width| width.checked_sub(length)).filter(|missing| *missing > 0) else {
        return text;
    };
    if spec.minus {
        return text + &" ".repeat(missing);
    }
    if zeros && spec.zero {
        let at = usize::from(text.starts_with(['+', '-']));
        return format!("{}{}{}", &text[..at], "0".repeat(missing), &text[at..]);
    }
    " ".repeat(missing) + &text
}

fn formatted(verb: char, spec: &Spec, value: &Value) -> String {
    let sign = |text: String| match spec {
        _ if text.starts_with('-') => text,
        Spec { plus: true, .. } => format!("+{text}"),
        Spec { space: true, .. } => format!(" {text}"),
        _ => text,
    };
    match (verb, value) {
        ('T', _) => pad(value.type_name().to_owned(), spec, false),
        ('v', Value::Str(_)) if spec.sharp => pad(quote(&value.to_string()), spec, false),
        ('v', Value::Int(_)) => pad(sign(value.to_string()), spec, true),
        ('v' | 'g' | 'G', Value::Float(number)) => {
            let text = match spec.precision {
                Some(precision) => precise(*number, precision),
                None => number::shortest(*number),
            };
            pad(sign(text), spec, true)
        }
        ('v', _) => pad(truncated(value.to_string(), spec, value), spec, false),
        ('s', Value::Str(text)) => pad(truncated(text.to_string(), spec, value), spec, false),
        ('s' | 'q' | 'd' | 'x', Value::List(items)) => {
            let items: Vec<String> = items.iter().map(|item| formatted(verb, spec, item)).collect();
            format!("[{}]", items.join(" "))
        }
        ('s' | 'q' | 'd', Value::Map(map)) => {
            let entries = map.borrow();
            let entries = entries.iter().map(|(key, value)| {
                let key = formatted(verb, &Spec::default(), &Value::Str(key.clone()));
                format!("{key}:{}", formatted(verb, spec, value))
            });
            format!("map[{}]", entries.collect::<Vec<_>>().join(" "))
        }
        ('s', Value::Object(_)) => pad(value.to_string(), spec, false),
        ('q', Value::Str(text)) => pad(quote(&truncated(text.to_string(), spec, value)), spec, false),
        ('q', Value::Object(_)) => pad(quote(&value.to_string()), spec, false),
        ('q', Value::Int(code)) => {
            let c = u32::try_from(*code).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
            pad(format!("'{c}'"), spec, false)
        }
        ('x' | 'X', Value::Str(text)) => {
            let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
            pad(if verb == 'X' { hex.to_uppercase() } else { hex }, spec, false)
        }
        ('d' | 'b' | 'o' | 'x' | 'X' | 'c' | 'U', Value::Int(value)) => {
            let size = value.unsigned_abs();
            let digits = match verb {
                'd' => size.to_string(),
                'b' => format!("{size:b}"),
                'o' => format!("{}{size:o}", if spec.sharp { "0" } else { "" }),
                'x' => format!("{}{size:x}", if spec.sharp { "0x" } else { "" }),
                'X' => format!("{}{size:X}", if spec.sharp { "0X" } else { "" }),
                'U' => format!("U+{size:04X}"),
                _ => {
                    let c = u32::try_from(*value).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
                    return pad(c.to_string(), spec, false);
                }
            };
            let digits = match spec.precision {
                Some(precision) => format!("{}{digits}", "0".repeat(precision.saturating_sub(digits.len()))),
                None => digits,
            };
            pad(sign(if *value < 0 { format!("-{digits}") } else { digits }), spec, true)
        }
        ('f' | 'F', Value::Float(number)) => pad(sign(format!("{number:.*}", spec.precision.unwrap_or(6))), spec, true),
        ('e' | 'E', Value::Float(number)) => {
            let text = format!("{number:.*e}", spec.precision.unwrap_or(6));
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let text = number::with_exponent(mantissa, exponent.parse().unwrap_or_default());
            pad(sign(if verb == 'E' { text.to_uppercase() } else { text }), spec, true)
        }
        ('t', Value::Bool(value)) => pad(value.to_string(), spec, false),
        (_, Value::Nil) => format!("%!{verb}(<nil>)"),
        _ => format!("%!{verb}({}={value})", value.type_name()),
    }
}

/// `%.3g`
fn precise(value: f64, precision: usize) -> String {
    let precision = precision.max(1);
    let text = format!("{value:.*e}", precision - 1);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    let precision = i32::try_from(precision).unwrap_or(i32::MAX);
    if exponent < -4 || exponent >= precision {
        return number::with_exponent(&trim(mantissa), exponent);
    }
    trim(&format!("{value:.*}", usize::try_from(precision - 1 - exponent).unwrap_or_default()))
}

fn truncated(text: String, spec: &Spec, value: &Value) -> String {
    match (spec.precision, value) {
        (Some(precision), Value::Str(_)) => text.chars().take(precision).collect(),
        _ => text,
    }
}

/// `fmt.Sprint`: spaces between those of which neither is text.
pub(crate) fn sprint(given: &[Value]) -> String {
    let mut out = String::new();
    for (at, value) in given.iter().enumerate() {
        let is_text = |value: &Value| matches!(value, Value::Str(_));
        if at > 0 && !is_text(value) && !is_text(&given[at - 1]) {
            out.push(' ');
        }
        out.push_str(&value.to_string());
    }
    out
}
