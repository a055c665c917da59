//! What the scheduler counts, under the names that Kubernetes' own has:
//! <https://kubernetes.io/docs/reference/instrumentation/metrics/>.

use std::sync::Arc;
use std::time::Duration;

use kiln_apimachinery::metrics::{Counter, Family, Gauge, Histogram};

use crate::framework::{PluginId, Plugins};

/// Attempts from so many on are counted as one.
const MANY_ATTEMPTS: u32 = 15;

/// From 1 ms to 16 s.
const ATTEMPT: &[f64] =
    &[0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384];
/// From 10 ms to over an hour.
const SLI: &[f64] = &[
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68, 655.36,
    1310.72, 2621.44, 5242.88,
];
/// From 0.1 ms to 0.2 s.
const EXTENSION_POINT: &[f64] =
    &[0.0001, 0.0002, 0.0004, 0.0008, 0.0016, 0.0032, 0.0064, 0.0128, 0.0256, 0.0512, 0.1024, 0.2048];

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    Scheduled,
    Unschedulable,
    Error,
}

impl Attempt {
    fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Unschedulable => "unschedulable",
            Self::Error => "error",
        }
    }
}

/// A queue of the scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queue {
    Active,
    BackOff,
    Unschedulable,
    Gated,
}

impl Queue {
    fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::BackOff => "backoff",
            Self::Unschedulable => "unschedulable",
            Self::Gated => "gated",
        }
    }
}

/// All that is counted, from the start of the process on. One belongs to each process, whichever schedulers it had.
#[derive(Debug)]
pub struct Metrics {
    attempts: Family<Counter>,
    attempt_time: Family<Histogram>,
    algorithm_time: Family<Histogram>,
    points: Family<Histogram>,
    pending: Family<Gauge>,
    incoming: Family<Counter>,
    tries: Family<Histogram>,
    sli: Family<Histogram>,
    preemptions: Family<Counter>,
    victims: Family<Histogram>,
    refused: Family<Gauge>,
    cached: Family<Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            attempts: Family::new(
                "scheduler_schedule_attempts_total",
                "Attempts to schedule pods, by their result: unschedulable where no node was found, error where something failed.",
                Counter::default,
            ),
            attempt_time: Family::new(
                "scheduler_scheduling_attempt_duration_seconds",
                "Time of attempts, the binding included.",
                || Histogram::new(ATTEMPT),
            ),
            algorithm_time: Family::new(
                "scheduler_scheduling_algorithm_duration_seconds",
                "Time in which a node was found.",
                || Histogram::new(ATTEMPT),
            ),
            points: Family::new(
                "scheduler_framework_extension_point_duration_seconds",
                "Time of all plugins of an extension point.",
                || Histogram::new(EXTENSION_POINT),
            ),
            pending: Family::new("scheduler_pending_pods", "Pods that wait, by the queue.", Gauge::default),
            incoming: Family::new(
                "scheduler_queue_incoming_pods_total",
                "Pods that came to a queue, by what brought them there.",
                Counter::default,
            ),
            tries: Family::new(
                "scheduler_pod_scheduling_attempts",
                "How many attempts it took until pods were scheduled.",
                || Histogram::new(&[1.0, 2.0, 4.0, 8.0, 16.0]),
            ),
            sli: Family::new(
                "scheduler_pod_scheduling_sli_duration_seconds",
                "Time from a pod's coming to its scheduling, by the attempts.",
                || Histogram::new(SLI),
            ),
            preemptions: Family::new(
                "scheduler_preemption_attempts_total",
                "How often others were looked for that could leave for a pod.",
                Counter::default,
            ),
            victims: Family::new("scheduler_preemption_victims", "How many were asked to leave for a pod.", || {
                Histogram::new(&[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
            }),
            refused: Family::new(
                "scheduler_unschedulable_pods",
                "Pods that wait, by each plugin that refused them.",
                Gauge::default,
            ),
            cached: Family::new("scheduler_cache_size", "What the scheduler's cache holds.", Gauge::default),
        }
    }
}

impl Metrics {
    /// Writes all of it as Prometheus reads it.
    pub fn write(&self, out: &mut String) {
        self.attempts.write(out);
        self.attempt_time.write(out);
        self.algorithm_time.write(out);
        self.points.write(out);
        self.pending.write(out);
        self.incoming.write(out);
        self.tries.write(out);
        self.sli.write(out);
        self.preemptions.write(out);
        self.victims.write(out);
        self.refused.write(out);
        self.cached.write(out);
    }

    /// An attempt ended.
    pub(crate) fn attempted(&self, result: Attempt, profile: &str, took: Duration) {
        let labels = |labels: &mut kiln_apimachinery::metrics::Labels| {
            labels.add("profile", profile).add("result", result.name());
        };
        self.attempts.with(labels).add(1);
        self.attempt_time.with(labels).observe_time(took);
    }

    /// A node was looked for.
    pub(crate) fn looked(&self, took: Duration) {
        self.algorithm_time.with(|_| {}).observe_time(took);
    }

    /// All plugins of an extension point were run.
    pub(crate) fn ran(&self, point: &str, status: &str, profile: &str, took: Duration) {
        let point = self.points.with(|labels| {
            labels.add("extension_point", point).add("profile", profile).add("status", status);
        });
        point.observe_time(took);
    }

    /// A pod was scheduled, after so many attempts and so long after it came.
    pub(crate) fn scheduled(&self, attempts: u32, since_it_came: Duration) {
        self.tries.with(|_| {}).observe(attempts.into());
        let many = attempts >= MANY_ATTEMPTS;
        let count = if many { format!("{MANY_ATTEMPTS}+") } else { attempts.to_string() };
        self.sli.with(|labels| _ = labels.add("attempts", &count)).observe_time(since_it_came);
    }

    /// How many pods wait in a queue.
    pub(crate) fn pending(&self, queue: Queue) -> Arc<Gauge> {
        self.pending.with(|labels| _ = labels.add("queue", queue.name()))
    }

    /// A pod came to a queue, for a reason.
    pub(crate) fn came(&self, queue: Queue, event: &str) {
        self.incoming.with(|labels| _ = labels.add("event", event).add("queue", queue.name())).add(1);
    }

    /// Plugins refuse one pod more, or less.
    pub(crate) fn refuse(&self, plugins: Plugins, profile: &str, by: i64) {
        for plugin in PluginId::ALL.iter().filter(|plugin| plugins.contains(**plugin)) {
            self.refused.with(|labels| _ = labels.add("plugin", plugin.name()).add("profile", profile)).add(by);
        }
    }

    /// Others were looked for that could leave.
    pub(crate) fn looked_for_victims(&self) {
        self.preemptions.with(|_| {}).add(1);
    }

    /// So many are asked to leave.
    pub(crate) fn asked_to_leave(&self, victims: usize) {
        // Far below the 53 bits that a float holds exactly.
        self.victims.with(|_| {}).observe(victims as f64);
    }

    /// The cache holds so much.
    pub(crate) fn cached(&self, nodes: usize, pods: usize, assumed: usize) {
        for (kind, count) in [("assumed_pods", assumed), ("nodes", nodes), ("pods", pods)] {
            self.cached.with(|labels| _ = labels.add("type", kind)).set(count);
        }
    }
}
