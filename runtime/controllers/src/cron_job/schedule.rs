//! When a CronJob is due, by the clocks of its time zone.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use kiln_apimachinery::cron;

/// A schedule in a zone.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    schedule: cron::Schedule,
    zone: TimeZone,
}

/// A time zone by its name in the IANA database; an empty one is UTC.
pub(super) fn zone(name: &str) -> Option<TimeZone> {
    if name.is_empty() { Some(TimeZone::UTC) } else { cron::zone(name) }
}

impl Schedule {
    /// Reads a schedule.
    pub(super) fn parse(text: &str, zone: TimeZone) -> Result<Self, cron::CronError> {
        Ok(Self { schedule: cron::Schedule::parse(text)?, zone })
    }

    /// The first time after this that it is due; `None` if it never is.
    pub(super) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.schedule.next(after, &self.zone)
    }
}

/// A time as it is written in a zone.
pub(super) fn written(time: Timestamp, zone: &TimeZone) -> String {
    let time = time.to_zoned(zone.clone());
    let offset = if time.offset().is_zero() { "Z".to_owned() } else { time.strftime("%:z").to_string() };
    format!("{}{offset}", time.strftime("%Y-%m-%dT%H:%M:%S"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_their_zone() {
        let time = "2026-03-01T00:00:00Z".parse().unwrap();
        for (name, text) in [("UTC", "2026-03-01T00:00:00Z"), ("Asia/Tokyo", "2026-03-01T09:00:00+09:00")] {
            assert_eq!(written(time, &zone(name).unwrap()), text);
        }
    }
}
