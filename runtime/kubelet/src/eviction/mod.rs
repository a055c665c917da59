//! Ending pods before the machine runs out of memory, disk, inodes or process ids. In flow what is left of each and what pods
//! use, out flow the Node's conditions of pressure, pods to be ended with their messages, and calls to clear up unused images and
//! containers first. Thresholds, order and wording are those of the upstream kubelet. What costs time to measure (the disk that
//! pods use) is measured only when something depends on it.

mod local;
mod manager;
mod message;
mod observe;
mod rank;
mod run;
mod threshold;
mod usage;

pub use manager::Pressures;
pub use run::{Evicted, Eviction, Hooks};
pub use threshold::{Settings, Signal, Threshold, ThresholdError};
pub(crate) use usage::Meter;
pub use usage::{ContainerUsage, DiskUsage, PodUsage};

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use crate::admission::Rejection;
use crate::machine::Pressure;
use crate::resources::{Qos, is_critical, qos};

/// The reason in the status of pods that are ended, and of their events.
pub const EVICTED: &str = "Evicted";
const MEMORY_TAINT: &str = "node.kubernetes.io/memory-pressure";

/// Whether a pod is not taken because the node is under pressure: a critical one always is, and under pressure of memory alone
/// those that request something, or tolerate it.
pub fn admit(pod: &Pod, pressure: Pressure) -> Result<(), Rejection> {
    let conditions: Vec<&str> = names(pressure);
    if conditions.is_empty() || is_critical(pod) {
        return Ok(());
    }
    if conditions == ["MemoryPressure"] && (qos(pod) != Qos::BestEffort || tolerates_memory_pressure(pod)) {
        return Ok(());
    }
    Err(Rejection {
        reason: EVICTED.to_owned(),
        message: format!("The node had condition: [{}]. ", conditions.join(" ")),
        with_fresh_node: false,
    })
}

fn names(pressure: Pressure) -> Vec<&'static str> {
    let rows = [(pressure.memory, "MemoryPressure"), (pressure.disk, "DiskPressure"), (pressure.pids, "PIDPressure")];
    rows.into_iter().filter(|(is, _)| *is).map(|(_, name)| name).collect()
}

fn tolerates_memory_pressure(pod: &Pod) -> bool {
    let taint = k8s_openapi::api::core::v1::Taint {
        key: MEMORY_TAINT.to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Default::default()
    };
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    tolerations.iter().any(|toleration| crate::admission::tolerates(toleration, &taint))
}

fn uid(pod: &Arc<Pod>) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn under_pressure_only_some_pods_are_taken() {
        let pod = |spec: Value| serde_json::from_value::<Pod>(json!({ "spec": spec })).expect("a pod");
        let plain = pod(json!({"containers": [{"name": "c"}]}));
        let asking = pod(json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]}));
        let critical = pod(json!({"containers": [{"name": "c"}], "priority": 2_000_000_000}));
        let tolerant =
            pod(json!({"containers": [{"name": "c"}], "tolerations": [{"key": MEMORY_TAINT, "operator": "Exists"}]}));
        let memory = Pressure { memory: true, ..Pressure::default() };
        let both = Pressure { memory: true, disk: true, pids: false };
        let rows = [
            (&plain, Pressure::default(), None),
            (&plain, memory, Some("[MemoryPressure]")),
            (&asking, memory, None),
            (&tolerant, memory, None),
            (&asking, both, Some("[MemoryPressure DiskPressure]")),
            (&tolerant, both, Some("[MemoryPressure DiskPressure]")),
            (&critical, both, None),
        ];
        for (pod, pressure, expected) in rows {
            let found = admit(pod, pressure).err().map(|rejection| rejection.message);
            assert_eq!(found, expected.map(|list| format!("The node had condition: {list}. ")), "{pressure:?}");
        }
    }
}
