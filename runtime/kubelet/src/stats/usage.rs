//! What the runtime says of its containers.

use std::collections::{BTreeMap, HashMap};

use crate::cri::{
    ContainerStats, CriError, ListContainerStatsRequest, ListPodSandboxStatsRequest, NetworkUsage, Runtime, UInt64Value,
};

const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
const POD_UID: &str = "io.kubernetes.pod.uid";

/// Name and namespace of a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PodRef {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
}

/// Figures of a container. What is cumulative counts from its start.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ContainerUsage {
    pub(super) id: String,
    pub(super) name: String,
    /// Of the CPU figures, in nanoseconds since 1970.
    pub(super) time: i64,
    /// Nanoseconds of CPU.
    pub(super) cpu: Option<u64>,
    /// Billionths of a CPU, right now.
    pub(super) cpu_now: Option<u64>,
    /// Bytes.
    pub(super) working_set: Option<u64>,
    pub(super) memory: Option<u64>,
    pub(super) rss: Option<u64>,
    pub(super) available: Option<u64>,
    pub(super) page_faults: Option<u64>,
    pub(super) major_page_faults: Option<u64>,
    pub(super) swap: Option<u64>,
    /// Bytes and inodes of the writable layer.
    pub(super) layer: Option<(u64, u64)>,
}

/// Figures of a pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct PodUsage {
    pub(super) containers: Vec<ContainerUsage>,
    pub(super) network: Option<NetworkUsage>,
}

impl PodUsage {
    /// The sum over the containers, if any has a figure.
    pub(super) fn sum(&self, of: impl Fn(&ContainerUsage) -> Option<u64>) -> Option<u64> {
        self.containers.iter().filter_map(of).reduce(|a, b| a.saturating_add(b))
    }

    /// When the newest figure was taken.
    pub(super) fn time(&self) -> i64 {
        self.containers.iter().map(|c| c.time).max().unwrap_or_default()
    }
}

/// The figures of all pods whose containers run.
pub(super) async fn all(runtime: &Runtime) -> Result<BTreeMap<PodRef, PodUsage>, CriError> {
    let (containers, sandboxes) = (ListContainerStatsRequest::default(), ListPodSandboxStatsRequest::default());
    let containers = runtime.list_container_stats(&containers).await?;
    let mut pods: BTreeMap<PodRef, PodUsage> = BTreeMap::new();
    for stats in containers.stats {
        if let Some((pod, usage)) = container(stats) {
            pods.entry(pod).or_default().containers.push(usage);
        }
    }
    // Older runtimes have no figures of sandboxes; then there are none of networks.
    if let Ok(answer) = runtime.list_pod_sandbox_stats(&sandboxes).await {
        for stats in answer.stats {
            let Some(metadata) = stats.attributes.and_then(|a| a.metadata) else { continue };
            let pod = PodRef { namespace: metadata.namespace, name: metadata.name, uid: metadata.uid };
            if let Some(usage) = pods.get_mut(&pod) {
                usage.network = stats.linux.and_then(|l| l.network);
            }
        }
    }
    Ok(pods)
}

/// Bytes that containers have written to their own layers, by their ids; nothing, if the runtime does not tell.
pub(super) async fn layers(runtime: &Runtime) -> HashMap<String, u64> {
    let stats = runtime.list_container_stats(&ListContainerStatsRequest::default()).await;
    let layer = |stats: ContainerStats| Some((stats.attributes?.id, stats.writable_layer?.used_bytes?.value));
    stats.map(|answer| answer.stats.into_iter().filter_map(layer).collect()).unwrap_or_default()
}

fn container(stats: ContainerStats) -> Option<(PodRef, ContainerUsage)> {
    let attributes = stats.attributes?;
    let label = |key: &str| attributes.labels.get(key).cloned().unwrap_or_default();
    let pod = PodRef { namespace: label(POD_NAMESPACE), name: label(POD_NAME), uid: label(POD_UID) };
    let value = |v: Option<UInt64Value>| v.map(|v| v.value);
    let (cpu, memory) = (stats.cpu.unwrap_or_default(), stats.memory.unwrap_or_default());
    let usage = ContainerUsage {
        name: attributes.metadata.map(|m| m.name).unwrap_or_default(),
        id: attributes.id,
        time: cpu.timestamp.max(memory.timestamp),
        cpu: value(cpu.usage_core_nano_seconds),
        cpu_now: value(cpu.usage_nano_cores),
        working_set: value(memory.working_set_bytes),
        memory: value(memory.usage_bytes),
        rss: value(memory.rss_bytes),
        available: value(memory.available_bytes).filter(|v| *v > 0),
        page_faults: value(memory.page_faults),
        major_page_faults: value(memory.major_page_faults),
        swap: stats.swap.and_then(|s| value(s.swap_usage_bytes)),
        layer: stats
            .writable_layer
            .map(|l| (value(l.used_bytes).unwrap_or_default(), value(l.inodes_used).unwrap_or_default())),
    };
    (!pod.name.is_empty()).then_some((pod, usage))
}
