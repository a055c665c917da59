//! What may be said of how a job goes: an end is an end, and numbers agree with each other.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, time};
use serde_json::Value;

use super::indexes;
use crate::registry::workloads::check::{IMMUTABLE, Report};
use crate::registry::workloads::controllers::{spec, status};
use crate::registry::workloads::view::{get, int, is, items, text};

const PATH: Path<'static> = Path::new("status");

fn holds(job: &Value, kind: &str, word: &str) -> bool {
    items(status(job), "conditions").iter().any(|c| text(c, "type") == kind && text(c, "status") == word)
}

fn is_true(job: &Value, kind: &str) -> bool {
    holds(job, kind, "True")
}

fn finished(job: &Value) -> bool {
    is_true(job, "Complete") || is_true(job, "Failed")
}

/// Two states of a job. What did not change is borne with, even if it breaks a rule.
struct Change<'a> {
    new: &'a Value,
    old: &'a Value,
}

impl Change<'_> {
    fn field(&self, key: &str) -> bool {
        get(status(self.new), key) != get(status(self.old), key)
    }

    fn condition(&self, kind: &str) -> bool {
        is_true(self.new, kind) != is_true(self.old, kind)
    }

    fn finished(&self) -> bool {
        finished(self.new) != finished(self.old)
    }
}

/// The rules for a write of the status.
pub(super) fn validate(new: &Value, old: &Value) -> Vec<FieldError> {
    let (mut r, change) = (Report::default(), Change { new, old });
    let now = status(new);
    for key in ["active", "succeeded", "failed", "ready", "terminating"] {
        r.nonnegative(now, key, &PATH);
    }
    uncounted(now, &mut r);
    conditions(&change, &mut r);
    times(&change, &mut r);
    counts(&change, &mut r);
    index_sets(&change, &mut r);
    ends(&change, &mut r);
    r.0
}

/// Pods that are over and not counted yet, each of them once.
fn uncounted(now: &Value, r: &mut Report) {
    let Some(pods) = get(now, "uncountedTerminatedPods") else { return };
    let path = PATH.child("uncountedTerminatedPods");
    let mut seen: Vec<&str> = Vec::new();
    for key in ["succeeded", "failed"] {
        let all = path.child(key);
        for (i, uid) in items(pods, key).iter().filter_map(Value::as_str).enumerate() {
            if uid.is_empty() {
                r.invalid(&all.index(i), "", "must not be empty");
            } else if seen.contains(&uid) {
                r.duplicate(&all.index(i), uid);
            }
            seen.push(uid);
        }
    }
}

fn conditions(change: &Change<'_>, r: &mut Report) {
    let job = change.new;
    let at = PATH.child("conditions");
    let (complete, failed) = (is_true(job, "Complete"), is_true(job, "Failed"));
    let (target, success) = (is_true(job, "FailureTarget"), is_true(job, "SuccessCriteriaMet"));
    let (complete_new, failed_new) = (change.condition("Complete"), change.condition("Failed"));
    let mut broken = |holds: bool, why: &str| {
        if holds {
            r.broken(&at, why);
        }
    };
    broken((complete_new || failed_new) && complete && failed, "cannot set Complete=True and Failed=true conditions");
    broken(
        (complete_new || change.condition("FailureTarget")) && complete && target,
        "cannot set Complete=True and FailureTarget=true conditions",
    );
    broken(
        (failed_new || change.field("failedIndexes")) && failed && !target,
        "cannot set Failed=True condition without the FailureTarget=true condition",
    );
    broken(
        (complete_new || change.condition("SuccessCriteriaMet")) && complete && !success,
        "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
    );
    broken(success && failed, "cannot set SuccessCriteriaMet=True and Failed=true conditions");
    broken(success && target, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions");
    broken(
        get(spec(job), "successPolicy").is_some() && complete && !success,
        "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
    );
}

fn times(change: &Change<'_>, r: &mut Report) {
    let (job, now, before) = (change.new, status(change.new), status(change.old));
    let (start, completion) = (get(now, "startTime"), get(now, "completionTime"));
    let (start_at, completion_at) = (PATH.child("startTime"), PATH.child("completionTime"));
    let complete = is_true(job, "Complete");
    let shown = |value: Option<&Value>| value.cloned().unwrap_or_default();
    if change.condition("Complete") || change.field("completionTime") {
        match completion {
            Some(time) if !complete => {
                let why = "cannot set completionTime when there is no Complete=True condition";
                r.invalid(&completion_at, time.clone(), why);
            }
            None if complete => r.required(&completion_at, "completionTime is required for Complete jobs"),
            _ => {}
        }
    }
    let parsed = |value: Option<&Value>| value.and_then(Value::as_str).and_then(time::parse);
    if (change.field("startTime") || change.field("completionTime"))
        && let (Some(start), Some(end)) = (parsed(start), parsed(completion))
        && end < start
    {
        r.invalid(&completion_at, shown(completion), "must be equal to or after `startTime`");
    }
    let nothing = is(spec(job), "suspend") && int(spec(job), "completions") == Some(0);
    if (change.finished() || change.field("startTime")) && !nothing && start.is_none() && finished(job) {
        r.required(&start_at, "startTime is required for finished job");
    }
    if completion.is_some() && get(before, "completionTime").is_some() && change.field("completionTime") {
        r.invalid(&completion_at, shown(completion), IMMUTABLE);
    }
    let resuming = is_true(change.old, "Suspended") && holds(job, "Suspended", "False");
    let had = get(before, "startTime").is_some();
    if had && change.field("startTime") && !resuming && !is(spec(job), "suspend") {
        r.invalid(&start_at, shown(start), "field is immutable for unsuspended job once set");
    }
}

fn counts(change: &Change<'_>, r: &mut Report) {
    let (job, now, before) = (change.new, status(change.new), status(change.old));
    let count = |status: &Value, key: &str| int(status, key).unwrap_or(0);
    let active = count(now, "active");
    if (change.finished() || change.field("active")) && active > 0 && finished(job) {
        r.invalid(&PATH.child("active"), active, "active>0 is invalid for finished job");
    }
    let waiting = get(now, "uncountedTerminatedPods");
    let any = waiting.is_some_and(|w| !items(w, "failed").is_empty() || !items(w, "succeeded").is_empty());
    if (change.finished() || change.field("uncountedTerminatedPods")) && any && finished(job) {
        let shown = waiting.cloned().unwrap_or_default();
        r.invalid(&PATH.child("uncountedTerminatedPods"), shown, "must be empty for finished job");
    }
    let terminating = count(now, "terminating");
    if (change.finished() || change.field("terminating")) && terminating > 0 && finished(job) {
        r.invalid(&PATH.child("terminating"), terminating, "terminating>0 is invalid for finished job");
    }
    let ready = count(now, "ready");
    if (change.field("ready") || change.field("active")) && ready > active {
        r.invalid(&PATH.child("ready"), ready, "cannot set more ready pods than active");
    }
    let indexed = text(spec(job), "completionMode") == "Indexed";
    let elastic = indexed && int(spec(job), "completions") == int(spec(job), "parallelism");
    for key in ["failed", "succeeded"] {
        if count(now, key) < count(before, key) && !(key == "succeeded" && elastic) {
            r.invalid(&PATH.child(key), count(now, key), &format!("cannot decrease the {key} counter"));
        }
    }
}

fn index_sets(change: &Change<'_>, r: &mut Report) {
    let (now, spec) = (status(change.new), spec(change.new));
    let (completed, failed) = (text(now, "completedIndexes"), get(now, "failedIndexes").and_then(Value::as_str));
    let (completed_at, failed_at) = (PATH.child("completedIndexes"), PATH.child("failedIndexes"));
    let completions = int(spec, "completions");
    let per_index = get(spec, "backoffLimitPerIndex").is_some();
    let (completed_new, failed_new) = (change.field("completedIndexes"), change.field("failedIndexes"));
    if completed_new {
        if let Some(Err(why)) = completions.map(|n| indexes::count(completed, n)) {
            r.invalid(&completed_at, completed, &format!("error parsing completedIndexes: {why}"));
        }
        if !completed.is_empty() && text(spec, "completionMode") != "Indexed" {
            let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
            r.invalid(&completed_at, completed, why);
        }
    }
    let Some(failed) = failed else { return };
    if failed_new {
        if let Some(Err(why)) = completions.filter(|_| per_index).map(|n| indexes::count(failed, n)) {
            r.invalid(&failed_at, failed, &format!("error parsing failedIndexes: {why}"));
        }
        if !per_index {
            let why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
            r.invalid(&failed_at, failed, why);
        }
    }
    if completed_new || failed_new {
        let shared = completions.and_then(|n| indexes::overlap(completed, failed, n));
        if let Some(index) = shared {
            let why = format!("failedIndexes and completedIndexes overlap at index: {index}");
            r.invalid(&failed_at, failed, &why);
        }
    }
}

/// What ended does not begin again.
fn ends(change: &Change<'_>, r: &mut Report) {
    let at = PATH.child("conditions");
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if is_true(change.old, kind) && !is_true(change.new, kind) {
            r.broken(&at, &format!("cannot disable the terminal {kind}=True condition"));
        }
    }
    let (had, has) = (is_true(change.old, "SuccessCriteriaMet"), is_true(change.new, "SuccessCriteriaMet"));
    if had && !has {
        r.broken(&at, "cannot disable the SuccessCriteriaMet=True condition");
    }
    if is_true(change.old, "Complete") && !had && has {
        r.broken(&at, "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions");
    }
}
