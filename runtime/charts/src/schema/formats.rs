//! The formats that texts are held against, as Helm's validator does for schemas of drafts before 2019.

use std::net::{Ipv4Addr, Ipv6Addr};

use regex_lite::Regex;

use crate::semver::Version;

/// Says what is wrong, if something is.
type Check = fn(&str) -> Result<(), String>;

const FORMATS: [(&str, Check); 16] = [
    ("date", date),
    ("date-time", date_time),
    ("duration", duration),
    ("email", email),
    ("hostname", hostname),
    ("ipv4", ipv4),
    ("ipv6", ipv6),
    ("iri", uri),
    ("iri-reference", reference),
    ("json-pointer", pointer),
    ("regex", regex),
    ("semver", semver),
    ("time", time),
    ("uri", uri),
    ("uri-reference", reference),
    ("uuid", uuid),
];

/// What is wrong with a text of a format; nothing if nobody knows the format.
pub(super) fn fault(format: &str, text: &str) -> Option<String> {
    let (_, check) = FORMATS.into_iter().find(|(name, _)| *name == format)?;
    check(text).err()
}

fn must(is_so: bool, why: &str) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(why.to_owned()) }
}

/// A number of so many digits and what comes behind it.
fn digits(text: &str, count: usize) -> Option<(u32, &str)> {
    let (number, rest) = text.split_at_checked(count)?;
    let is_number = number.bytes().all(|b| b.is_ascii_digit());
    number.parse().ok().filter(|_| is_number).map(|number| (number, rest))
}

fn date(text: &str) -> Result<(), String> {
    let part = |text, count, ends: &str| {
        let (number, rest) = digits(text, count)?;
        Some((number, rest.strip_prefix(ends)?))
    };
    let read = || {
        let (year, rest) = part(text, 4, "-")?;
        let (month, rest) = part(rest, 2, "-")?;
        let (day, rest) = digits(rest, 2)?;
        rest.is_empty().then_some((year, month, day))
    };
    let wrong = |why: &str| format!("parsing time {text:?}{why}");
    let (year, month, day) = read().ok_or_else(|| wrong(" as \"2006-01-02\": cannot parse it"))?;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return Err(wrong(": month out of range")),
    };
    must((1..=days).contains(&day), &wrong(": day out of range"))
}

/// Hours and minutes.
fn clock(text: &str) -> Option<(u32, u32, &str)> {
    let (hour, rest) = digits(text, 2)?;
    let (minute, rest) = digits(rest.strip_prefix(':')?, 2)?;
    Some((hour, minute, rest))
}

fn time(text: &str) -> Result<(), String> {
    must(text.len() >= 9, "less than 9 characters long")?;
    let read = clock(text).and_then(|(hour, minute, rest)| {
        let (second, rest) = digits(rest.strip_prefix(':')?, 2)?;
        Some((hour, minute, second, rest))
    });
    let (hour, minute, second, mut rest) = read.ok_or("invalid hour/min/sec")?;
    must(hour <= 23 && minute <= 59 && second <= 60, "hour/min/sec out of range")?;
    if let Some(fraction) = rest.strip_prefix('.') {
        rest = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
        must(rest.len() < fraction.len(), "no digits in second fraction")?;
    }
    // What the clock shows in Greenwich: seconds are inserted at its midnight.
    let mut minutes = i64::from(hour * 60 + minute);
    if !matches!(rest, "z" | "Z") {
        must(rest.len() == 6, "offset must be 6 characters long")?;
        let (is_east, offset) = match (rest.strip_prefix('+'), rest.strip_prefix('-')) {
            (Some(offset), _) => (true, offset),
            (_, Some(offset)) => (false, offset),
            _ => return Err("offset must begin with plus/minus".to_owned()),
        };
        let (hours, more, _) = clock(offset).ok_or("invalid hour/min in offset")?;
        must(hours <= 23 && more <= 59, "hour/min in offset out of range")?;
        let ahead = i64::from(hours * 60 + more);
        minutes = (if is_east { minutes - ahead } else { minutes + ahead }).rem_euclid(24 * 60);
    }
    must(second < 60 || minutes == 24 * 60 - 1, "invalid leap second")
}

fn date_time(text: &str) -> Result<(), String> {
    must(text.len() >= 20, "less than 20 characters long")?;
    let parts = text.split_at_checked(10).and_then(|(day, rest)| Some((day, rest.strip_prefix(['t', 'T'])?)));
    let (day, rest) = parts.ok_or("11th character must be t or T")?;
    date(day).map_err(|why| format!("invalid date element: {why}"))?;
    time(rest).map_err(|why| format!("invalid time element: {why}"))
}

fn duration(text: &str) -> Result<(), String> {
    let rest = text.strip_prefix('P').ok_or("must start with P")?;
    must(!rest.is_empty(), "nothing after P")?;
    if let Some(weeks) = rest.strip_suffix('W') {
        must(!weeks.is_empty(), "no number in week")?;
        return must(weeks.bytes().all(|b| b.is_ascii_digit()), "invalid week");
    }
    let (days, times) = rest.split_once('T').map_or((rest, None), |(days, times)| (days, Some(times)));
    must(times != Some(""), "no time elements")?;
    must(!times.is_some_and(|times| times.contains('T')), "more than one T")?;
    units(days, "YMD")?;
    units(times.unwrap_or_default(), "HMS")
}

/// Numbers with units, each once and in order.
fn units(mut text: &str, all: &str) -> Result<(), String> {
    let mut left = all;
    while !text.is_empty() {
        let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
        must(rest.len() < text.len(), "missing number")?;
        let unit = rest.chars().next().ok_or("missing unit")?;
        left = match left.split_once(unit) {
            Some((_, left)) => left,
            None if all.contains(unit) => return Err(format!("unit {unit:?} out of order")),
            None => return Err(format!("invalid unit {unit:?}")),
        };
        text = &rest[unit.len_utf8()..];
    }
    Ok(())
}

fn hostname(text: &str) -> Result<(), String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    must(text.len() <= 253, "more than 253 characters long")?;
    for label in text.split('.') {
        must((1..=63).contains(&label.len()), "label must be 1 to 63 characters long")?;
        must(!label.starts_with('-'), "label starts with hyphen")?;
        must(!label.ends_with('-'), "label ends with hyphen")?;
        characters(label, |c| c.is_ascii_alphanumeric() || c == '-')?;
    }
    Ok(())
}

fn characters(text: &str, is_known: impl Fn(char) -> bool) -> Result<(), String> {
    text.chars().find(|c| !is_known(*c)).map_or(Ok(()), |odd| Err(format!("invalid character {odd:?}")))
}

fn email(text: &str) -> Result<(), String> {
    must(text.len() <= 254, "more than 255 characters long")?;
    let (local, domain) = text.rsplit_once('@').ok_or("missing @")?;
    must(local.len() <= 64, "local part more than 64 characters long")?;
    if let Some(inside) = local.strip_prefix('"').and_then(|local| local.strip_suffix('"')) {
        must(!inside.contains(['\\', '"']), "backslash and quote are not allowed within quoted local part")?;
    } else {
        must(!local.starts_with('.'), "starts with dot")?;
        must(!local.ends_with('.'), "ends with dot")?;
        must(!local.contains(".."), "consecutive dots")?;
        characters(local, |c| c.is_ascii_alphanumeric() || ".!#$%&'*+-/=?^_`{|}~".contains(c))?;
    }
    match domain.strip_prefix('[').and_then(|domain| domain.strip_suffix(']')) {
        None => hostname(domain).map_err(|why| format!("invalid domain: {why}")),
        Some(address) => match address.strip_prefix("IPv6:") {
            Some(address) => ipv6(address).map_err(|why| format!("invalid ipv6 address: {why}")),
            None => ipv4(address).map_err(|why| format!("invalid ipv4 address: {why}")),
        },
    }
}

fn ipv4(text: &str) -> Result<(), String> {
    let groups: Vec<&str> = text.split('.').collect();
    must(groups.len() == 4, "expected four decimals")?;
    must(!groups.iter().any(|group| group.len() > 1 && group.starts_with('0')), "leading zeros")?;
    must(text.parse::<Ipv4Addr>().is_ok(), "decimal must be between 0 and 255")
}

fn ipv6(text: &str) -> Result<(), String> {
    must(text.contains(':'), "missing colon")?;
    must(!text.contains('%'), "zone id is not a part of ipv6 address")?;
    text.parse::<Ipv6Addr>().map(drop).map_err(|_| format!("ParseAddr({text:?}): unable to parse IP"))
}

fn pointer(text: &str) -> Result<(), String> {
    must(text.is_empty() || text.starts_with('/'), "not starting with /")?;
    let is_escaped = |rest: &str| rest.starts_with(['0', '1']);
    must(text.split('~').skip(1).all(is_escaped), "~ must be followed by 0 or 1")
}

fn regex(text: &str) -> Result<(), String> {
    Regex::new(text).map(drop).map_err(|error| error.to_string())
}

fn semver(text: &str) -> Result<(), String> {
    must(Version::parse(text).is_some_and(|version| version.to_string() == text), "it is no semantic version")
}

fn uuid(text: &str) -> Result<(), String> {
    let lengths = [8, 4, 4, 4, 12];
    let groups: Vec<&str> = text.split('-').collect();
    must(groups.len() == lengths.len(), "must have 5 elements")?;
    for (index, (group, length)) in groups.into_iter().zip(lengths).enumerate() {
        must(group.len() == length, &format!("element {} must be {length} characters long", index + 1))?;
        let odd = group.chars().find(|c| !c.is_ascii_hexdigit());
        odd.map_or(Ok(()), |odd| Err(format!("non-hex character {odd:?}")))?;
    }
    Ok(())
}

fn uri(text: &str) -> Result<(), String> {
    url(text)?;
    must(scheme(text).is_some(), "relative url")
}

fn reference(text: &str) -> Result<(), String> {
    must(!text.contains('\\'), "contains \\")?;
    url(text)
}

/// The scheme of a URL and what follows.
fn scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let is_one = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    is_one.then_some((scheme, rest))
}

fn url(text: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("parse {text:?}: {why}"));
    if text.contains(|c: char| c.is_ascii_control()) {
        return wrong("net/url: invalid control character in URL");
    }
    if text.starts_with(':') {
        return wrong("missing protocol scheme");
    }
    let rest = scheme(text).map_or(text, |(_, rest)| rest);
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let is_relative = scheme(text).is_none() && !path.starts_with('/');
    if is_relative && path.split('/').next().is_some_and(|first| first.contains(':')) {
        return wrong("first path segment in URL cannot contain colon");
    }
    let is_escape = |rest: &&str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    if path.split('%').skip(1).any(|rest| !is_escape(&rest)) {
        return wrong("invalid URL escape");
    }
    let Some(authority) = path.strip_prefix("//").map(|rest| rest.split('/').next().unwrap_or_default()) else {
        return Ok(());
    };
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (name, port) = match host.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(None) => return wrong("missing ']' in host"),
        Some(Some((address, port))) => {
            ipv6(address).map_err(|why| format!("invalid ipv6 address: {why}"))?;
            ("", port.strip_prefix(':').or((!port.is_empty()).then_some("?")))
        }
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    if port.is_some_and(|port| !port.bytes().all(|b| b.is_ascii_digit())) {
        return wrong("invalid port after host");
    }
    match name.chars().find(|c| c.is_ascii() && " \"<>\\^`{|}".contains(*c)) {
        Some(odd) => wrong(&format!("invalid character {:?} in host name", odd.to_string())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_takes_what_it_is_and_tells_what_it_is_not() {
        let rows: [(&str, &[&str], &[&str]); 16] = [
            (
                "date",
                &["2024-02-29", "2000-12-31"],
                &["2023-02-29", "2024-13-01", "2024-1-01", "2024-01-01Z", "+024-01-01"],
            ),
            (
                "date-time",
                &["2024-01-01T00:00:00Z", "1998-12-31t15:59:60.123-08:00"],
                &["2024-01-01 00:00:00Z", "2024-01-01T24:00:00Z", "2024-01-01T00:00:00", "1998-12-31T22:59:60Z"],
            ),
            ("time", &["12:00:00z", "00:59:60+01:00"], &["12:00:00", "12:00:00.Z", "12:00:00+1:00", "12:60:00Z"]),
            (
                "duration",
                &["P4Y", "P1DT2H", "PT36H", "P2W"],
                &["4D", "P", "P1", "P1H", "P1DT", "P1D1Y", "P2W1D", "PTT1S"],
            ),
            (
                "email",
                &["a@b.example", "\"a b\"@b", "a@[127.0.0.1]"],
                &["a", ".a@b", "a..b@c", "a b@c", "a@-b", "a@[IPv6:1]"],
            ),
            ("hostname", &["a", "www.Example-1.com."], &["", "-a", "a-.b", "a_b", "a..b"]),
            ("ipv4", &["10.0.0.1"], &["10.0.0", "10.0.0.256", "010.0.0.1", "a.b.c.d"]),
            ("ipv6", &["::1", "fe80::1:2", "::ffff:1.2.3.4"], &["1", "::g", "fe80::1%eth0", "12345::"]),
            ("json-pointer", &["", "/a/~0~1"], &["a", "/a~", "/~2"]),
            ("regex", &["^a+$"], &["("]),
            ("semver", &["1.2.3", "1.0.0-rc.1+b"], &["1.2", "v1.2.3", "1.2.x"]),
            (
                "uri",
                &["https://[::1]:80/a?b#c", "urn:a:b"],
                &["/a", "a", "http://a b/", "http://[::1", "http://a:b", "http://a/%zz"],
            ),
            ("uri-reference", &["/a", "a", "#b", "//host/a"], &["a\\b", ":a", "1a:b"]),
            ("iri", &["https://ü.example/"], &["ü"]),
            ("iri-reference", &["ü"], &["a\u{1}"]),
            (
                "uuid",
                &["2EB8AA08-aa98-11ea-b4aa-73b441d16380"],
                &[
                    "2eb8aa08aa9811eab4aa73b441d16380",
                    "2eb8aa08-aa98-11ea-b4aa-73b441d1638",
                    "2eb8aa08-aa98-11ea-b4ga-73b441d16380",
                ],
            ),
        ];
        for (format, good, bad) in rows {
            for text in good {
                assert_eq!(fault(format, text), None, "{format} {text:?}");
            }
            for text in bad {
                assert!(fault(format, text).is_some(), "{format} {text:?}");
            }
        }
        assert_eq!(fault("quantity", "anything"), None);
    }
}
