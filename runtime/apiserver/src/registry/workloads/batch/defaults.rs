//! What jobs mean where they say nothing.

use serde_json::{Value, json};

use crate::registry::strategy::default_to;
use crate::registry::workloads::defaults::{labels_from_template, template};
use crate::registry::workloads::view::{fill, get, get_mut, items_mut, make};

const RETRIES: i64 = 6;

/// The part that jobs and templates of jobs share.
fn spec(spec: &mut Value) {
    make(spec, "template");
    template(spec);
    if let Some(policy) = get_mut(spec, "podFailurePolicy") {
        for rule in items_mut(policy, "rules") {
            for pattern in items_mut(rule, "onPodConditions") {
                fill(pattern, "status", "True");
            }
        }
    }
}

pub(super) fn job(object: &mut Value) {
    let job = make(object, "spec");
    spec(job);
    if get(job, "completions").is_none() && get(job, "parallelism").is_none() {
        default_to(job, "completions", 1);
    }
    default_to(job, "parallelism", 1);
    let retries = if get(job, "backoffLimitPerIndex").is_some() { i64::from(i32::MAX) } else { RETRIES };
    default_to(job, "backoffLimit", retries);
    default_to(job, "completionMode", "NonIndexed");
    default_to(job, "suspend", false);
    let replacement = if get(job, "podFailurePolicy").is_some() { "Failed" } else { "TerminatingOrFailed" };
    default_to(job, "podReplacementPolicy", replacement);
    default_to(job, "manualSelector", false);
    labels_from_template(object);
    default_to(object, "status", json!({}));
}

pub(super) fn cron_job(object: &mut Value) {
    let cron = make(object, "spec");
    fill(cron, "concurrencyPolicy", "Allow");
    default_to(cron, "suspend", false);
    default_to(cron, "successfulJobsHistoryLimit", 3);
    default_to(cron, "failedJobsHistoryLimit", 1);
    let template = make(cron, "jobTemplate");
    make(template, "metadata");
    spec(make(template, "spec"));
    default_to(object, "status", json!({}));
}
