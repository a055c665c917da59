//! What a pod asks for, as KEP-753 (sidecars), KEP-1287 (in-place resize) and KEP-2837 (amounts of the whole pod) have it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::resources::{DEFAULT_MEMORY, DEFAULT_MILLI_CPU};
use super::{Name, NonZero, Resources};

type Amounts = BTreeMap<String, Quantity>;

/// What a pod asks for: exactly, and with the defaults that count when nodes are scored.
pub(super) fn of_pod(pod: &Pod, mut name: impl FnMut(&str) -> Name) -> (Resources, NonZero) {
    let exact = sum(pod, false, &mut name);
    let padded = sum(pod, true, &mut name);
    (exact, NonZero { milli_cpu: padded.milli_cpu, memory: padded.memory })
}

fn sum(pod: &Pod, padded: bool, name: &mut impl FnMut(&str) -> Name) -> Resources {
    let Some(spec) = &pod.spec else { return Resources::default() };
    let status = pod.status.as_ref();
    let statuses = |list: Option<&Vec<ContainerStatus>>, container: &str| {
        list.into_iter().flatten().find(|status| status.name == container).cloned()
    };
    // A resize that can't be done does not count.
    let infeasible =
        status.and_then(|s| s.conditions.as_ref()).into_iter().flatten().any(|condition| {
            condition.type_ == "PodResizePending" && condition.reason.as_deref() == Some("Infeasible")
        });
    let mut of_container = |container: &Container, status: Option<ContainerStatus>| {
        let wanted = container.resources.as_ref().and_then(|r| r.requests.as_ref());
        let actuated = status.as_ref().and_then(|status| status.resources.as_ref());
        let mut amounts = Resources::of(wanted, &mut *name);
        if let (Some(status), Some(actuated)) = (&status, actuated) {
            let running = Resources::of(actuated.requests.as_ref(), &mut *name);
            let allocated = Resources::of(status.allocated_resources.as_ref(), &mut *name);
            if infeasible {
                amounts = Resources::default();
            }
            amounts.max(&running);
            amounts.max(&allocated);
        }
        if padded {
            let asks = |resource: &str| wanted.is_some_and(|wanted: &Amounts| wanted.contains_key(resource));
            if !asks("cpu") {
                amounts.milli_cpu = DEFAULT_MILLI_CPU;
            }
            if !asks("memory") {
                amounts.memory = DEFAULT_MEMORY;
            }
        }
        amounts
    };

    let mut total = Resources::default();
    for container in &spec.containers {
        let status = statuses(status.and_then(|s| s.container_statuses.as_ref()), &container.name);
        total.add(&of_container(container, status), 1);
    }
    let (mut sidecars, mut start) = (Resources::default(), Resources::default());
    for container in spec.init_containers.iter().flatten() {
        if container.restart_policy.as_deref() == Some("Always") {
            let status = statuses(status.and_then(|s| s.init_container_statuses.as_ref()), &container.name);
            let amounts = of_container(container, status);
            total.add(&amounts, 1);
            sidecars.add(&amounts, 1);
            start.max(&sidecars);
        } else {
            let mut amounts = of_container(container, None);
            amounts.add(&sidecars, 1);
            start.max(&amounts);
        }
    }
    total.max(&start);
    if let Some(whole) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) {
        set_whole(&mut total, whole, &mut *name);
    }
    total.add(&Resources::of(spec.overhead.as_ref(), name), 1);
    total
}

/// Amounts of the whole pod take the place of the containers' sum: processor time, memory and huge pages.
fn set_whole(total: &mut Resources, whole: &Amounts, name: &mut impl FnMut(&str) -> Name) {
    let amounts = Resources::of(Some(whole), name);
    if whole.contains_key("cpu") {
        total.milli_cpu = amounts.milli_cpu;
    }
    if whole.contains_key("memory") {
        total.memory = amounts.memory;
    }
    for (resource, amount) in amounts.scalars.into_iter().filter(|(name, _)| name.starts_with("hugepages-")) {
        total.scalars.retain(|(known, _)| *known != resource);
        total.add(&Resources { scalars: vec![(resource, amount)], ..Resources::default() }, 1);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn requests(spec: Value, status: Value) -> (Resources, NonZero) {
        let pod = serde_json::from_value(json!({"spec": spec, "status": status})).unwrap();
        of_pod(&pod, Name::new)
    }

    fn container(name: &str, cpu: &str, memory: &str) -> Value {
        json!({"name": name, "resources": {"requests": {"cpu": cpu, "memory": memory}}})
    }

    #[test]
    fn a_pod_asks_for_the_sum_of_its_containers_or_the_most_that_starting_takes() {
        let sidecar = |cpu: &str| {
            let mut sidecar = container("side", cpu, "0");
            sidecar["restartPolicy"] = json!("Always");
            sidecar
        };
        let rows = [
            (json!([]), 300),
            (json!([container("init", "200m", "0")]), 300),
            (json!([container("init", "2", "0")]), 2000),
            (json!([sidecar("100m")]), 400),
            // A sidecar runs while those after it start.
            (json!([sidecar("100m"), container("init", "500m", "0")]), 600),
            (json!([container("init", "350m", "0"), sidecar("100m")]), 400),
        ];
        for (init, expected) in rows {
            let containers = json!([container("a", "100m", "1Mi"), container("b", "200m", "1Mi")]);
            let (amounts, _) = requests(json!({"containers": containers, "initContainers": init}), json!({}));
            assert_eq!((amounts.milli_cpu, amounts.memory), (expected, 2 << 20), "{init}");
        }
    }

    #[test]
    fn overhead_is_added_and_amounts_of_the_whole_pod_take_the_containers_place() {
        let spec = json!({
            "containers": [container("a", "1", "1Gi")],
            "resources": {"requests": {"cpu": "250m"}},
            "overhead": {"cpu": "50m", "memory": "10Mi"},
        });
        let (amounts, _) = requests(spec, json!({}));
        assert_eq!((amounts.milli_cpu, amounts.memory), (300, (1 << 30) + (10 << 20)));
    }

    #[test]
    fn a_container_that_asks_for_nothing_counts_with_defaults_when_nodes_are_scored() {
        let (amounts, padded) = requests(json!({"containers": [{"name": "a"}, container("b", "1", "0")]}), json!({}));
        assert_eq!((amounts.milli_cpu, amounts.memory), (1000, 0));
        assert_eq!((padded.milli_cpu, padded.memory), (1100, 200 << 20));
    }

    #[test]
    fn while_a_resize_is_under_way_the_most_of_wanted_allocated_and_running_counts() {
        let status = |reason: &str| {
            json!({
                "conditions": [{"type": "PodResizePending", "status": "True", "reason": reason}],
                "containerStatuses": [{"name": "a", "ready": true, "restartCount": 0, "image": "", "imageID": "",
                    "allocatedResources": {"cpu": "2"}, "resources": {"requests": {"cpu": "1"}}}],
            })
        };
        let spec = json!({"containers": [container("a", "3", "0")]});
        assert_eq!(requests(spec.clone(), status("Deferred")).0.milli_cpu, 3000);
        assert_eq!(requests(spec, status("Infeasible")).0.milli_cpu, 2000);
    }
}
