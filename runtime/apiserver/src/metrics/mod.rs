//! `/metrics`: what the server has done, under the names that dashboards and alerts for Kubernetes ask for.

pub(crate) mod admission;
pub(crate) mod pod_security;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kiln_apimachinery::metrics::{Counter, Family, Gauge, Held, Histogram, Labels, process, write_once};
use kiln_storage::ListOptions;

use crate::request_info::RequestInfo;
use crate::server::ApiServer;

/// The content type of the text.
pub(crate) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const SECONDS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];
const WAITS: &[f64] = &[0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];
const SIZES: &[f64] = &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
const EVENT_SIZES: &[f64] = &[1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0, 65536.0, 131_072.0];

/// Paths that are counted under their name; there is no end to the paths that clients may make up.
const KNOWN_PATHS: &[&str] = &["/healthz", "/livez", "/readyz", "/metrics", "/version", "/openapi/v2", "/openapi/v3"];

/// Everything that is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    requests: Family<Counter>,
    durations: Family<Histogram>,
    sizes: Family<Histogram>,
    in_flight: Family<Gauge>,
    long_running: Family<Gauge>,
    terminated: Family<Counter>,
    watch_events: Family<Counter>,
    watch_event_sizes: Family<Histogram>,
    pub(crate) admission: admission::AdmissionMetrics,
    pub(crate) pod_security: pod_security::PodSecurityMetrics,
    pub(crate) flow: FlowMetrics,
}

/// What priority and fairness counts.
#[derive(Debug)]
pub(crate) struct FlowMetrics {
    pub(crate) queued: Family<Gauge>,
    pub(crate) executing: Family<Gauge>,
    pub(crate) seats: Family<Gauge>,
    pub(crate) dispatched: Family<Counter>,
    pub(crate) rejected: Family<Counter>,
    pub(crate) waited: Family<Histogram>,
    pub(crate) nominal: Family<Gauge>,
    pub(crate) lower: Family<Gauge>,
    pub(crate) upper: Family<Gauge>,
    pub(crate) current: Family<Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::new("apiserver_request_total", "Requests answered.", Counter::default),
            durations: Family::new("apiserver_request_duration_seconds", "Time from a request to its answer.", || {
                Histogram::new(SECONDS)
            }),
            sizes: Family::new("apiserver_response_sizes", "Bytes of the answers to reads.", || Histogram::new(SIZES)),
            in_flight: Family::new("apiserver_current_inflight_requests", "Requests being served.", Gauge::default),
            long_running: Family::new("apiserver_longrunning_requests", "Streams being served.", Gauge::default),
            terminated: Family::new(
                "apiserver_request_terminations_total",
                "Requests that the server ended in self-defence.",
                Counter::default,
            ),
            watch_events: Family::new("apiserver_watch_events_total", "Events sent to watches.", Counter::default),
            watch_event_sizes: Family::new("apiserver_watch_events_sizes", "Bytes of events sent to watches.", || {
                Histogram::new(EVENT_SIZES)
            }),
            admission: admission::AdmissionMetrics::default(),
            pod_security: pod_security::PodSecurityMetrics::default(),
            flow: FlowMetrics::default(),
        }
    }
}

impl Default for FlowMetrics {
    fn default() -> Self {
        let prefix_free = Gauge::default;
        Self {
            queued: Family::new("apiserver_flowcontrol_current_inqueue_requests", "Requests waiting.", prefix_free),
            executing: Family::new(
                "apiserver_flowcontrol_current_executing_requests",
                "Requests in their first phase of execution.",
                prefix_free,
            ),
            seats: Family::new("apiserver_flowcontrol_current_executing_seats", "Seats taken.", prefix_free),
            dispatched: Family::new(
                "apiserver_flowcontrol_dispatched_requests_total",
                "Requests let through.",
                Counter::default,
            ),
            rejected: Family::new(
                "apiserver_flowcontrol_rejected_requests_total",
                "Requests turned away.",
                Counter::default,
            ),
            waited: Family::new("apiserver_flowcontrol_request_wait_duration_seconds", "Time in queues.", || {
                Histogram::new(WAITS)
            }),
            nominal: Family::new(
                "apiserver_flowcontrol_nominal_limit_seats",
                "Seats that a level has of its own.",
                prefix_free,
            ),
            lower: Family::new(
                "apiserver_flowcontrol_lower_limit_seats",
                "Seats that a level does not lend.",
                prefix_free,
            ),
            upper: Family::new(
                "apiserver_flowcontrol_upper_limit_seats",
                "Seats that a level may have with those that it borrows.",
                prefix_free,
            ),
            current: Family::new(
                "apiserver_flowcontrol_current_limit_seats",
                "Seats that a level has now.",
                prefix_free,
            ),
        }
    }
}

/// What an answered request was.
pub(crate) struct Answered<'a> {
    pub(crate) info: &'a RequestInfo,
    /// The patch is an apply.
    pub(crate) apply: bool,
    pub(crate) dry_run: bool,
    pub(crate) code: u16,
    pub(crate) took: Duration,
    /// Bytes of the body, if they are known.
    pub(crate) size: Option<u64>,
}

/// The verb as it is reported.
fn verb(info: &RequestInfo, apply: bool) -> &'static str {
    match info.verb.as_str() {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" if apply => "APPLY",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        "head" => "HEAD",
        "connect" => "CONNECT",
        _ => "other",
    }
}

fn scope(info: &RequestInfo) -> &'static str {
    match () {
        () if !info.is_resource => "",
        () if !info.name.is_empty() || info.verb == "create" => "resource",
        () if !info.namespace.is_empty() => "namespace",
        () => "cluster",
    }
}

fn resource_labels(labels: &mut Labels, info: &RequestInfo) {
    let subresource = if info.is_resource {
        info.subresource.as_str()
    } else {
        KNOWN_PATHS.iter().find(|p| info.path.starts_with(**p)).copied().unwrap_or_default()
    };
    labels
        .add("group", &info.group)
        .add("resource", &info.resource)
        .add("scope", scope(info))
        .add("subresource", subresource)
        .add("version", &info.version);
}

impl Metrics {
    /// Counts an answer. `info` must be of a resource that is served, or of no resource.
    pub(crate) fn answered(&self, answered: &Answered<'_>) {
        let &Answered { info, apply, dry_run, code, took, size } = answered;
        let (verb, dry_run) = (verb(info, apply), if dry_run { "All" } else { "" });
        let mut digits = [0; 3];
        let code = three_digits(code, &mut digits);
        self.requests
            .with(|l| {
                l.add("code", code).add("component", "apiserver").add("dry_run", dry_run).add("verb", verb);
                resource_labels(l, info);
            })
            .add(1);
        if verb == "WATCH" {
            return;
        }
        let labels = |l: &mut Labels| {
            l.add("component", "apiserver").add("dry_run", dry_run).add("verb", verb);
            resource_labels(l, info);
        };
        self.durations.with(labels).observe_time(took);
        if let Some(size) = size.filter(|_| matches!(verb, "GET" | "LIST")) {
            let labels = |l: &mut Labels| {
                l.add("component", "apiserver").add("verb", verb);
                resource_labels(l, info);
            };
            // Sizes are far below the 53 bits that a float holds exactly.
            self.sizes.with(labels).observe(size as f64);
        }
    }

    /// Counts a stream that is being served, until the answer is dropped.
    pub(crate) fn long_running(&self, info: &RequestInfo) -> Held {
        Held::new(self.long_running.with(|l| {
            l.add("component", "apiserver").add("verb", verb(info, false));
            resource_labels(l, info);
        }))
    }

    /// Counts a request that is being served, by whether it writes.
    pub(crate) fn in_flight(&self, mutating: bool) -> Held {
        let kind = if mutating { "mutating" } else { "readOnly" };
        Held::new(self.in_flight.with(|l| {
            l.add("request_kind", kind);
        }))
    }

    /// Counts a request that was not served out.
    pub(crate) fn terminated(&self, info: &RequestInfo, code: u16) {
        let mut digits = [0; 3];
        let code = three_digits(code, &mut digits);
        self.terminated
            .with(|l| {
                l.add("code", code).add("component", "apiserver").add("verb", verb(info, false));
                resource_labels(l, info);
            })
            .add(1);
    }

    /// The counters of one watch's events.
    pub(crate) fn watch_events(&self, info: &RequestInfo) -> WatchEvents {
        let labels = |l: &mut Labels| {
            l.add("group", &info.group).add("resource", &info.resource).add("version", &info.version);
        };
        WatchEvents { count: self.watch_events.with(labels), sizes: self.watch_event_sizes.with(labels) }
    }
}

fn three_digits(code: u16, digits: &mut [u8; 3]) -> &str {
    for (at, power) in [(0, 100), (1, 10), (2, 1)] {
        // Below ten.
        digits[at] = b'0' + (code / power % 10) as u8;
    }
    std::str::from_utf8(digits).unwrap_or_default()
}

/// Counters that a watch keeps.
#[derive(Clone, Debug)]
pub(crate) struct WatchEvents {
    count: Arc<Counter>,
    sizes: Arc<Histogram>,
}

impl WatchEvents {
    pub(crate) fn sent(&self, bytes: usize) {
        self.count.add(1);
        self.sizes.observe(bytes as f64);
    }
}

/// The text of `/metrics`.
pub(crate) async fn text(server: &ApiServer) -> String {
    let metrics = server.metrics();
    let mut out = String::with_capacity(64 * 1024);
    metrics.requests.write(&mut out);
    metrics.durations.write(&mut out);
    metrics.sizes.write(&mut out);
    metrics.in_flight.write(&mut out);
    metrics.long_running.write(&mut out);
    metrics.terminated.write(&mut out);
    metrics.watch_events.write(&mut out);
    metrics.watch_event_sizes.write(&mut out);
    let flow = &metrics.flow;
    for limits in [&flow.nominal, &flow.lower, &flow.upper, &flow.current] {
        limits.write(&mut out);
    }
    flow.queued.write(&mut out);
    flow.executing.write(&mut out);
    flow.seats.write(&mut out);
    flow.dispatched.write(&mut out);
    flow.rejected.write(&mut out);
    flow.waited.write(&mut out);
    metrics.admission.write(&mut out);
    metrics.pod_security.write(&mut out);
    server.aggregation().metrics(&mut out);
    objects(server, &mut out).await;
    storage(server, &mut out);
    build_info(server, &mut out);
    process::write(&mut out);
    server.config().further_metrics.iter().for_each(|write| write(&mut out));
    out
}

/// The text of `/metrics/slis`: the health checks as numbers.
pub(crate) fn slis(server: &ApiServer) -> String {
    let checks = crate::health::all_checks(server);
    let labels = |kind: &str, name: &str| format!("name=\"{name}\",type=\"{kind}\"");
    let values: Vec<_> =
        checks.iter().map(|(kind, name, good)| (labels(kind, name), if *good { 1.0 } else { 0.0 })).collect();
    let mut out = String::new();
    write_once(&mut out, "kubernetes_healthcheck", "Whether each health check passes.", "gauge", &values);
    out
}

async fn objects(server: &ApiServer, out: &mut String) {
    let (mut by_name, mut by_group) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for row in server.registry().all().iter().filter(|row| row.review.is_none()) {
        // Versions of a kind share their objects.
        if !seen.insert(row.prefix("")) {
            continue;
        }
        let options = ListOptions { limit: 1, count: true, ..ListOptions::default() };
        let Ok(page) = server.storage().list(&row.prefix(""), options).await else { continue };
        // Counts are far below the 53 bits that a float holds exactly.
        let count = (page.records.len() as u64 + page.remaining) as f64;
        by_name.push((format!("resource=\"{}\"", row.group_resource()), count));
        by_group.push((format!("group=\"{}\",resource=\"{}\"", row.group, row.plural), count));
    }
    write_once(out, "apiserver_storage_objects", "Objects stored, by resource.", "gauge", &by_name);
    write_once(out, "apiserver_resource_objects", "Objects stored, by group and resource.", "gauge", &by_group);
}

fn storage(server: &ApiServer, out: &mut String) {
    let counters = server.storage().counters();
    for (name, help, value) in [
        ("kiln_storage_bytes_written_total", "Bytes that the store wrote to the disk.", counters.bytes_written),
        ("kiln_storage_commits_total", "Commits of the store.", counters.commits),
        ("kiln_storage_writes_total", "Writes that succeeded.", counters.writes),
    ] {
        write_once(out, name, help, "counter", &[(String::new(), value as f64)]);
    }
    let revision = server.storage().current_revision() as f64;
    write_once(out, "kiln_storage_revision", "Revision of the store.", "gauge", &[(String::new(), revision)]);
}

fn build_info(server: &ApiServer, out: &mut String) {
    let version = server.config().version.to_value();
    let text = |key: &str| version[key].as_str().unwrap_or_default().to_owned();
    let mut labels = String::new();
    for (label, key) in [
        ("build_date", "buildDate"),
        ("compiler", "compiler"),
        ("git_commit", "gitCommit"),
        ("git_tree_state", "gitTreeState"),
        ("git_version", "gitVersion"),
        ("go_version", "goVersion"),
        ("major", "major"),
        ("minor", "minor"),
        ("platform", "platform"),
    ] {
        let comma = if labels.is_empty() { "" } else { "," };
        labels.push_str(&format!("{comma}{label}=\"{}\"", text(key)));
    }
    write_once(out, "kubernetes_build_info", "What was built, as labels.", "gauge", &[(labels, 1.0)]);
}
