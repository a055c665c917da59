//! What admission counts, under the names of the reference.

use std::time::Duration;

use kiln_apimachinery::metrics::{Counter, Family, Histogram, Labels};

use super::three_digits;

const STEPS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5];
const WEBHOOKS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];

/// Families of admission.
#[derive(Debug)]
pub(crate) struct AdmissionMetrics {
    steps: Family<Histogram>,
    durations: Family<Histogram>,
    requests: Family<Counter>,
    rejections: Family<Counter>,
    fail_open: Family<Counter>,
}

impl Default for AdmissionMetrics {
    fn default() -> Self {
        Self {
            steps: Family::new(
                "apiserver_admission_step_admission_duration_seconds",
                "Time of all that changes or that judges a request.",
                || Histogram::new(STEPS),
            ),
            durations: Family::new(
                "apiserver_admission_webhook_admission_duration_seconds",
                "Time that a webhook took.",
                || Histogram::new(WEBHOOKS),
            ),
            requests: Family::new("apiserver_admission_webhook_request_total", "Calls of webhooks.", Counter::default),
            rejections: Family::new(
                "apiserver_admission_webhook_rejection_count",
                "Requests that a webhook, or its failure, refused.",
                Counter::default,
            ),
            fail_open: Family::new(
                "apiserver_admission_webhook_fail_open_count",
                "Failures of webhooks that were passed over.",
                Counter::default,
            ),
        }
    }
}

/// How the call of a webhook ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The request passed.
    Passed,
    /// The webhook refused it, with this code.
    Refused(u16),
    /// The webhook could not be asked, and the request fails.
    Failed,
    /// The webhook could not be asked, which is passed over.
    FailedOpen,
    /// This server could make nothing of it.
    Broken,
}

/// A webhook that was called.
pub(crate) struct Called<'a> {
    pub(crate) name: &'a str,
    /// `admit` or `validating`.
    pub(crate) kind: &'static str,
    pub(crate) operation: &'static str,
    pub(crate) took: Duration,
}

impl AdmissionMetrics {
    /// Counts a step, `admit` or `validate`, of the admission of a request.
    pub(crate) fn step(&self, kind: &'static str, operation: &'static str, took: Duration, rejected: bool) {
        let labels = |l: &mut Labels| {
            l.add("operation", operation).add("rejected", word(rejected)).add("type", kind);
        };
        self.steps.with(labels).observe_time(took);
    }

    /// Counts a call of a webhook.
    pub(crate) fn webhook(&self, called: &Called<'_>, outcome: Outcome) {
        let &Called { name, kind, operation, took } = called;
        let (code, error, rejected) = match outcome {
            Outcome::Passed => (200, "", false),
            Outcome::Refused(code) => (code.min(600), "no_error", true),
            Outcome::Failed => (503, "calling_webhook_error", true),
            Outcome::FailedOpen => (503, "", false),
            Outcome::Broken => (0, "apiserver_internal_error", true),
        };
        let mut digits = [0; 3];
        let code = if code == 0 { "0" } else { three_digits(code, &mut digits) };
        let of = |l: &mut Labels| {
            l.add("name", name).add("operation", operation).add("rejected", word(rejected)).add("type", kind);
        };
        self.durations.with(of).observe_time(took);
        self.requests
            .with(|l| {
                l.add("code", code);
                of(l);
            })
            .add(1);
        if !error.is_empty() {
            let labels = |l: &mut Labels| {
                l.add("error_type", error).add("name", name).add("operation", operation);
                l.add("rejection_code", code).add("type", kind);
            };
            self.rejections.with(labels).add(1);
        }
        if outcome == Outcome::FailedOpen {
            let labels = |l: &mut Labels| {
                l.add("name", name).add("type", kind);
            };
            self.fail_open.with(labels).add(1);
        }
    }

    pub(super) fn write(&self, out: &mut String) {
        self.steps.write(out);
        self.durations.write(out);
        self.requests.write(out);
        self.rejections.write(out);
        self.fail_open.write(out);
    }
}

pub(super) fn word(truth: bool) -> &'static str {
    if truth { "true" } else { "false" }
}
