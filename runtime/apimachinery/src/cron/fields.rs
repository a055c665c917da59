//! The five fields of a schedule, each a set of numbers.

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, Zoned};

use super::CronError;

/// Months and days of the week by their first three letters.
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The words that stand for five fields.
const WORDS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// In a set: the field was a star, so that of the two kinds of days the other one counts alone.
const STAR: u64 = 1 << 63;
/// Years after which nothing more is looked for.
const YEARS: i16 = 5;

/// What a field may hold.
struct Bounds {
    low: u64,
    high: u64,
    names: &'static [&'static str],
}

const BOUNDS: [Bounds; 5] = [
    Bounds { low: 0, high: 59, names: &[] },
    Bounds { low: 0, high: 23, names: &[] },
    Bounds { low: 1, high: 31, names: &[] },
    Bounds { low: 1, high: 12, names: &MONTHS },
    Bounds { low: 0, high: 6, names: &DAYS },
];

/// Sets of minutes, hours, days of the month, months and days of the week: bit 3 is the number 3.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields([u64; 5]);

impl Fields {
    pub(super) fn parse(text: &str) -> Result<Self, CronError> {
        let text = match text.starts_with('@') {
            false => text,
            true => {
                let unknown = || CronError(format!("unrecognized descriptor: {text}"));
                WORDS.iter().find(|(word, _)| *word == text).map(|(_, fields)| *fields).ok_or_else(unknown)?
            }
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        if words.len() != BOUNDS.len() {
            let (count, all) = (words.len(), words.join(" "));
            return Err(CronError(format!("expected exactly 5 fields, found {count}: [{all}]")));
        }
        let mut sets = [0; 5];
        for ((set, word), bounds) in sets.iter_mut().zip(words).zip(&BOUNDS) {
            for part in word.split(',').filter(|part| !part.is_empty()) {
                *set |= range(part, bounds).map_err(CronError)?;
            }
        }
        Ok(Self(sets))
    }

    /// The first time from `at` on.
    pub(super) fn first(&self, mut at: Zoned) -> Option<Timestamp> {
        let Self([minutes, hours, _, months, _]) = *self;
        let has = |set: u64, number: i8| set & (1 << number) != 0;
        let last_year = at.year().saturating_add(YEARS);
        while at.year() <= last_year {
            at = if !has(months, at.month()) {
                start(at.date().first_of_month().checked_add(jiff::Span::new().months(1)).ok()?, &at)?
            } else if !self.has_day(at.date()) {
                start(at.date().tomorrow().ok()?, &at)?
            } else if !has(hours, at.hour()) {
                // By the time that passes, not by the clock, which may be turned.
                let into = i64::from(at.minute()) * 60 + i64::from(at.second());
                at.checked_add(SignedDuration::from_secs(3600 - into)).ok()?
            } else if !has(minutes, at.minute()) || at.second() != 0 {
                at.checked_add(SignedDuration::from_secs(60 - i64::from(at.second()))).ok()?
            } else {
                return Some(at.timestamp());
            };
        }
        None
    }

    fn has_day(&self, date: Date) -> bool {
        let Self([_, _, days, _, weekdays]) = *self;
        let day = days & (1 << date.day()) != 0;
        let weekday = weekdays & (1 << date.weekday().to_sunday_zero_offset()) != 0;
        if (days | weekdays) & STAR != 0 { day && weekday } else { day || weekday }
    }
}

/// The start of a day in the zone of another time.
fn start(date: Date, like: &Zoned) -> Option<Zoned> {
    date.to_zoned(like.time_zone().clone()).ok()?.start_of_day().ok()
}

/// `*`, `5`, `1-5` or one of them with `/2`.
fn range(text: &str, bounds: &Bounds) -> Result<u64, String> {
    let steps: Vec<&str> = text.split('/').collect();
    let ends: Vec<&str> = steps[0].split('-').collect();
    let mut star = 0;
    let (low, mut high) = match ends.as_slice() {
        ["*" | "?", ..] => {
            star = STAR;
            (bounds.low, bounds.high)
        }
        [one] => number(one, bounds.names).map(|n| (n, n))?,
        [low, high] => (number(low, bounds.names)?, number(high, bounds.names)?),
        _ => return Err(format!("too many hyphens: {text}")),
    };
    let step = match steps.as_slice() {
        [_] => 1,
        [_, step] => {
            if ends.len() == 1 {
                high = bounds.high;
            }
            number(step, &[])?
        }
        _ => return Err(format!("too many slashes: {text}")),
    };
    if low < bounds.low {
        return Err(format!("beginning of range ({low}) below minimum ({}): {text}", bounds.low));
    }
    if high > bounds.high {
        return Err(format!("end of range ({high}) above maximum ({}): {text}", bounds.high));
    }
    if low > high {
        return Err(format!("beginning of range ({low}) beyond end of range ({high}): {text}"));
    }
    if step > 1 {
        star = 0;
    }
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    if step == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    Ok((low..=high).step_by(step).fold(star, |set, n| set | 1 << n))
}

fn number(text: &str, names: &[&str]) -> Result<u64, String> {
    let lower = text.to_lowercase();
    if let Some(at) = names.iter().position(|name| *name == lower) {
        // Months count from one, days of the week from zero.
        return Ok(at as u64 + u64::from(names.len() == MONTHS.len()));
    }
    match text.parse::<i64>() {
        Ok(n) => u64::try_from(n).map_err(|_| format!("negative number ({n}) not allowed: {text}")),
        Err(_) => Err(format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax")),
    }
}
