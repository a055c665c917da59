//! Figures of the ingress, in the text format of Prometheus.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;

use crate::upstream::Backend;

/// Upper ends of the histogram's buckets, in microseconds.
const BUCKETS: [u64; 9] = [1_000, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000, 10_000_000];

/// Counters. All of them only grow, but for the connections.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Answers by the first digit of their status.
    answers: [AtomicU64; 5],
    /// Times to the head of an answer; the last one is for what is beyond the buckets.
    times: [AtomicU64; BUCKETS.len() + 1],
    microseconds: AtomicU64,
    connections: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    reloads: AtomicU64,
}

impl Metrics {
    /// A request was answered.
    pub(crate) fn answered(&self, status: StatusCode, took: Duration) {
        if let Some(count) = self.answers.get(usize::from(status.as_u16() / 100).wrapping_sub(1)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.iter().position(|end| took <= *end).unwrap_or(BUCKETS.len());
        self.times[bucket].fetch_add(1, Ordering::Relaxed);
        self.microseconds.fetch_add(took, Ordering::Relaxed);
    }

    /// The routing table was exchanged.
    pub(crate) fn reloaded(&self) {
        self.reloads.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection was made.
    pub(crate) fn opened(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection ended.
    pub(crate) fn closed(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// A connection was not taken, since there were too many.
    pub(crate) fn turned_away(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// All figures; those of Services for each of `backends`.
    pub(crate) fn text<'a>(&self, backends: impl Iterator<Item = &'a Backend>) -> String {
        let mut text = String::new();
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let mut plain = |name: &str, kind: &str, help: &str, value: u64| {
            _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        };
        plain("kiln_ingress_connections", "gauge", "Connections of clients.", load(&self.connections));
        plain("kiln_ingress_connections_accepted_total", "counter", "Connections taken.", load(&self.accepted));
        plain("kiln_ingress_connections_refused_total", "counter", "Connections turned away.", load(&self.refused));
        plain("kiln_ingress_config_reloads_total", "counter", "Changes of the routing table.", load(&self.reloads));
        _ = writeln!(
            text,
            "# HELP kiln_ingress_requests_total Requests answered.\n# TYPE kiln_ingress_requests_total counter"
        );
        for (at, count) in self.answers.iter().enumerate() {
            _ = writeln!(text, "kiln_ingress_requests_total{{code=\"{}xx\"}} {}", at + 1, load(count));
        }
        let name = "kiln_ingress_request_duration_seconds";
        _ = writeln!(text, "# HELP {name} Time to the head of the answer.\n# TYPE {name} histogram");
        let mut sum = 0;
        for (end, count) in BUCKETS.iter().zip(&self.times) {
            sum += load(count);
            _ = writeln!(text, "{name}_bucket{{le=\"{}\"}} {sum}", seconds(*end));
        }
        sum += load(&self.times[BUCKETS.len()]);
        _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {sum}");
        _ = writeln!(text, "{name}_sum {}\n{name}_count {sum}", seconds(load(&self.microseconds)));
        let name = "kiln_ingress_service_requests_total";
        _ = writeln!(text, "# HELP {name} Requests answered, by Service.\n# TYPE {name} counter");
        for backend in backends {
            for (digit, count) in backend.answers().filter(|(_, count)| *count > 0) {
                let (namespace, service) = (backend.namespace(), backend.service());
                let labels = format!("namespace=\"{namespace}\",service=\"{service}\",code=\"{digit}xx\"");
                _ = writeln!(text, "{name}{{{labels}}} {count}");
            }
        }
        text
    }
}

/// Microseconds as a number of seconds.
fn seconds(microseconds: u64) -> f64 {
    Duration::from_micros(microseconds).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Protocol;

    #[test]
    fn figures_are_told_as_prometheus_reads_them() {
        let metrics = Metrics::default();
        metrics.answered(StatusCode::OK, Duration::from_millis(2));
        metrics.answered(StatusCode::BAD_GATEWAY, Duration::from_secs(60));
        metrics.opened();
        let backend = Backend::new("ns", "web", Protocol::Http);
        backend.count(StatusCode::OK);
        let text = metrics.text(std::iter::once(&backend));
        for line in [
            "kiln_ingress_connections 1",
            "kiln_ingress_requests_total{code=\"2xx\"} 1",
            "kiln_ingress_requests_total{code=\"5xx\"} 1",
            "kiln_ingress_request_duration_seconds_bucket{le=\"0.001\"} 0",
            "kiln_ingress_request_duration_seconds_bucket{le=\"0.005\"} 1",
            "kiln_ingress_request_duration_seconds_bucket{le=\"+Inf\"} 2",
            "kiln_ingress_request_duration_seconds_sum 60.002",
            "kiln_ingress_service_requests_total{namespace=\"ns\",service=\"web\",code=\"2xx\"} 1",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
    }
}
