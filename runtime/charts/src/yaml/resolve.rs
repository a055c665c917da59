//! What a plain scalar is: yaml.v2's `resolve`.

use super::YamlError;

/// A plain scalar's value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    Unsigned(u64),
    Float(f64),
    /// Text, or a time, which is taken as text.
    Text,
}

/// The value of a scalar without a tag.
pub(crate) fn resolve(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Scalar::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Scalar::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        _ => {}
    }
    match text.as_bytes()[0] {
        b'.' => text.parse().map_or(Scalar::Text, Scalar::Float),
        b'+' | b'-' | b'0'..=b'9' => number(text),
        _ => Scalar::Text,
    }
}

/// Whether a text looks like a time: Go's takes those as text all the same, but does not write them without quotes.
pub(crate) fn is_time(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits != 4 || text.as_bytes().get(4) != Some(&b'-') {
        return false;
    }
    let parts: Vec<&str> = text.splitn(3, '-').collect();
    let [_, month, rest] = parts.as_slice() else { return false };
    let day: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let within = |text: &str, most: u32| {
        (1..=2).contains(&text.len()) && text.parse::<u32>().is_ok_and(|number| (1..=most).contains(&number))
    };
    if !within(month, 12) || !within(&day, 31) {
        return false;
    }
    match rest[day.len()..].chars().next() {
        None => true,
        Some('T' | 't' | ' ') => rest[day.len() + 1..].split(':').count() >= 3,
        Some(_) => false,
    }
}

fn number(text: &str) -> Scalar {
    if is_time(text) {
        return Scalar::Text;
    }
    let plain = text.replace('_', "");
    if let Some(int) = go_int(&plain) {
        return match (i64::try_from(int), u64::try_from(int)) {
            (Ok(int), _) => Scalar::Int(int),
            (_, Ok(int)) => Scalar::Unsigned(int),
            _ => Scalar::Float(int as f64),
        };
    }
    if is_float(&plain) { plain.parse().map_or(Scalar::Text, Scalar::Float) } else { Scalar::Text }
}

/// `strconv.ParseInt(text, 0, 64)`, of either sign.
pub(crate) fn go_int(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.get(..2).map(str::to_ascii_lowercase);
    let (base, digits) = match lower.as_deref() {
        Some("0x") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let value = i128::from_str_radix(digits, base).ok()?;
    let value = if negative { -value } else { value };
    (value >= i128::from(i64::MIN) && value <= i128::from(u64::MAX)).then_some(value)
}

/// `^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`
fn is_float(text: &str) -> bool {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let whole = digits(text);
    let mut rest = &text[whole..];
    if let Some(behind) = rest.strip_prefix('.') {
        let count = digits(behind);
        if whole == 0 && count == 0 {
            return false;
        }
        rest = &behind[count..];
    } else if whole == 0 {
        return false;
    }
    let Some(exponent) = rest.strip_prefix(['e', 'E']) else { return rest.is_empty() };
    let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    !exponent.is_empty() && digits(exponent) == exponent.len()
}

/// The value of a scalar with one of YAML's own tags.
pub(super) fn tagged(tag: &str, text: &str) -> Result<Scalar, YamlError> {
    let short = tag.strip_prefix("tag:yaml.org,2002:").unwrap_or(tag);
    let value = resolve(text);
    let fits = match short {
        "str" | "timestamp" | "!" => return Ok(Scalar::Text),
        "bool" => matches!(value, Scalar::Bool(_)),
        "int" => matches!(value, Scalar::Int(_) | Scalar::Unsigned(_)),
        "null" => matches!(value, Scalar::Null),
        "float" => match value {
            Scalar::Int(int) => return Ok(Scalar::Float(int as f64)),
            Scalar::Float(_) => true,
            _ => false,
        },
        // Another's tag: what it stands on is text.
        _ => return Ok(Scalar::Text),
    };
    if fits { Ok(value) } else { Err(YamlError::new(format!("cannot decode `{text}` as a !!{short}"))) }
}
