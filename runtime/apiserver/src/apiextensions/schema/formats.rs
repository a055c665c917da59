//! Formats of texts that are checked.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::civil::Date;
use kiln_apimachinery::{duration, names};

/// Those that Kubernetes knows, without dashes.
const KNOWN: &[&str] = &[
    "bsonobjectid",
    "uri",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "isbn",
    "isbn10",
    "isbn13",
    "creditcard",
    "ssn",
    "hexcolor",
    "rgbcolor",
    "byte",
    "password",
    "date",
    "duration",
    "datetime",
    "k8sshortname",
    "k8slongname",
];

/// True if the format of a type is one that is known.
pub(crate) fn known(kind: &str, format: &str) -> bool {
    match kind {
        "" | "string" => KNOWN.contains(&format.replace('-', "").as_str()),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    }
}

/// The format of a schema that is checked, if it is.
pub(super) fn fits(format: &str, text: &str) -> bool {
    match format.replace('-', "").as_str() {
        "uri" => is_uri(text),
        "email" => is_email(text),
        "hostname" => is_hostname(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(text),
        "mac" => is_mac(text),
        "bsonobjectid" => text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit()),
        "uuid" => is_uuid(text, None),
        "uuid3" => is_uuid(text, Some(b'3')),
        "uuid4" => is_uuid(text, Some(b'4')),
        "uuid5" => is_uuid(text, Some(b'5')),
        "isbn" => is_isbn10(text) || is_isbn13(text),
        "isbn10" => is_isbn10(text),
        "isbn13" => is_isbn13(text),
        "creditcard" => is_card(text),
        "ssn" => is_ssn(text),
        "hexcolor" => {
            let digits = text.strip_prefix('#').unwrap_or(text);
            matches!(digits.len(), 3 | 6) && digits.bytes().all(|b| b.is_ascii_hexdigit())
        }
        "rgbcolor" => is_rgb(text),
        "byte" => STANDARD.decode(text).is_ok(),
        "date" => is_date(text),
        "datetime" => is_date_time(text),
        "duration" => is_duration(text),
        "k8sshortname" => names::dns1123_label(text).is_empty(),
        "k8slongname" => names::dns1123_subdomain(text).is_empty(),
        _ => true,
    }
}

/// An absolute address, or a path.
fn is_uri(text: &str) -> bool {
    if text.starts_with('/') {
        return !text.contains(char::is_whitespace);
    }
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let named = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    named && !rest.is_empty() && !text.contains(|c: char| c.is_control() || c == ' ')
}

fn is_email(text: &str) -> bool {
    let address = text.rsplit_once('<').and_then(|(_, a)| a.strip_suffix('>')).unwrap_or(text);
    let Some((name, domain)) = address.rsplit_once('@') else { return false };
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | ',' | ';');
    !name.is_empty() && !domain.is_empty() && !address.contains(odd) && !name.contains('@')
}

fn is_hostname(text: &str) -> bool {
    let letter = |c: char| c.is_alphanumeric();
    let label = |part: &str| {
        !part.is_empty()
            && part.len() <= 63
            && part.starts_with(letter)
            && part.ends_with(letter)
            && part.chars().all(|c| c == '-' || letter(c))
    };
    let parts: Vec<&str> = text.split('.').collect();
    let last = parts.last().copied().unwrap_or_default();
    let top = parts.len() == 1 || (last.chars().count() >= 2 && last.chars().all(char::is_alphabetic));
    text.len() <= 255 && parts.iter().all(|p| label(p)) && top
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let plain = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
    let bits = bits.parse::<u8>().ok().filter(|_| plain);
    let most = match (address.parse::<Ipv4Addr>(), address.parse::<Ipv6Addr>()) {
        (Ok(_), _) => 32,
        (_, Ok(_)) => 128,
        _ => return false,
    };
    bits.is_some_and(|b| b <= most)
}

fn is_mac(text: &str) -> bool {
    let hex = |part: &str, digits: usize| part.len() == digits && part.bytes().all(|b| b.is_ascii_hexdigit());
    let of = |mark: char, digits: usize| {
        let parts: Vec<&str> = text.split(mark).collect();
        let bytes = parts.len() * digits / 2;
        matches!(bytes, 6 | 8 | 20) && parts.iter().all(|p| hex(p, digits))
    };
    of(':', 2) || of('-', 2) || of('.', 4)
}

fn is_uuid(text: &str, version: Option<u8>) -> bool {
    let mut digits = Vec::with_capacity(32);
    let mut rest = text;
    for count in [8, 4, 4, 4, 12] {
        rest = if digits.is_empty() { rest } else { rest.strip_prefix('-').unwrap_or(rest) };
        let Some(group) = rest.as_bytes().get(..count).filter(|g| g.iter().all(u8::is_ascii_hexdigit)) else {
            return false;
        };
        digits.extend_from_slice(group);
        rest = &rest[count..];
    }
    // Version 3 says nothing of the variant.
    let variant = version.is_none_or(|v| v == b'3' || b"89abAB".contains(&digits[16]));
    rest.is_empty() && version.is_none_or(|v| digits[12] == v) && variant
}

fn digits(text: &str) -> Vec<u32> {
    text.chars().filter(|c| !matches!(c, '-' | ' ')).filter_map(|c| c.to_digit(10)).collect()
}

fn is_isbn10(text: &str) -> bool {
    let plain: Vec<char> = text.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
    let value = |(at, c): (usize, &char)| match c {
        'X' if at == 9 => Some(10),
        c => c.to_digit(10),
    };
    let values: Option<Vec<u32>> = plain.iter().enumerate().map(value).collect();
    values.is_some_and(|v| v.len() == 10 && v.iter().zip(1..).map(|(d, n)| d * n).sum::<u32>() % 11 == 0)
}

fn is_isbn13(text: &str) -> bool {
    let found = digits(text);
    let plain = text.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | ' '));
    let sum: u32 = found.iter().enumerate().map(|(i, d)| d * if i % 2 == 0 { 1 } else { 3 }).sum();
    plain && found.len() == 13 && sum.is_multiple_of(10)
}

fn is_card(text: &str) -> bool {
    let found = digits(text);
    let sum: u32 = found.iter().rev().enumerate().fold(0, |sum, (i, d)| {
        let double = if i % 2 == 1 { d * 2 } else { *d };
        sum + if double > 9 { double - 9 } else { double }
    });
    (13..=16).contains(&found.len()) && sum.is_multiple_of(10)
}

fn is_ssn(text: &str) -> bool {
    let plain: String = text.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
    plain.len() == 9 && text.len() <= 11 && plain.bytes().all(|b| b.is_ascii_digit())
}

fn is_rgb(text: &str) -> bool {
    let inner = text.strip_prefix("rgb(").and_then(|t| t.strip_suffix(')'));
    let parts: Vec<&str> = inner.unwrap_or_default().split(',').map(str::trim).collect();
    parts.len() == 3 && parts.iter().all(|p| p.parse::<u8>().is_ok())
}

fn is_date(text: &str) -> bool {
    let shape = text.len() == 10 && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-';
    shape && text.parse::<Date>().is_ok()
}

fn is_date_time(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let Some((date, time)) = text.split_once('t') else { return false };
    if !is_date(date) {
        return false;
    }
    let bytes = time.as_bytes();
    let two = |at: usize, most: u8| {
        let pair = time.get(at..at + 2).filter(|p| p.bytes().all(|b| b.is_ascii_digit()));
        pair.and_then(|p| p.parse::<u8>().ok()).is_some_and(|n| n <= most)
    };
    let clock = two(0, 23) && bytes.get(2) == Some(&b':') && two(3, 59) && bytes.get(5) == Some(&b':') && two(6, 59);
    let mut rest = time.get(8..).unwrap_or_default();
    if let Some(fraction) = rest.strip_prefix('.') {
        rest = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
        if rest.len() == fraction.len() {
            return false;
        }
    }
    let offset = |rest: &str| {
        let b = rest.as_bytes();
        b.len() == 6
            && matches!(b[0], b'+' | b'-')
            && b[3] == b':'
            && [1, 2, 4, 5].iter().all(|i| b[*i].is_ascii_digit())
    };
    clock && (rest == "z" || offset(rest))
}

/// A duration of Go, `1h30m`, or one in words, `3 days`.
fn is_duration(text: &str) -> bool {
    duration::parse(text).is_ok() || {
        let unit = text.trim_start_matches(|c: char| c.is_ascii_digit()).trim().to_lowercase();
        let units = [
            "ns", "nano", "nanos", "us", "µs", "micro", "micros", "ms", "milli", "millis", "s", "sec", "secs", "m",
            "min", "mins", "h", "hr", "hour", "hours", "d", "day", "days", "w", "wk", "week", "weeks",
        ];
        let long = ["nano", "micro", "milli", "sec", "min", "hour", "day", "week"];
        text.starts_with(|c: char| c.is_ascii_digit())
            && (units.contains(&unit.as_str()) || long.iter().any(|u| unit.starts_with(u)))
    }
}
