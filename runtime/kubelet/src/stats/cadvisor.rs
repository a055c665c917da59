//! `/metrics/cadvisor`: what dashboards know by cAdvisor's names.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::Container;
use kiln_apimachinery::quantity::Quantity;

use super::metrics::{now, seconds, started};
use super::node::Machine;
use super::text::Text;
use super::usage::{self, ContainerUsage, PodRef, PodUsage};
use crate::cgroups::{PERIOD, pod_path, quota, shares};
use crate::cri::{NetworkInterfaceUsage, Runtime, UInt64Value};
use crate::resources::{CPU, MEMORY, find};
use crate::server::PodView;

/// A series of containers: name, meaning, kind, labels of its own, and value. Those of one name follow each other.
type Series = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)], Figure);
type Figure = fn(&ContainerUsage) -> Option<f64>;

const FAILURES: &str = "container_memory_failures_total";
const OF_FAILURES: &str = "Cumulative count of memory allocation failures.";

/// cAdvisor's main series of containers.
const CONTAINERS: [Series; 10] = [
    (
        "container_cpu_usage_seconds_total",
        "Cumulative cpu time consumed in seconds.",
        "counter",
        &[("cpu", "total")],
        |c| c.cpu.map(seconds),
    ),
    (
        "container_fs_usage_bytes",
        "Number of bytes that are consumed by the container on this filesystem.",
        "gauge",
        &[("device", "")],
        |c| c.layer.map(|l| l.0 as f64),
    ),
    (FAILURES, OF_FAILURES, "counter", &[("failure_type", "pgfault"), ("scope", "container")], |c| {
        c.page_faults.map(|v| v as f64)
    }),
    (FAILURES, OF_FAILURES, "counter", &[("failure_type", "pgfault"), ("scope", "hierarchy")], |c| {
        c.page_faults.map(|v| v as f64)
    }),
    (FAILURES, OF_FAILURES, "counter", &[("failure_type", "pgmajfault"), ("scope", "container")], |c| {
        c.major_page_faults.map(|v| v as f64)
    }),
    (FAILURES, OF_FAILURES, "counter", &[("failure_type", "pgmajfault"), ("scope", "hierarchy")], |c| {
        c.major_page_faults.map(|v| v as f64)
    }),
    ("container_memory_rss", "Size of RSS in bytes.", "gauge", &[], |c| c.rss.map(|v| v as f64)),
    ("container_memory_swap", "Container swap usage in bytes.", "gauge", &[], |c| c.swap.map(|v| v as f64)),
    (
        "container_memory_usage_bytes",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        "gauge",
        &[],
        |c| c.memory.map(|v| v as f64),
    ),
    ("container_memory_working_set_bytes", "Current working set in bytes.", "gauge", &[], |c| {
        c.working_set.map(|v| v as f64)
    }),
];

/// What a container's spec says: name, meaning, and value, if there is one.
type Spec = (&'static str, &'static str, fn(&Container) -> Option<f64>);

const SPECS: [Spec; 4] = [
    ("container_spec_cpu_period", "CPU period of the container.", |_| Some(PERIOD as f64)),
    ("container_spec_cpu_quota", "CPU quota of the container.", |c| {
        limit(c, CPU).map(|cpu| quota(cpu.milli_value()) as f64)
    }),
    ("container_spec_cpu_shares", "CPU share of the container.", |c| {
        let request = c.resources.as_ref().and_then(|r| find(r.requests.as_ref(), CPU)).or_else(|| limit(c, CPU));
        Some(shares(request.map_or(0, |cpu| cpu.milli_value())) as f64)
    }),
    // 0 for none.
    ("container_spec_memory_limit_bytes", "Memory limit for the container.", |c| {
        Some(limit(c, MEMORY).map_or(0.0, |memory| memory.value() as f64))
    }),
];

fn limit(container: &Container, name: &str) -> Option<Quantity> {
    find(container.resources.as_ref()?.limits.as_ref(), name)
}

/// A container as cAdvisor's labels tell it. The machine as a whole is the one with nothing but its id.
struct Labels<'a> {
    container: &'a str,
    id: String,
    image: &'a str,
    name: &'a str,
    namespace: &'a str,
    pod: &'a str,
}

impl Labels<'_> {
    const MACHINE: Labels<'static> =
        Labels { container: "", id: String::new(), image: "", name: "", namespace: "", pod: "" };

    /// With those of the series, in the order of their names.
    fn with<'b>(&'b self, own: &[(&'b str, &'b str)]) -> Vec<(&'b str, &'b str)> {
        let id = if self.id.is_empty() { "/" } else { self.id.as_str() };
        let mut all = vec![
            ("container", self.container),
            ("id", id),
            ("image", self.image),
            ("name", self.name),
            ("namespace", self.namespace),
            ("pod", self.pod),
        ];
        all.extend_from_slice(own);
        all.sort_unstable();
        all
    }
}

/// `/metrics/cadvisor`: the main series under cAdvisor's names. `root` is the control group of all pods.
pub(crate) async fn cadvisor(runtime: &Runtime, pods: &[PodView], root: &str) -> String {
    let mut text = Text(String::new());
    let (machine, at) = (Machine::read(), now());
    let usage = usage::all(runtime).await.unwrap_or_default();
    let mut found: Vec<(Labels<'_>, &ContainerUsage)> = Vec::new();
    let views: HashMap<&str, &PodView> = pods.iter().map(|view| (view.uid(), view)).collect();
    for (pod, usage) in &usage {
        let view = views.get(pod.uid.as_str());
        for container in &usage.containers {
            let spec = view.and_then(|view| container_of(view, &container.name));
            let labels = Labels {
                container: &container.name,
                id: view.map(|v| format!("{}/{}", pod_path(root, &v.pod), container.id)).unwrap_or_default(),
                image: spec.and_then(|c| c.image.as_deref()).unwrap_or_default(),
                name: &container.id,
                namespace: &pod.namespace,
                pod: &pod.name,
            };
            found.push((labels, container));
        }
    }
    let whole = ContainerUsage {
        cpu: Some(machine.cpu),
        memory: Some(machine.total.saturating_sub(machine.free)),
        working_set: Some(machine.working_set()),
        rss: Some(machine.rss),
        swap: Some(machine.swap_total.saturating_sub(machine.swap_free)),
        time: at.saturating_mul(1_000_000),
        ..ContainerUsage::default()
    };
    found.insert(0, (Labels::MACHINE, &whole));
    let mut last = "";
    for (name, help, kind, own, of) in CONTAINERS {
        if name != last {
            text.family(name, help, kind);
            last = name;
        }
        for (labels, container) in &found {
            if let Some(value) = of(container) {
                text.sample(name, &labels.with(own), value, container.time / 1_000_000);
            }
        }
    }
    text.family("container_last_seen", "Last time a container was seen by the exporter", "gauge");
    for (labels, _) in &found {
        text.sample("container_last_seen", &labels.with(&[]), (at / 1000) as f64, at);
    }
    for (name, help, of) in SPECS {
        text.family(name, help, "gauge");
        for (labels, _) in found.iter().skip(1) {
            let view = pods.iter().find(|v| v.name() == labels.pod && v.namespace() == labels.namespace);
            if let Some(value) = view.and_then(|v| container_of(v, labels.container)).and_then(of) {
                text.sample(name, &labels.with(&[]), value, 0);
            }
        }
    }
    let name = "container_start_time_seconds";
    text.family(name, "Start time of the container since unix epoch in seconds.", "gauge");
    for (labels, _) in found.iter().skip(1) {
        let view = pods.iter().find(|v| v.name() == labels.pod && v.namespace() == labels.namespace);
        let start = view.and_then(|view| started(view).find(|(container, _)| *container == labels.container));
        if let Some((_, start)) = start {
            text.sample(name, &labels.with(&[]), start, 0);
        }
    }
    networks(&mut text, &usage, &views, root);
    text.family("machine_cpu_cores", "Number of logical CPU cores.", "gauge");
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    text.sample("machine_cpu_cores", &[], cores as f64, 0);
    text.family("machine_memory_bytes", "Amount of memory installed on the machine.", "gauge");
    text.sample("machine_memory_bytes", &[], machine.total as f64, 0);
    text.family("machine_swap_bytes", "Amount of swap memory available on the machine.", "gauge");
    text.sample("machine_swap_bytes", &[], machine.swap_total as f64, 0);
    text.0
}

/// A container of the pod's spec, of any kind.
fn container_of<'a>(view: &'a PodView, name: &str) -> Option<&'a Container> {
    let spec = view.pod.spec.as_ref()?;
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|c| c.name == name)
}

/// What pods sent and received.
fn networks(text: &mut Text, usage: &BTreeMap<PodRef, PodUsage>, views: &HashMap<&str, &PodView>, root: &str) {
    type Counter = (&'static str, &'static str, fn(&NetworkInterfaceUsage) -> Option<UInt64Value>);
    let counters: [Counter; 4] = [
        ("container_network_receive_bytes_total", "Cumulative count of bytes received", |i| i.rx_bytes),
        ("container_network_receive_errors_total", "Cumulative count of errors encountered while receiving", |i| {
            i.rx_errors
        }),
        ("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", |i| i.tx_bytes),
        ("container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting", |i| {
            i.tx_errors
        }),
    ];
    for (name, help, of) in counters {
        text.family(name, help, "counter");
        for (pod, usage) in usage {
            let Some(network) = &usage.network else { continue };
            // Some runtimes name the first one twice.
            let mut seen = Vec::new();
            for interface in network.default_interface.iter().chain(&network.interfaces) {
                let Some(value) = of(interface).filter(|_| !seen.contains(&&interface.name)) else { continue };
                seen.push(&interface.name);
                let id = views.get(pod.uid.as_str()).map(|view| pod_path(root, &view.pod)).unwrap_or_default();
                let labels = Labels { id, namespace: &pod.namespace, pod: &pod.name, ..Labels::MACHINE };
                let labels = labels.with(&[("interface", interface.name.as_str())]);
                text.sample(name, &labels, value.value as f64, network.timestamp / 1_000_000);
            }
        }
    }
}
