//! What the Pod Security Standards count, under the names of the reference.

use kiln_apimachinery::metrics::{Counter, Family, Labels};

use super::admission::word;

/// Families of the standards.
#[derive(Debug)]
pub(crate) struct PodSecurityMetrics {
    evaluations: Family<Counter>,
    exemptions: Family<Counter>,
    errors: Family<Counter>,
}

impl Default for PodSecurityMetrics {
    fn default() -> Self {
        Self {
            evaluations: Family::new(
                "pod_security_evaluations_total",
                "Objects that were held against a standard.",
                Counter::default,
            ),
            exemptions: Family::new("pod_security_exemptions_total", "Requests that were exempt.", Counter::default),
            errors: Family::new(
                "pod_security_errors_total",
                "What kept a request from being held against the standard that is asked for.",
                Counter::default,
            ),
        }
    }
}

/// A request.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) is_update: bool,
    /// Whether it is about a pod, and not about what makes pods.
    pub(crate) is_pod: bool,
    pub(crate) subresource: &'a str,
}

impl Asked<'_> {
    fn add(self, labels: &mut Labels) {
        labels.add("request_operation", if self.is_update { "update" } else { "create" });
        labels.add("resource", if self.is_pod { "pod" } else { "controller" }).add("subresource", self.subresource);
    }
}

impl PodSecurityMetrics {
    /// Counts an object that was held against a level and version for a mode: `enforce`, `audit` or `warn`.
    pub(crate) fn evaluated(&self, asked: Asked<'_>, mode: &str, (level, version): (&str, &str), allowed: bool) {
        let labels = |l: &mut Labels| {
            l.add("decision", if allowed { "allow" } else { "deny" }).add("mode", mode);
            l.add("policy_level", level).add("policy_version", version);
            asked.add(l);
        };
        self.evaluations.with(labels).add(1);
    }

    pub(crate) fn exempted(&self, asked: Asked<'_>) {
        self.exemptions.with(|l| asked.add(l)).add(1);
    }

    /// Counts a namespace whose labels can't be read.
    pub(crate) fn failed(&self, asked: Asked<'_>) {
        let labels = |l: &mut Labels| {
            l.add("fatal", word(false));
            asked.add(l);
        };
        self.errors.with(labels).add(1);
    }

    pub(super) fn write(&self, out: &mut String) {
        self.evaluations.write(out);
        self.exemptions.write(out);
        self.errors.write(out);
    }
}
