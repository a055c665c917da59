//! Times as Go reads them: RFC 3339 and nothing else, refused in Go's words.

use std::borrow::Cow;

use jiff::Timestamp;
use kiln_apimachinery::time;

/// The layout of a `Time`, as Go writes layouts.
const SECONDS: &str = "2006-01-02T15:04:05Z07:00";
/// The layout of a `MicroTime`.
const MICROS: &str = "2006-01-02T15:04:05.000000Z07:00";

/// A time with whole seconds in the form that is stored. The error is Go's.
pub(crate) fn seconds(text: &str) -> Result<Cow<'_, str>, String> {
    read(text, SECONDS).map(|t| if text.len() == 20 { Cow::Borrowed(text) } else { Cow::Owned(time::rfc3339(t)) })
}

/// A time with microseconds in the form that is stored. The error is Go's.
pub(crate) fn micros(text: &str) -> Result<Cow<'_, str>, String> {
    read(text, MICROS).map(|t| if text.len() == 27 { Cow::Borrowed(text) } else { Cow::Owned(time::rfc3339_micro(t)) })
}

fn read(text: &str, layout: &str) -> Result<Timestamp, String> {
    scan(text, layout).map_err(|(rest, element)| match element {
        OUT_OF_RANGE => format!("parsing time {text:?}: {rest}"),
        EXTRA => format!("parsing time {text:?}: extra text: {rest:?}"),
        _ => format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {element:?}"),
    })?;
    time::parse(text).ok_or_else(|| format!("parsing time {text:?}: day out of range"))
}

/// Stands for an element that was read and can't be.
const OUT_OF_RANGE: &str = "range";
/// Stands for what is behind the last element.
const EXTRA: &str = "extra";

/// Looks at the elements of a layout one by one. The error is what could not be read and the element that it should have
/// been, or one of the two marks.
fn scan<'a>(text: &'a str, layout: &str) -> Result<(), (&'a str, &'static str)> {
    let mut rest = text;
    let number = |rest: &mut &'a str, digits: usize, element: &'static str| -> Result<u32, (&'a str, &'static str)> {
        let found = rest.get(..digits).filter(|d| d.bytes().all(|b| b.is_ascii_digit())).ok_or((*rest, element))?;
        *rest = &rest[digits..];
        found.parse().map_err(|_| (*rest, element))
    };
    let fixed = |rest: &mut &'a str, mark: &'static str| -> Result<(), (&'a str, &'static str)> {
        *rest = rest.strip_prefix(mark).ok_or((*rest, mark))?;
        Ok(())
    };
    let range = |ok: bool, what: &'static str| if ok { Ok(()) } else { Err((what, OUT_OF_RANGE)) };
    number(&mut rest, 4, "2006")?;
    fixed(&mut rest, "-")?;
    let month = number(&mut rest, 2, "01")?;
    range((1..=12).contains(&month), "month out of range")?;
    fixed(&mut rest, "-")?;
    let day = number(&mut rest, 2, "02")?;
    range((1..=31).contains(&day), "day out of range")?;
    fixed(&mut rest, "T")?;
    let hour = number(&mut rest, 2, "15")?;
    range(hour < 24, "hour out of range")?;
    fixed(&mut rest, ":")?;
    let minute = number(&mut rest, 2, "04")?;
    range(minute < 60, "minute out of range")?;
    fixed(&mut rest, ":")?;
    let second = number(&mut rest, 2, "05")?;
    range(second < 60, "second out of range")?;
    if layout == MICROS {
        let fraction =
            rest.strip_prefix('.').and_then(|r| r.get(..6)).filter(|f| f.bytes().all(|b| b.is_ascii_digit()));
        fraction.ok_or((rest, ".000000"))?;
        rest = &rest[7..];
    } else if let Some(fraction) = rest.strip_prefix('.') {
        rest = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    if let Some(rest) = rest.strip_prefix('Z') {
        return if rest.is_empty() { Ok(()) } else { Err((rest, EXTRA)) };
    }
    let zone = rest.as_bytes();
    match zone {
        [b'+' | b'-', h1, h2, b':', m1, m2] if [h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit()) => Ok(()),
        _ => Err((rest, "Z07:00")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_take_the_form_that_is_stored() {
        assert!(matches!(seconds("2026-01-02T03:04:05Z"), Ok(Cow::Borrowed(_))));
        assert_eq!(seconds("2026-01-02T03:04:05.9+02:00").unwrap(), "2026-01-02T01:04:05Z");
        assert!(matches!(micros("2026-01-02T03:04:05.000006Z"), Ok(Cow::Borrowed(_))));
        assert_eq!(micros("2026-01-02T03:04:05.000006-01:00").unwrap(), "2026-01-02T04:04:05.000006Z");
    }

    #[test]
    fn what_is_no_time_is_refused_in_the_words_of_go() {
        let of = |text: &str, rest: &str, element: &str| {
            format!("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {rest:?} as {element:?}")
        };
        for (text, rest, element) in [
            ("noon", "noon", "2006"),
            ("", "", "2006"),
            ("2026/01", "/01", "-"),
            ("2026-01-02 03:04:05Z", " 03:04:05Z", "T"),
            ("2026-01-02T03:04:05", "", "Z07:00"),
            ("2026-01-02T03:04:05[UTC]", "[UTC]", "Z07:00"),
        ] {
            assert_eq!(seconds(text).unwrap_err(), of(text, rest, element));
        }
        assert_eq!(
            seconds("2026-13-02T03:04:05Z").unwrap_err(),
            "parsing time \"2026-13-02T03:04:05Z\": month out of range"
        );
        assert_eq!(
            seconds("2026-02-30T03:04:05Z").unwrap_err(),
            "parsing time \"2026-02-30T03:04:05Z\": day out of range"
        );
        assert!(micros("2026-01-02T03:04:05Z").unwrap_err().ends_with("cannot parse \"Z\" as \".000000\""));
        assert!(seconds("2026-é1-02T03:04:05Z").is_err());
    }
}
