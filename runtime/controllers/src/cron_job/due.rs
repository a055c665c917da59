//! Which time of its schedule a CronJob is to run for now, and when it is next.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::CronJob;

use super::schedule::Schedule;

/// Added to each wait, so that a clock that is corrected a little does not make a run be missed.
const MARGIN: SignedDuration = SignedDuration::from_millis(100);
/// More missed times than this are told of.
const MANY: i64 = 100;

/// How many times were missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missed {
    None,
    Few,
    Many,
}

/// The last time that was due, and how many times were missed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Recent {
    since: Timestamp,
    pub(super) due: Option<Timestamp>,
    pub(super) missed: Missed,
}

/// The last time that the CronJob was due until now. `deadline`: one that may not be started any more does not count.
pub(super) fn recent(cron: &CronJob, schedule: &Schedule, now: Timestamp, deadline: bool) -> Result<Recent, String> {
    let made = cron.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let last = cron.status.as_ref().and_then(|status| status.last_schedule_time.as_ref()).map(|time| time.0);
    let mut since = last.unwrap_or(made);
    let allowed = cron.spec.starting_deadline_seconds.filter(|_| deadline);
    if let Some(seconds) = allowed {
        let earliest = now.saturating_sub(SignedDuration::from_secs(seconds)).unwrap_or(since);
        since = since.max(earliest);
    }
    let never = || "time difference between two schedules is less than 1 second".to_owned();
    let Some(first) = schedule.next(since) else { return Err(never()) };
    let none = Recent { since, due: None, missed: Missed::None };
    if now < first {
        return Ok(none);
    }
    let Some(second) = schedule.next(first) else { return Err(never()) };
    if now < second {
        return Ok(Recent { due: Some(first), ..none });
    }
    // The times are not counted one by one, since there may be very many.
    let between = second.duration_since(first).as_secs().max(1);
    let count = now.duration_since(first).as_secs() / between + 1;
    let mut time = first + SignedDuration::from_secs((count - 2) * between);
    let mut due = None;
    while let Some(next) = schedule.next(time).filter(|next| *next <= now) {
        due = Some(next);
        time = next;
    }
    Ok(Recent { since, due, missed: if count > MANY { Missed::Many } else { Missed::Few } })
}

/// How long until the CronJob is due again.
pub(super) fn wait(cron: &CronJob, schedule: &Schedule, now: Timestamp) -> Duration {
    let from = match recent(cron, schedule, now, false) {
        Err(_) => now,
        Ok(Recent { due: Some(due), .. }) => due,
        Ok(Recent { since, missed: Missed::None, .. }) => since,
        Ok(_) => now,
    };
    let next = schedule.next(from).unwrap_or(now + SignedDuration::from_hours(24));
    Duration::try_from(next.duration_since(now) + MARGIN).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_time_that_was_due_is_found_however_many_were_missed() {
        // Hourly, made at 10:00; (last, deadline, now, due, missed)
        let rows = [
            (None, None, "2026-03-01T09:59:00Z", None, Missed::None),
            (None, None, "2026-03-01T10:30:00Z", None, Missed::None),
            (None, None, "2026-03-01T11:00:00Z", Some("2026-03-01T11:00:00Z"), Missed::None),
            (None, None, "2026-03-01T13:30:00Z", Some("2026-03-01T13:00:00Z"), Missed::Few),
            (Some("2026-03-01T13:00:00Z"), None, "2026-03-01T13:30:00Z", None, Missed::None),
            (None, Some(600), "2026-03-01T13:30:00Z", None, Missed::None),
            (None, Some(7200), "2026-03-01T13:30:00Z", Some("2026-03-01T13:00:00Z"), Missed::Few),
            (None, None, "2026-03-30T13:30:00Z", Some("2026-03-30T13:00:00Z"), Missed::Many),
        ];
        let schedule = Schedule::parse("0 * * * *", TimeZone::UTC).unwrap();
        for (last, deadline, now, due, missed) in rows {
            let cron: CronJob = serde_json::from_value(json!({
                "metadata": {"creationTimestamp": "2026-03-01T10:00:00Z"},
                "spec": {"schedule": "", "jobTemplate": {}, "startingDeadlineSeconds": deadline},
                "status": {"lastScheduleTime": last},
            }))
            .unwrap();
            let found = recent(&cron, &schedule, now.parse().unwrap(), true).unwrap();
            assert_eq!(
                (found.due, found.missed),
                (due.map(|due: &str| due.parse().unwrap()), missed),
                "{last:?} {now}"
            );
        }
    }
}
