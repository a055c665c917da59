//! sprig's functions of times, all in UTC, and Go's layouts.

use kiln_apimachinery::duration;

use super::{Made, at_least, exactly, text};
use crate::template::Engine;
use crate::value::{Object, Value};

/// Nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

pub(super) fn find(name: &str) -> Option<fn(&mut Engine<'_>, &[Value]) -> Made> {
    Some(match name {
        "now" => |engine, given| {
            exactly::<0>(given)?;
            Ok(time(engine.host.now()))
        },
        "date" => |engine, given| {
            let [layout, when] = exactly::<2>(given)?;
            Ok(Value::str(format(text(layout)?, seconds(engine, when))))
        },
        "dateInZone" | "date_in_zone" => |engine, given| {
            let [layout, when, _] = exactly::<3>(given)?;
            Ok(Value::str(format(text(layout)?, seconds(engine, when))))
        },
        "htmlDate" => |engine, given| Ok(Value::str(format("2006-01-02", seconds(engine, &exactly::<1>(given)?[0])))),
        "htmlDateInZone" => {
            |engine, given| Ok(Value::str(format("2006-01-02", seconds(engine, &exactly::<2>(given)?[0]))))
        }
        "unixEpoch" => |engine, given| Ok(Value::str(seconds(engine, &exactly::<1>(given)?[0]).to_string())),
        "dateModify" | "date_modify" | "mustDateModify" | "must_date_modify" => |engine, given| {
            let [by, when] = exactly::<2>(given)?;
            let seconds = seconds(engine, when);
            Ok(time(seconds_in(text(by)?).map_or(seconds, |by| seconds.saturating_add(by))))
        },
        "ago" => |engine, given| {
            let [when] = exactly::<1>(given)?;
            let past = engine.host.now().saturating_sub(seconds(engine, when));
            Ok(Value::str(shown(past)))
        },
        "duration" => |_, given| {
            let [seconds] = exactly::<1>(given)?;
            Ok(Value::str(shown(super::math::to_int(seconds))))
        },
        "durationRound" => |_, given| {
            let [value] = exactly::<1>(given)?;
            let seconds = match value {
                Value::Str(text) => seconds_in(text).unwrap_or_default(),
                other => super::math::to_int(other),
            };
            let units = [(31_536_000, "y"), (2_592_000, "mo"), (86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
            let unit = units.into_iter().find(|(size, _)| seconds.unsigned_abs() >= *size);
            Ok(Value::str(
                unit.map_or("0s".to_owned(), |(size, name)| format!("{}{name}", seconds.unsigned_abs() / size)),
            ))
        },
        "toDate" | "mustToDate" => |_, given| {
            let given = at_least(given, 2)?;
            let date = parse_date(text(&given[1])?);
            date.map(time).ok_or_else(|| format!("parsing time {:?}: cannot parse", given[1].to_string()))
        },
        _ => return None,
    })
}

pub(super) fn method(seconds: i64, name: &str, given: &[Value]) -> Option<Made> {
    let civil = Civil::of(seconds);
    Some(match name {
        "Unix" => Ok(Value::Int(seconds)),
        "UnixNano" => Ok(Value::Int(seconds.saturating_mul(SECOND))),
        "Format" => exactly::<1>(given).and_then(|[layout]| Ok(Value::str(format(text(layout)?, seconds)))),
        "UTC" | "Local" => Ok(time(seconds)),
        "Year" => Ok(Value::Int(civil.year)),
        "Month" => Ok(Value::Int(civil.month)),
        "Day" => Ok(Value::Int(civil.day)),
        "Hour" => Ok(Value::Int(civil.hour)),
        "Minute" => Ok(Value::Int(civil.minute)),
        "Second" => Ok(Value::Int(civil.second)),
        "String" => Ok(Value::str(printed(seconds))),
        _ => return None,
    })
}

fn time(seconds: i64) -> Value {
    Value::object(Object::Time(seconds))
}

/// The seconds that a time or a number stands for; now, for anything else.
fn seconds(engine: &Engine<'_>, value: &Value) -> i64 {
    match value {
        Value::Int(seconds) => *seconds,
        Value::Object(object) => match **object {
            Object::Time(seconds) => seconds,
            _ => engine.host.now(),
        },
        _ => engine.host.now(),
    }
}

/// As `time.Time` prints itself.
pub(crate) fn printed(seconds: i64) -> String {
    format("2006-01-02 15:04:05 -0700 MST", seconds)
}

/// A time in UTC.
struct Civil {
    year: i64,
    month: i64,
    day: i64,
    weekday: usize,
    hour: i64,
    minute: i64,
    second: i64,
}

impl Civil {
    /// Howard Hinnant's `civil_from_days`.
    fn of(seconds: i64) -> Self {
        let (days, time) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let weekday = usize::try_from((days + 4).rem_euclid(7)).unwrap_or_default();
        Self { year, month, day, weekday, hour: time / 3600, minute: time % 3600 / 60, second: time % 60 }
    }
}

/// Days since the epoch, by `days_from_civil`.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// A layout's pieces, the longer before those that they begin with.
const PIECES: [&str; 28] = [
    "January",
    "Jan",
    "Monday",
    "Mon",
    "MST",
    "2006",
    "-07:00",
    "-0700",
    "Z07:00",
    "Z0700",
    "-07",
    "01",
    "02",
    "03",
    "04",
    "05",
    "06",
    "15",
    "PM",
    "pm",
    ".000000000",
    ".000000",
    ".000",
    "_2",
    "1",
    "2",
    "3",
    "4",
];

fn format(layout: &str, seconds: i64) -> String {
    let civil = Civil::of(seconds);
    let month = usize::try_from(civil.month - 1).unwrap_or_default();
    let hour12 = if civil.hour % 12 == 0 { 12 } else { civil.hour % 12 };
    let mut out = String::new();
    let mut rest = layout;
    while let Some(c) = rest.chars().next() {
        let Some(piece) = PIECES.iter().chain(&["5"]).find(|piece| rest.starts_with(**piece)) else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        rest = &rest[piece.len()..];
        out += &match *piece {
            "January" => MONTHS[month].to_owned(),
            "Jan" => MONTHS[month][..3].to_owned(),
            "Monday" => DAYS[civil.weekday].to_owned(),
            "Mon" => DAYS[civil.weekday][..3].to_owned(),
            "MST" => "UTC".to_owned(),
            "2006" => format!("{:04}", civil.year),
            "-07:00" => "+00:00".to_owned(),
            "-0700" => "+0000".to_owned(),
            "-07" => "+00".to_owned(),
            "Z07:00" | "Z0700" => "Z".to_owned(),
            "01" => format!("{:02}", civil.month),
            "02" => format!("{:02}", civil.day),
            "03" => format!("{hour12:02}"),
            "04" => format!("{:02}", civil.minute),
            "05" => format!("{:02}", civil.second),
            "06" => format!("{:02}", civil.year % 100),
            "15" => format!("{:02}", civil.hour),
            "PM" => if civil.hour < 12 { "AM" } else { "PM" }.to_owned(),
            "pm" => if civil.hour < 12 { "am" } else { "pm" }.to_owned(),
            "_2" => format!("{:2}", civil.day),
            "1" => civil.month.to_string(),
            "2" => civil.day.to_string(),
            "3" => hour12.to_string(),
            "4" => civil.minute.to_string(),
            "5" => civil.second.to_string(),
            zeros => zeros.to_owned(),
        };
    }
    out
}

/// `2006-01-02`, with a time behind it or not.
fn parse_date(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let seconds = days(number(0, 4)?, number(5, 7)?, number(8, 10)?) * 86_400;
    match text.len() {
        10 => Some(seconds),
        _ => Some(seconds + number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?),
    }
}

/// The seconds of Go's `1h30m`.
fn seconds_in(text: &str) -> Option<i64> {
    duration::parse(text).ok().map(|nanoseconds| nanoseconds / SECOND)
}

/// As `time.Duration` prints itself.
fn shown(seconds: i64) -> String {
    duration::format(seconds.saturating_mul(SECOND))
}
