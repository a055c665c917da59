//! What the kubelet counts of its own work, under the names that upstream's kubelet has for it. In flow events of workers, of the
//! runtime's handle and of control groups, out flows a part of `/metrics` ([`crate::stats`]).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kiln_apimachinery::metrics::{Counter, Family, Gauge, Histogram, Labels};

/// Upper bounds in seconds, as upstream has them.
const USUAL: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const STARTS: &[f64] = &[
    0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0,
    600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0,
];
const OPERATIONS: &[f64] = &[
    0.005,
    0.0125,
    0.03125,
    0.078_125,
    0.195_312_5,
    0.488_281_25,
    1.220_703_125,
    3.051_757_812_5,
    7.629_394_531_25,
    19.073_486_328_125,
    47.683_715_820_312_5,
    119.209_289_550_781_25,
    298.023_223_876_953_1,
    745.058_059_692_382_8,
];

/// A histogram of times of the usual length.
pub(crate) fn usual() -> Histogram {
    Histogram::new(USUAL)
}

/// The counts. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<Families>);

#[derive(Debug)]
struct Families {
    operations: Family<Counter>,
    operation_errors: Family<Counter>,
    operation_times: Family<Histogram>,
    groups: Family<Histogram>,
    pod_starts: Family<Histogram>,
    workers: Family<Histogram>,
    pods: Family<Counter>,
    pod_errors: Family<Counter>,
    containers: Family<Counter>,
    container_errors: Family<Counter>,
    ends: Family<Counter>,
    looks: Family<Histogram>,
    look_intervals: Family<Histogram>,
    last_look: Mutex<Option<Instant>>,
    seen: Family<Gauge>,
    evictions: Family<Counter>,
}

impl Default for Families {
    fn default() -> Self {
        let count = |name, help| Family::new(name, help, Counter::default);
        Self {
            operations: count("kubelet_runtime_operations_total", "Calls of the container runtime."),
            operation_errors: count(
                "kubelet_runtime_operations_errors_total",
                "Calls of the container runtime that failed.",
            ),
            operation_times: Family::new(
                "kubelet_runtime_operations_duration_seconds",
                "Times of calls of the container runtime.",
                || Histogram::new(OPERATIONS),
            ),
            groups: Family::new(
                "kubelet_cgroup_manager_duration_seconds",
                "Times of changes of control groups.",
                usual,
            ),
            pod_starts: Family::new(
                "kubelet_pod_start_duration_seconds",
                "Times from the first sight of a pod to its containers' start.",
                || Histogram::new(STARTS),
            ),
            workers: Family::new(
                "kubelet_pod_worker_duration_seconds",
                "Times in which a pod was brought nearer to its spec.",
                usual,
            ),
            pods: count("kubelet_started_pods_total", "Sandboxes that were to be started."),
            pod_errors: count("kubelet_started_pods_errors_total", "Sandboxes that could not be started."),
            containers: count("kubelet_started_containers_total", "Containers that were to be started."),
            container_errors: count("kubelet_started_containers_errors_total", "Containers that could not be started."),
            ends: count("kubelet_terminated_containers_total", "Containers that have ended."),
            looks: Family::new(
                "kubelet_pleg_relist_duration_seconds",
                "Times of looks at what the runtime has of a pod.",
                usual,
            ),
            look_intervals: Family::new(
                "kubelet_pleg_relist_interval_seconds",
                "Times between looks at the runtime.",
                usual,
            ),
            last_look: Mutex::new(None),
            seen: Family::new(
                "kubelet_pleg_last_seen_seconds",
                "When the runtime was last seen, in seconds since 1970.",
                Gauge::default,
            ),
            evictions: count(
                "kubelet_evictions",
                "Pods that were ended as the node ran short, by what it ran short of.",
            ),
        }
    }
}

impl Metrics {
    /// Counts a call of the runtime. `path` is `RuntimeService/RunPodSandbox`, say.
    pub(crate) fn operation(&self, path: &str, time: Duration, failed: bool) {
        let name = operation_name(path);
        let label = |labels: &mut Labels| _ = labels.add("operation_type", &name);
        self.0.operations.with(label).add(1);
        self.0.operation_times.with(label).observe_time(time);
        if failed {
            self.0.operation_errors.with(label).add(1);
        }
    }

    /// Counts a change of a control group that began then.
    pub(crate) fn group(&self, operation: &str, began: Instant) {
        self.0.groups.with(|labels| _ = labels.add("operation_type", operation)).observe_time(began.elapsed());
    }

    /// Counts a pod whose containers have started, that was first seen then.
    pub(crate) fn pod_started(&self, seen: Instant) {
        self.0.pod_starts.with(|_| ()).observe_time(seen.elapsed());
    }

    /// Counts a worker's step that began then.
    pub(crate) fn worked(&self, operation: &str, began: Instant) {
        self.0.workers.with(|labels| _ = labels.add("operation_type", operation)).observe_time(began.elapsed());
    }

    /// Counts the start of a sandbox.
    pub(crate) fn sandbox(&self, failed: bool) {
        self.0.pods.with(|_| ()).add(1);
        if failed {
            self.0.pod_errors.with(|labels| _ = labels.add("code", "RunPodSandboxError")).add(1);
        }
    }

    /// Counts the start of a container of a kind; one that failed says why.
    pub(crate) fn container(&self, kind: &str, failed: Option<&str>) {
        self.0.containers.with(|labels| _ = labels.add("container_type", kind)).add(1);
        if let Some(code) = failed {
            self.0.container_errors.with(|labels| _ = labels.add("code", code).add("container_type", kind)).add(1);
        }
    }

    /// Counts the end of a container of a kind.
    pub(crate) fn ended(&self, kind: &str, exit_code: i32, reason: &str) {
        let label = |labels: &mut Labels| {
            labels.add("container_type", kind).add("exit_code", &exit_code.to_string()).add("reason", reason);
        };
        self.0.ends.with(label).add(1);
    }

    /// Counts a look at what the runtime has of a pod, that began then.
    pub(crate) fn looked(&self, began: Instant) {
        self.0.looks.with(|_| ()).observe_time(began.elapsed());
        let last = self.0.last_look.lock().unwrap_or_else(PoisonError::into_inner).replace(began);
        if let Some(last) = last {
            self.0.look_intervals.with(|_| ()).observe_time(began.saturating_duration_since(last));
        }
        let now = usize::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default();
        self.0.seen.with(|_| ()).set(now);
    }

    /// Counts a pod that was ended for a signal such as `memory.available`.
    pub(crate) fn evicted(&self, signal: &str) {
        self.0.evictions.with(|labels| _ = labels.add("eviction_signal", signal)).add(1);
    }

    /// Writes all series that there are.
    pub(crate) fn write(&self, out: &mut String) {
        let all = &self.0;
        for family in [
            &all.operations,
            &all.operation_errors,
            &all.pods,
            &all.pod_errors,
            &all.containers,
            &all.container_errors,
            &all.ends,
            &all.evictions,
        ] {
            family.write(out);
        }
        for family in
            [&all.operation_times, &all.groups, &all.pod_starts, &all.workers, &all.looks, &all.look_intervals]
        {
            family.write(out);
        }
        all.seen.write(out);
    }
}

/// Upstream's word for a call: `run_podsandbox` for `RuntimeService/RunPodSandbox`.
fn operation_name(path: &str) -> String {
    let call = path.rsplit('/').next().unwrap_or_default().replace("PodSandbox", "Podsandbox");
    let mut name = String::with_capacity(call.len() + 4);
    for c in call.chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
    }
    match name.as_str() {
        "update_container_resources" => "update_container".to_owned(),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_the_runtime_have_upstreams_names() {
        let rows = [
            ("RuntimeService/RunPodSandbox", "run_podsandbox"),
            ("RuntimeService/PodSandboxStatus", "podsandbox_status"),
            ("RuntimeService/ListContainers", "list_containers"),
            ("RuntimeService/ExecSync", "exec_sync"),
            ("RuntimeService/UpdateContainerResources", "update_container"),
            ("ImageService/PullImage", "pull_image"),
            ("RuntimeService/Version", "version"),
        ];
        for (path, expected) in rows {
            assert_eq!(operation_name(path), expected);
        }
    }

    #[test]
    fn what_was_counted_is_written_and_nothing_else() {
        let metrics = Metrics::default();
        let mut text = String::new();
        metrics.write(&mut text);
        assert_eq!(text, "");
        metrics.operation("RuntimeService/Version", Duration::from_millis(20), true);
        metrics.container("init_container", Some("ErrImagePull"));
        metrics.looked(Instant::now());
        metrics.looked(Instant::now());
        metrics.write(&mut text);
        for line in [
            "kubelet_runtime_operations_total{operation_type=\"version\"} 1",
            "kubelet_runtime_operations_errors_total{operation_type=\"version\"} 1",
            "kubelet_runtime_operations_duration_seconds_bucket{operation_type=\"version\",le=\"0.03125\"} 1",
            "kubelet_started_containers_total{container_type=\"init_container\"} 1",
            "kubelet_started_containers_errors_total{code=\"ErrImagePull\",container_type=\"init_container\"} 1",
            "kubelet_pleg_relist_duration_seconds_count 2",
            "kubelet_pleg_relist_interval_seconds_count 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("kubelet_evictions"), "{text}");
    }
}
