//! Pods that end: jobs, and jobs by the clock.

mod defaults;
mod indexes;
mod policies;
mod status;
mod template;
mod validate;
mod zone;

use kiln_apimachinery::{FieldError, meta};
use serde_json::Value;

use super::controllers::without_status;
use super::view::{is, make};
use crate::registry::strategy::{Strategy, Writer, default_to};

pub(crate) struct Jobs;
pub(crate) struct CronJobs;

impl Strategy for Jobs {
    fn default(&self, object: &mut Value) {
        defaults::job(object);
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        if !is(make(object, "spec"), "manualSelector") {
            select_own(object);
        }
        without_status(object);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validate::job(object)
    }

    fn validate_write(&self, writer: &Writer<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        if writer.subresource == "status" {
            return status::validate(new, old);
        }
        let mut errors = validate::job(new);
        errors.extend(validate::job_update(new, old));
        errors
    }
}

/// A job selects its own pods by its uid, which no other job has.
fn select_own(job: &mut Value) {
    let (name, uid) = (meta::name(job).to_owned(), meta::uid(job).to_owned());
    let spec = make(job, "spec");
    let labels = make(make(make(spec, "template"), "metadata"), "labels");
    for key in ["job-name", "batch.kubernetes.io/job-name"] {
        default_to(labels, key, name.as_str());
    }
    for key in ["controller-uid", UID] {
        default_to(labels, key, uid.as_str());
    }
    default_to(make(make(spec, "selector"), "matchLabels"), UID, uid);
}

/// The label with a job's uid.
const UID: &str = "batch.kubernetes.io/controller-uid";

impl Strategy for CronJobs {
    fn default(&self, object: &mut Value) {
        defaults::cron_job(object);
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        without_status(object);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validate::cron_job(object, None)
    }

    fn validate_write(&self, writer: &Writer<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        if writer.subresource == "status" { Vec::new() } else { validate::cron_job(new, Some(old)) }
    }
}
