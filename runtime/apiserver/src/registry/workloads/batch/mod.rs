//! Pods that end: jobs, and jobs by the clock.

mod defaults;

use kiln_apimachinery::meta;
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
}
