//! Lengths of time as Go reads and writes them (`time.ParseDuration`, `time.Duration`): `1h30m`, `2.5s`, `-10ms`. APIs, flags
//! and messages of Kubernetes all have them in this form.

use std::time::Duration;

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// Units with their nanoseconds, the largest first. Micro has three spellings.
const UNITS: [(&str, u64); 8] = [
    ("h", 3600 * SECOND),
    ("m", 60 * SECOND),
    ("s", SECOND),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ns", 1),
];

/// The text is no length of time, or one of more than 292 years, or a negative one where there can be none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no duration; write it as 1h30m or 90s")]
pub struct DurationError(String);

/// Flags' values are refused in a sentence.
impl From<DurationError> for String {
    fn from(error: DurationError) -> Self {
        error.to_string()
    }
}

/// Nanoseconds of a length of time, which may be negative: numbers with units, or a bare `0`.
///
/// # Errors
/// [`DurationError`]: anything else.
pub fn parse(text: &str) -> Result<i64, DurationError> {
    nanoseconds(text).ok_or_else(|| DurationError(text.to_owned()))
}

/// As [`parse`], where time runs forward only.
///
/// # Errors
/// [`DurationError`], for negative ones too.
pub fn parse_unsigned(text: &str) -> Result<Duration, DurationError> {
    let nanoseconds = nanoseconds(text).and_then(|nanoseconds| u64::try_from(nanoseconds).ok());
    nanoseconds.map(Duration::from_nanos).ok_or_else(|| DurationError(text.to_owned()))
}

fn nanoseconds(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let mut total = 0_u64;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c| !is_number(c))?);
        let (unit, after) = after.split_at(after.find(is_number).unwrap_or(after.len()));
        total = total.checked_add(part(number, unit)?)?;
        rest = after;
    }
    if negative { 0_i64.checked_sub_unsigned(total) } else { i64::try_from(total).ok() }
}

/// Nanoseconds of a number with its unit. What is less than a nanosecond is cut off.
fn part(number: &str, unit: &str) -> Option<u64> {
    let (_, unit) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // As Go reckons it, so that 0.3333333333333333333h are twenty minutes: in floating point, of as many digits as fit a number.
    let (mut above, mut scale) = (0_i64, 1.0);
    for digit in fraction.bytes() {
        let Some(longer) = above.checked_mul(10).and_then(|above| above.checked_add(i64::from(digit - b'0'))) else {
            break;
        };
        above = longer;
        scale *= 10.0;
    }
    let fraction = above as f64 * (unit as f64 / scale);
    whole.checked_mul(unit)?.checked_add(fraction as u64)
}

/// Writes one of so many nanoseconds: `0s`, `812ms`, `1.5s`, `1m2.003s`, `2h0m0s`.
pub fn format(nanoseconds: i64) -> String {
    let (sign, size) = (if nanoseconds < 0 { "-" } else { "" }, nanoseconds.unsigned_abs());
    if size < SECOND {
        let unit = [("ms", 1_000_000), ("µs", 1_000), ("ns", 1)].into_iter().find(|(_, unit)| size >= *unit);
        return unit.map_or("0s".to_owned(), |(name, unit)| format!("{sign}{}{name}", decimal(size, unit)));
    }
    let (minutes, seconds) = (size / (60 * SECOND), decimal(size % (60 * SECOND), SECOND));
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// So many units, a power of ten, without zeros at the end of the fraction.
fn decimal(nanoseconds: u64, unit: u64) -> String {
    let digits = unit.ilog10() as usize;
    let text = format!("{}.{:0digits$}", nanoseconds / unit, nanoseconds % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let rows = [
            ("0", 0),
            ("-0", 0),
            ("+5s", 5_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1m30.5s", 90_500_000_000),
            ("2s500ms", 2_500_000_000),
            (".5h", 1_800_000_000_000),
            ("1.s", 1_000_000_000),
            ("-1.5ms", -1_500_000),
            ("3us4µs5μs6ns", 12_006),
            ("0.3333333333333333333h", 1_200_000_000_000),
            ("1.9ns", 1),
            ("2562047h47m16.854775807s", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
        ];
        for (text, nanoseconds) in rows {
            assert_eq!(parse(text), Ok(nanoseconds), "{text}");
        }
        for text in
            ["", "-", "3", "s", ".s", "1d", "1.2.3s", "1 s", "1s ", "--1s", "3000000h", "9223372036854775808ns", "1e3s"]
        {
            assert_eq!(parse(text), Err(DurationError(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn where_time_runs_forward_only_a_negative_duration_is_none() {
        assert_eq!(parse_unsigned("1m0.25s"), Ok(Duration::from_millis(60_250)));
        let error = parse_unsigned("-1s").unwrap_err();
        assert_eq!(error.to_string(), "`-1s` is no duration; write it as 1h30m or 90s");
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        let rows = [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (812_000_000, "812ms"),
            (-1_500_000, "-1.5ms"),
            (1_500_000_000, "1.5s"),
            (62_003_000_000, "1m2.003s"),
            (160_000_000_000, "2m40s"),
            (-7_200_000_000_000, "-2h0m0s"),
            (i64::MAX, "2562047h47m16.854775807s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ];
        for (nanoseconds, text) in rows {
            assert_eq!(format(nanoseconds), text);
            assert_eq!(parse(text), Ok(nanoseconds));
        }
    }
}
