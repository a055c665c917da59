//! `/metrics/resource` and `/metrics`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ContainerStatus;
use kiln_apimachinery::metrics::{Labels, Metric as _, process};

use super::disks::Disks;
use super::node::Machine;
use super::text::Text;
use super::usage::{self, ContainerUsage, PodRef, PodUsage};
use super::volumes::Room;
use crate::KUBELET_VERSION;
use crate::cri::Runtime;
use crate::machine::Facts;
use crate::metrics::Metrics;
use crate::probes::counts::FOUND;
use crate::server::{PodView, ProbeCount};
use crate::volumes::VolumeAt;

pub(super) fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

pub(super) fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// `/metrics/resource`: what scaling and `kubectl top` need.
pub(crate) async fn resource(runtime: &Runtime, pods: &[PodView]) -> String {
    let mut text = Text(String::new());
    let usage = usage::all(runtime).await;
    let failed = usage.is_err();
    let usage: Vec<(PodRef, PodUsage)> = usage.unwrap_or_default().into_iter().collect();
    let of_containers =
        |text: &mut Text, name: &str, help: &str, kind: &str, of: &dyn Fn(&ContainerUsage) -> Option<f64>| {
            text.family(name, help, kind);
            for (pod, usage) in &usage {
                for container in &usage.containers {
                    let labels = [("container", &*container.name), ("namespace", &*pod.namespace), ("pod", &*pod.name)];
                    if let Some(value) = of(container) {
                        text.sample(name, &labels, value, container.time / 1_000_000);
                    }
                }
            }
        };
    of_containers(
        &mut text,
        "container_cpu_usage_seconds_total",
        "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
        "counter",
        &|c| c.cpu.map(seconds),
    );
    of_containers(
        &mut text,
        "container_memory_working_set_bytes",
        "[STABLE] Current working set of the container in bytes",
        "gauge",
        &|c| c.working_set.map(|v| v as f64),
    );
    of_containers(
        &mut text,
        "container_swap_usage_bytes",
        "[ALPHA] Current amount of the container swap usage in bytes. Reported only on non-windows systems",
        "gauge",
        &|c| c.swap.map(|v| v as f64),
    );
    let name = "container_start_time_seconds";
    text.family(name, "[STABLE] Start time of the container since unix epoch in seconds", "gauge");
    for view in pods {
        for (container, started) in started(view) {
            let labels = [("container", container), ("namespace", view.namespace()), ("pod", view.name())];
            text.sample(name, &labels, started, 0);
        }
    }
    let (machine, at) = (Machine::read(), now());
    let name = "node_cpu_usage_seconds_total";
    text.family(name, "[STABLE] Cumulative cpu time consumed by the node in core-seconds", "counter");
    text.sample(name, &[], seconds(machine.cpu), at);
    let name = "node_memory_working_set_bytes";
    text.family(name, "[STABLE] Current working set of the node in bytes", "gauge");
    text.sample(name, &[], machine.working_set() as f64, at);
    let name = "node_swap_usage_bytes";
    text.family(name, "[ALPHA] Current swap usage of the node in bytes. Reported only on non-windows systems", "gauge");
    text.sample(name, &[], machine.swap_total.saturating_sub(machine.swap_free) as f64, at);
    let of_pods = |text: &mut Text, name: &str, help: &str, kind: &str, of: &dyn Fn(&PodUsage) -> Option<f64>| {
        text.family(name, help, kind);
        for (pod, usage) in &usage {
            if let Some(value) = of(usage) {
                text.sample(
                    name,
                    &[("namespace", &pod.namespace), ("pod", &pod.name)],
                    value,
                    usage.time() / 1_000_000,
                );
            }
        }
    };
    of_pods(
        &mut text,
        "pod_cpu_usage_seconds_total",
        "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
        "counter",
        &|p| p.sum(|c| c.cpu).map(seconds),
    );
    of_pods(
        &mut text,
        "pod_memory_working_set_bytes",
        "[STABLE] Current working set of the pod in bytes",
        "gauge",
        &|p| p.sum(|c| c.working_set).map(|v| v as f64),
    );
    of_pods(
        &mut text,
        "pod_swap_usage_bytes",
        "[ALPHA] Current amount of the pod swap usage in bytes. Reported only on non-windows systems",
        "gauge",
        &|p| p.sum(|c| c.swap).map(|v| v as f64),
    );
    let name = "resource_scrape_error";
    text.family(name, "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise", "gauge");
    text.sample(name, &[], f64::from(u8::from(failed)), 0);
    text.0
}

/// The statuses of a pod's containers of all kinds.
pub(super) fn statuses(view: &PodView) -> impl Iterator<Item = &ContainerStatus> {
    let status = view.status();
    let lists = status.map(|s| [&s.init_container_statuses, &s.container_statuses, &s.ephemeral_container_statuses]);
    lists.into_iter().flatten().flatten().flatten()
}

/// The pod's containers that run, with their starts in seconds since 1970.
pub(super) fn started(view: &PodView) -> impl Iterator<Item = (&str, f64)> {
    statuses(view).filter_map(|status| {
        let running = status.state.as_ref()?.running.as_ref()?;
        Some((status.name.as_str(), running.started_at.as_ref()?.0.as_second() as f64))
    })
}

/// `/metrics`: the kubelet's own.
pub(crate) async fn own(
    pods: &[PodView],
    disks: &Disks,
    volumes: Vec<VolumeAt>,
    node_name: &str,
    counted: &Metrics,
) -> String {
    let mut text = Text(String::new());
    text.family("kubelet_node_name", "[ALPHA] The node's name. The count is always 1.", "gauge");
    text.sample("kubelet_node_name", &[("node", node_name)], 1.0, 0);
    text.family("kubelet_running_pods", "[BETA] Number of pods that have a running pod sandbox", "gauge");
    text.sample("kubelet_running_pods", &[], pods.iter().filter(|p| p.sandbox.is_some()).count() as f64, 0);
    text.family("kubelet_running_containers", "[BETA] Number of containers currently running", "gauge");
    let containers =
        |running: bool| pods.iter().flat_map(|p| &p.containers).filter(|c| c.running == running).count() as f64;
    text.sample("kubelet_running_containers", &[("container_state", "exited")], containers(false), 0);
    text.sample("kubelet_running_containers", &[("container_state", "running")], containers(true), 0);
    let name = "kubernetes_build_info";
    text.family(name, "[ALPHA] The version. The value is always 1.", "gauge");
    let platform = format!("linux/{}", Facts::ARCHITECTURE);
    text.sample(name, &[("git_version", KUBELET_VERSION), ("platform", &platform)], 1.0, 0);
    counted.write(&mut text.0);
    process::write(&mut text.0);
    let rooms = disks.rooms(volumes).await;
    write_volumes(&mut text, &rooms);
    text.0
}

/// The volumes of claims, each once.
fn write_volumes(text: &mut Text, rooms: &[(VolumeAt, Room)]) {
    type Figure = (&'static str, &'static str, fn(&Room) -> Option<u64>);
    let figures: [Figure; 7] = [
        ("capacity_bytes", "Capacity in bytes of the volume", |room| room.capacity),
        ("available_bytes", "Number of available bytes in the volume", |room| room.available),
        ("used_bytes", "Number of used bytes in the volume", |room| room.used),
        ("inodes", "Maximum number of inodes in the volume", |room| room.inodes),
        ("inodes_free", "Number of free inodes in the volume", |room| room.inodes_free),
        ("inodes_used", "Number of used inodes in the volume", |room| room.inodes_used),
        ("health_status_abnormal", "Whether something is wrong with the volume", |room| room.abnormal.map(u64::from)),
    ];
    let claims: BTreeMap<_, _> = rooms.iter().filter_map(|(at, room)| Some((at.claim.as_ref()?, room))).collect();
    for (name, help, of) in figures {
        let name = format!("kubelet_volume_stats_{name}");
        let mut known = claims.iter().filter_map(|(claim, room)| Some((claim, of(room)?))).peekable();
        if known.peek().is_some() {
            text.family(&name, &format!("[ALPHA] {help}"), "gauge");
        }
        for ((namespace, claim), value) in known {
            let labels = [("namespace", namespace.as_str()), ("persistentvolumeclaim", claim)];
            text.sample(&name, &labels, value as f64, 0);
        }
    }
}

/// `/metrics/probes`.
pub(crate) fn probes(counts: &[ProbeCount]) -> String {
    let mut text = Text::default();
    let name = "prober_probe_total";
    let help = "[BETA] Cumulative number of a liveness, readiness or startup probe for a container by result.";
    text.family(name, help, "counter");
    for ((namespace, pod, uid, container, kind), count) in counts {
        for (found, count) in FOUND.iter().zip(count.found).filter(|(_, count)| *count > 0) {
            let labels = [
                ("container", &**container),
                ("namespace", &**namespace),
                ("pod", &**pod),
                ("pod_uid", &**uid),
                ("probe_type", *kind),
                ("result", *found),
            ];
            text.sample(name, &labels, count as f64, 0);
        }
    }
    let name = "prober_probe_duration_seconds";
    text.family(name, "[ALPHA] Duration in seconds for a probe response.", "histogram");
    for ((namespace, pod, _, container, kind), count) in counts {
        let mut labels = Labels::default();
        labels.add("container", container).add("namespace", namespace).add("pod", pod).add("probe_type", kind);
        count.times.write(&mut text.0, name, labels.text());
    }
    text.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probes::counts::Count;
    use crate::volumes::MeasuredBy;

    #[test]
    fn probes_are_counted_by_what_they_found() {
        let of = |text: &str| text.to_owned();
        let key = (of("ns"), of("web"), of("u"), of("main"), "Liveness");
        let count = Count { found: [3, 0, 1], ..Count::default() };
        count.times.observe(0.02);
        let text = probes(&[(key, count)]);
        let labels = "container=\"main\",namespace=\"ns\",pod=\"web\",pod_uid=\"u\",probe_type=\"Liveness\"";
        let (lines, times): (Vec<&str>, _) =
            text.lines().filter(|line| !line.starts_with('#')).partition(|line| line.contains("_total{"));
        let labels_of_times = "container=\"main\",namespace=\"ns\",pod=\"web\",probe_type=\"Liveness\"";
        assert!(
            times.contains(&&*format!("prober_probe_duration_seconds_bucket{{{labels_of_times},le=\"0.025\"}} 1")),
            "{times:?}"
        );
        let expected = [("successful", 3), ("unknown", 1)];
        let expected =
            expected.map(|(found, count)| format!("prober_probe_total{{{labels},result=\"{found}\"}} {count}"));
        assert_eq!(lines, expected);
    }
    #[test]
    fn a_claim_that_two_pods_have_is_shown_once() {
        let at = |uid: &str, claim: Option<&str>| VolumeAt {
            uid: uid.to_owned(),
            name: "v".to_owned(),
            claim: claim.map(|name| ("ns".to_owned(), name.to_owned())),
            by: MeasuredBy::Kernel("/v".into()),
        };
        let room = Room { capacity: Some(100), abnormal: Some(true), ..Room::default() };
        let mut text = Text::default();
        write_volumes(&mut text, &[(at("a", Some("c")), room), (at("b", Some("c")), room), (at("a", None), room)]);
        let lines: Vec<&str> = text.0.lines().filter(|line| !line.starts_with('#')).collect();
        let labels = "{namespace=\"ns\",persistentvolumeclaim=\"c\"}";
        let expected = ["capacity_bytes", "health_status_abnormal"].into_iter().zip([100, 1]);
        let expected = expected.map(|(name, value)| format!("kubelet_volume_stats_{name}{labels} {value}"));
        assert_eq!(lines, expected.collect::<Vec<_>>());
    }
}
