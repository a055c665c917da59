//! What ended pods are told.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::observe::Observations;
use super::threshold::{Signal, Threshold, Value};
use super::usage::PodUsage;
use crate::resources::{self, MEMORY, amount, find, pod_level};

/// Why a pod is ended, and which of its containers use more than they request.
pub(super) fn of(pod: &Arc<Pod>, threshold: &Threshold, seen: &Observations, usage: Option<&PodUsage>) -> String {
    let resource = threshold.signal.resource();
    let mut message = format!("The node was low on resource: {resource}. ");
    if let Some(observation) = seen.get(&threshold.signal) {
        let is_count = matches!(resource, "inodes" | "pids");
        let quantity = match threshold.value {
            Value::Amount(amount) => amount.to_string(),
            part => binary(part.of(observation.capacity)),
        };
        let available = if is_count { observation.available.to_string() } else { binary(observation.available) };
        message.push_str(&format!("Threshold quantity: {quantity}, available: {available}. "));
    }
    let Some(usage) = usage else { return message };
    let whole = pod_level(pod).and_then(|whole| find(whole.requests.as_ref(), MEMORY));
    if let (Signal::MemoryAvailable | Signal::AllocatableMemoryAvailable, Some(request), Some(used)) =
        (threshold.signal, whole, usage.memory)
    {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        message.push_str(&format!(
            "Pod {name} was using {}, request is {request}, has larger consumption of {resource}. ",
            binary(used)
        ));
    }
    let spec = pod.spec.iter();
    let containers = spec.flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    for container in containers {
        let Some(of) = usage.containers.get(&container.name) else { continue };
        let used = match resource {
            "memory" => of.memory,
            "ephemeral-storage" => of.root.zip(of.logs).map(|(root, logs)| root.bytes + logs.bytes),
            _ => None,
        };
        let request = amount(resources::requests(container), resource);
        if let Some(used) = used.filter(|used| i128::from(*used) > i128::from(request.value())) {
            message.push_str(&format!(
                "Container {} was using {}, request is {request}, has larger consumption of {resource}. ",
                container.name,
                binary(used)
            ));
        }
    }
    message
}

/// A number in the largest binary unit that it is a whole multiple of.
pub(super) fn binary(mut number: u64) -> String {
    let units = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let mut unit = 0;
    while number >= 1024 && number.is_multiple_of(1024) && unit + 1 < units.len() {
        number /= 1024;
        unit += 1;
    }
    format!("{number}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::super::observe::Observation;
    use super::super::threshold::Settings;
    use super::super::usage::ContainerUsage;
    use super::*;

    #[test]
    fn the_message_names_the_resource_the_threshold_and_the_containers_that_use_more_than_they_request() {
        let container = |name: &str, memory: &str| json!({"name": name, "resources": {"requests": {"memory": memory}}});
        let pod = json!({"spec": {"containers": [container("big", "10Mi"), container("small", "100Mi")]}});
        let pod: Arc<Pod> = Arc::new(serde_json::from_value(pod).expect("a pod"));
        let thresholds = Settings::default().thresholds().expect("thresholds");
        let threshold = thresholds.iter().find(|t| t.signal == Signal::MemoryAvailable).expect("memory");
        let observation = Observation { available: 90 << 20, capacity: 1 << 30 };
        let seen: Observations = [(Signal::MemoryAvailable, observation)].into();
        let memory = |bytes: u64| ContainerUsage { memory: Some(bytes), ..ContainerUsage::default() };
        let containers: BTreeMap<_, _> =
            [("big".to_owned(), memory(50 << 20)), ("small".to_owned(), memory((50 << 20) + 1))].into();
        let usage = PodUsage { containers, ..PodUsage::default() };
        assert_eq!(
            of(&pod, threshold, &seen, Some(&usage)),
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 90Mi. \
             Container big was using 50Mi, request is 10Mi, has larger consumption of memory. "
        );
        let disk = thresholds.iter().find(|t| t.signal == Signal::NodeFsAvailable).expect("disk");
        let seen: Observations = [(Signal::NodeFsAvailable, observation)].into();
        assert_eq!(
            of(&pod, disk, &seen, None),
            "The node was low on resource: ephemeral-storage. Threshold quantity: 107374182, available: 90Mi. "
        );
    }
}
