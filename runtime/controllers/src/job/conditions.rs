//! The conditions of a Job.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// A Job that ended, one way or the other.
pub(crate) fn is_finished(job: &Job) -> bool {
    find(job.status.as_ref(), "Complete").or_else(|| find(job.status.as_ref(), "Failed")).is_some()
}

/// A Job that ended well.
pub(crate) fn has_completed(job: &Job) -> bool {
    find(job.status.as_ref(), "Complete").is_some()
}

/// When a Job ended.
pub(crate) fn finished_at(job: &Job) -> Option<Timestamp> {
    let status = job.status.as_ref();
    let ended = find(status, "Complete").or_else(|| find(status, "Failed"))?;
    ended.last_transition_time.as_ref().map(|time| time.0)
}

/// A condition that is true.
pub(super) fn find<'a>(status: Option<&'a JobStatus>, kind: &str) -> Option<&'a JobCondition> {
    let mut conditions = status?.conditions.iter().flatten();
    conditions.find(|condition| condition.type_ == kind && condition.status == "True")
}

/// A condition that begins now.
pub(super) fn new(kind: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> JobCondition {
    JobCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
    }
}

/// The condition under another name, from now.
pub(super) fn renamed(condition: &JobCondition, kind: &str, now: Timestamp) -> JobCondition {
    let (reason, message) = (condition.reason.as_deref(), condition.message.as_deref());
    new(kind, "True", reason.unwrap_or_default(), message.unwrap_or_default(), now)
}

/// Sets a condition; answers whether that changed anything. One that never was is not set to false.
pub(super) fn ensure(status: &mut JobStatus, wanted: JobCondition) -> bool {
    let conditions = status.conditions.get_or_insert_default();
    match conditions.iter_mut().find(|condition| condition.type_ == wanted.type_) {
        Some(known)
            if known.status == wanted.status && known.reason == wanted.reason && known.message == wanted.message =>
        {
            false
        }
        Some(known) => {
            *known = wanted;
            true
        }
        None if wanted.status == "False" => false,
        None => {
            conditions.push(wanted);
            true
        }
    }
}
