//! The rules for jobs, and for what starts them by the clock.

use kiln_apimachinery::cron::Schedule;
use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, meta, names};
use serde_json::{Value, json};

use super::{policies, zone};
use crate::registry::workloads::check::{IMMUTABLE, Report, selects, template};
use crate::registry::workloads::controllers::spec;
use crate::registry::workloads::view::{get, int, is, items, text};

/// Most pods at once of an indexed job, and most of its indexes that may fail.
const MAX_INDEXED: i64 = 100_000;
/// From this many completions on, failures by index are held to less.
const MANY: i64 = 100_000;
const LESS: i64 = 10_000;
const MAX_MANAGER: usize = 63;
/// Jobs have names of their own: eleven letters more.
const MAX_CRON_NAME: usize = 52;

pub(super) fn job(object: &Value) -> Vec<FieldError> {
    let (spec, mut r, path) = (spec(object), Report::default(), Path::new("spec"));
    generated_selector(object, &mut r);
    job_spec(spec, &path, &mut r);
    let at = path.child("selector");
    match get(spec, "selector") {
        None => r.required(&at, ""),
        selector => r.selector(selector, &at),
    }
    let selected = selects(spec.get("selector"), meta::at(spec, &["template", "metadata", "labels"]));
    template::is_selected(selected, spec.get("template").unwrap_or(&Value::Null), &path.child("template"), &mut r);
    if text(spec, "completionMode") == "Indexed"
        && let Some(completions) = int(spec, "completions").filter(|n| *n > 0)
    {
        let longest = format!("{}-{}", meta::name(object), completions - 1);
        if !names::dns1123_label(&longest).is_empty() {
            let why = format!("will not able to create pod with invalid DNS label: {longest}");
            r.invalid(&Path::new("metadata.name"), meta::name(object), &why);
        }
    }
    r.0
}

/// A selector that was not given is made of the job's own uid.
fn generated_selector(object: &Value, r: &mut Report) {
    let spec = spec(object);
    let Some(selector) = get(spec, "selector").filter(|_| !is(spec, "manualSelector")) else { return };
    let (name, uid) = (meta::name(object), meta::uid(object));
    let all = meta::at(spec, &["template", "metadata", "labels"]);
    let labels = meta::string_map(all);
    let path = Path::new("spec.template.metadata.labels");
    let expected = [
        ("controller-uid", uid),
        ("job-name", name),
        ("batch.kubernetes.io/controller-uid", uid),
        ("batch.kubernetes.io/job-name", name),
    ];
    for (key, value) in expected {
        let why = format!("must be '{value}'");
        match labels.get(key) {
            None => r.required(&path.key(key), &why),
            Some(found) if *found != value => r.invalid(&path.key(key), all.cloned().unwrap_or_default(), &why),
            Some(_) => {}
        }
    }
    let expected: serde_json::Map<String, Value> = expected.iter().map(|(k, v)| ((*k).into(), json!(v))).collect();
    if !selects(Some(selector), Some(&expected.into())) {
        r.invalid(&Path::new("spec.selector"), selector.clone(), "`selector` not auto-generated");
    }
}

fn job_spec(spec: &Value, path: &Path<'_>, r: &mut Report) {
    for key in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        r.nonnegative(spec, key, path);
    }
    if get(spec, "maxFailedIndexes").is_some() && get(spec, "backoffLimitPerIndex").is_none() {
        r.required(&path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    if let Some(manager) = get(spec, "managedBy").and_then(Value::as_str) {
        manager_name(manager, &path.child("managedBy"), r);
    }
    completion_mode(spec, path, r);
    policies::failure(spec, path, r);
    policies::success(spec, path, r);
    if let Some(policy) = get(spec, "podReplacementPolicy").and_then(Value::as_str) {
        let known: &[&str] =
            if get(spec, "podFailurePolicy").is_some() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
        if !known.contains(&policy) {
            r.unsupported(&path.child("podReplacementPolicy"), policy, known);
        }
    }
    let none = json!({});
    let template = get(spec, "template").unwrap_or(&none);
    template::check(template, &path.child("template"), r);
    let at = path.child("template.spec.restartPolicy");
    match meta::text(template, &["spec", "restartPolicy"]) {
        "" | "Always" => r.required(&at, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if get(spec, "podFailurePolicy").is_some() => {
            r.invalid(&at, "OnFailure", "only \"Never\" is supported when podFailurePolicy is specified");
        }
        "OnFailure" | "Never" => {}
        other => r.unsupported(&at, other, &["OnFailure", "Never"]),
    }
}

/// A domain and a path, such as `example.com/controller`.
fn manager_name(name: &str, path: &Path<'_>, r: &mut Report) {
    let word = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
    match name.split_once('/') {
        _ if name.is_empty() => r.required(path, ""),
        Some((domain, rest)) if !domain.is_empty() && !rest.is_empty() => {
            r.name(path, domain, names::dns1123_subdomain);
            if !rest.bytes().all(word) {
                let why = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
                r.invalid(path, rest, why);
            }
        }
        _ => r.invalid(path, name, "must be a domain-prefixed path (such as \"acme.io/foo\")"),
    }
    if name.len() > MAX_MANAGER {
        r.too_long(path, MAX_MANAGER);
    }
}

fn completion_mode(spec: &Value, path: &Path<'_>, r: &mut Report) {
    let mode = text(spec, "completionMode");
    let (parallel, completions) = (int(spec, "parallelism"), int(spec, "completions"));
    let (failed, per_index) = (int(spec, "maxFailedIndexes"), int(spec, "backoffLimitPerIndex"));
    match mode {
        "" | "NonIndexed" => {
            for (key, found) in [("backoffLimitPerIndex", per_index), ("maxFailedIndexes", failed)] {
                if let Some(found) = found {
                    r.invalid(&path.child(key), found, "requires indexed completion mode");
                }
            }
        }
        "Indexed" => {}
        other => return r.unsupported(&path.child("completionMode"), other, &["NonIndexed", "Indexed"]),
    }
    if mode != "Indexed" {
        return;
    }
    let (parallel_at, failed_at) = (path.child("parallelism"), path.child("maxFailedIndexes"));
    if completions.is_none() {
        r.required(&path.child("completions"), "when completion mode is Indexed");
    }
    if let Some(n) = parallel.filter(|n| *n > MAX_INDEXED) {
        let why = format!("must be less than or equal to {MAX_INDEXED} when completion mode is Indexed");
        r.invalid(&parallel_at, n, &why);
    }
    if let (Some(failed), Some(completions)) = (failed, completions)
        && failed > completions
    {
        r.invalid(&failed_at, failed, "must be less than or equal to completions");
    }
    if let Some(n) = failed.filter(|n| *n > MAX_INDEXED) {
        r.invalid(&failed_at, n, &format!("must be less than or equal to {MAX_INDEXED}"));
    }
    if completions.is_some_and(|n| n > MANY) && per_index.is_some() {
        let why = format!(
            "must be less than or equal to {LESS} when completions are above {MANY} and used with backoff limit per index"
        );
        if failed.is_none() {
            r.required(&failed_at, &format!("must be specified when completions is above {MANY}"));
        }
        for (at, n) in [(&parallel_at, parallel), (&failed_at, failed)] {
            if let Some(n) = n.filter(|n| *n > LESS) {
                r.invalid(at, n, &why);
            }
        }
    }
}

pub(super) fn job_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut r = Report::default();
    let (now, before, path) = (spec(new), spec(old), Path::new("spec"));
    if text(now, "completionMode") == "Indexed" {
        let (done, had) = (int(now, "completions"), int(before, "completions"));
        if done != had && done.is_some() && done != int(now, "parallelism") {
            let why = "can only be modified in tandem with spec.parallelism";
            r.invalid(&path.child("completions"), done, why);
        }
    } else {
        r.immutable(now, before, "completions", &path);
    }
    r.immutable(now, before, "selector", &path);
    template_update(new, old, &path, &mut r);
    for key in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
        r.immutable(now, before, key, &path);
    }
    r.0
}

/// The template of a job that has not begun may yet say where its pods go, and what they ask for.
fn template_update(new: &Value, old: &Value, path: &Path<'_>, r: &mut Report) {
    let (now, before) = (spec(new), spec(old));
    let none = Value::Null;
    let status = old.get("status").unwrap_or(&none);
    let suspended =
        items(status, "conditions").iter().any(|c| text(c, "type") == "Suspended" && text(c, "status") == "True");
    let idle = int(status, "active").unwrap_or(0) == 0;
    let open = is(before, "suspend") && (get(status, "startTime").is_none() || suspended) && idle;
    let mut expected = before.get("template").cloned().unwrap_or_default();
    let template = now.get("template").cloned().unwrap_or_default();
    if open {
        super::template::take_directives(&mut expected, &template);
        super::template::take_resources(&mut expected, &template);
        let of = |t: &Value| t.get("spec").cloned().unwrap_or_default();
        if of(&template) != of(&expected) {
            r.invalid(&path.child("template.spec"), of(&template), IMMUTABLE);
        }
    } else if template != expected {
        r.invalid(&path.child("template"), template, IMMUTABLE);
    }
}

pub(super) fn cron_job(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let (cron, mut r, path) = (spec(object), Report::default(), Path::new("spec"));
    let at = path.child("schedule");
    let (written, zone) = (text(cron, "schedule"), get(cron, "timeZone").and_then(Value::as_str));
    if written.is_empty() {
        r.required(&at, "");
    } else {
        if let Err(why) = Schedule::parse(written) {
            r.invalid(&at, written, &why.to_string());
        }
        let had_zone = old.is_some_and(|o| text(spec(o), "schedule").contains("TZ"));
        if written.contains("TZ") && !had_zone {
            r.invalid(&at, written, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
        } else if written.contains("TZ") && zone.is_some() {
            r.invalid(&at, written, "cannot use both timeZone field and TZ or CRON_TZ in schedule");
        }
    }
    r.nonnegative(cron, "startingDeadlineSeconds", &path);
    let same_zone = old.is_some_and(|o| get(spec(o), "timeZone") == get(cron, "timeZone"));
    if let Some(zone) = zone.filter(|_| !same_zone) {
        for why in zone::check(zone) {
            r.invalid(&path.child("timeZone"), zone, &why);
        }
    }
    r.one_of(&path.child("concurrencyPolicy"), text(cron, "concurrencyPolicy"), &["Allow", "Forbid", "Replace"]);
    let none = json!({});
    let job = get(cron, "jobTemplate").and_then(|t| get(t, "spec")).unwrap_or(&none);
    let at = path.child("jobTemplate.spec");
    job_spec(job, &at, &mut r);
    if let Some(selector) = get(job, "selector") {
        r.invalid(&at.child("selector"), selector.clone(), "`selector` will be auto-generated");
    }
    if is(job, "manualSelector") {
        r.unsupported(&at.child("manualSelector"), true, &["nil", "false"]);
    }
    for key in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        r.nonnegative(cron, key, &path);
    }
    let name = meta::name(object);
    if old.is_none() && name.len() > MAX_CRON_NAME {
        r.invalid(&Path::new("metadata.name"), name, "must be no more than 52 characters");
    }
    r.0
}
