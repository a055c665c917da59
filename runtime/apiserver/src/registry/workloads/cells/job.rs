//! Jobs and what starts them by the clock.

use jiff::Timestamp;
use kiln_apimachinery::{meta, time};
use serde_json::Value;

use super::since;
use crate::registry::cells::NONE;
use crate::registry::workloads::view::{get, int, items, text};

fn part<'a>(job: &'a Value, key: &str) -> &'a Value {
    job.get(key).unwrap_or(&Value::Null)
}

fn has_condition(job: &Value, kind: &str) -> bool {
    let found = items(part(job, "status"), "conditions").iter().find(|c| text(c, "type") == kind);
    found.is_some_and(|c| text(c, "status") == "True")
}

pub(in crate::registry::workloads) fn status(job: &Value, _: Timestamp) -> Value {
    let of =
        |kinds: &[(&'static str, &'static str)]| kinds.iter().find(|(k, _)| has_condition(job, k)).map(|(_, s)| *s);
    let ended = of(&[("Complete", "Complete"), ("Failed", "Failed")]);
    let going = || meta::is_terminating(job).then_some("Terminating");
    let other = || {
        of(&[
            ("Suspended", "Suspended"),
            ("FailureTarget", "FailureTarget"),
            ("SuccessCriteriaMet", "SuccessCriteriaMet"),
        ])
    };
    ended.or_else(going).or_else(other).unwrap_or("Running").into()
}

pub(in crate::registry::workloads) fn completions(job: &Value, _: Timestamp) -> Value {
    let done = int(part(job, "status"), "succeeded").unwrap_or(0);
    let spec = part(job, "spec");
    match (int(spec, "completions"), int(spec, "parallelism").unwrap_or(0)) {
        (Some(wanted), _) => format!("{done}/{wanted}").into(),
        (None, parallel) if parallel > 1 => format!("{done}/1 of {parallel}").into(),
        (None, _) => format!("{done}/1").into(),
    }
}

pub(in crate::registry::workloads) fn duration(job: &Value, now: Timestamp) -> Value {
    let at = |key: &str| time::parse(text(part(job, "status"), key));
    let Some(start) = at("startTime") else { return "".into() };
    let end = at("completionTime").unwrap_or(now);
    time::human_duration(end.as_second() - start.as_second()).into()
}

pub(in crate::registry::workloads) fn last_schedule(job: &Value, now: Timestamp) -> Value {
    match text(part(job, "status"), "lastScheduleTime") {
        "" => NONE.into(),
        at => since(at, now).into(),
    }
}

pub(in crate::registry::workloads) fn time_zone(job: &Value, _: Timestamp) -> Value {
    get(part(job, "spec"), "timeZone").cloned().unwrap_or_else(|| NONE.into())
}

pub(in crate::registry::workloads) fn suspended(job: &Value, _: Timestamp) -> Value {
    match get(part(job, "spec"), "suspend").and_then(Value::as_bool) {
        Some(true) => "True".into(),
        Some(false) => "False".into(),
        None => "<unset>".into(),
    }
}
