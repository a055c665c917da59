//! Sums over a pod's containers. Init containers run one after another before the others, sidecars go on running from their
//! turn: what a pod needs is the most of any moment (KEP-753).

use k8s_openapi::api::core::v1::{Container, Pod};

use super::{Amounts, Texts, is_pod_level, is_sidecar, limits, pod_level, read, requests};

/// Whether what the runtime itself takes for a pod (`spec.overhead`) is part of a sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overhead {
    /// It is.
    With,
    /// It is not.
    Without,
}

/// What a pod requests as a whole.
pub fn pod_requests(pod: &Pod, overhead: Overhead) -> Amounts {
    let mut sum = over_containers(pod, requests);
    overlay(&mut sum, pod_level(pod).and_then(|resources| resources.requests.as_ref()));
    if overhead == Overhead::With {
        add(&mut sum, pod.spec.as_ref().and_then(|spec| spec.overhead.as_ref()));
    }
    sum
}

/// What a pod is limited to as a whole: the sum of what limits there are, so a container without one is missing from it.
pub fn pod_limits(pod: &Pod, overhead: Overhead) -> Amounts {
    let mut sum = over_containers(pod, limits);
    overlay(&mut sum, pod_level(pod).and_then(|resources| resources.limits.as_ref()));
    if overhead == Overhead::With {
        let extra = pod.spec.as_ref().and_then(|spec| spec.overhead.as_ref());
        for (name, amount) in extra.into_iter().flatten() {
            if let Some(sum) = sum.get_mut(name).filter(|sum| !sum.is_zero()) {
                *sum = sum.plus(read(amount));
            }
        }
    }
    sum
}

fn over_containers(pod: &Pod, list: fn(&Container) -> Option<&Texts>) -> Amounts {
    let mut sum = Amounts::new();
    let Some(spec) = &pod.spec else { return sum };
    spec.containers.iter().for_each(|container| add(&mut sum, list(container)));
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        if is_sidecar(container) {
            add(&mut sum, list(container));
            add(&mut sidecars, list(container));
            raise(&mut peak, &sidecars);
        } else {
            let mut moment = sidecars.clone();
            add(&mut moment, list(container));
            raise(&mut peak, &moment);
        }
    }
    raise(&mut sum, &peak);
    sum
}

fn add(sum: &mut Amounts, list: Option<&Texts>) {
    for (name, amount) in list.into_iter().flatten() {
        let amount = read(amount);
        sum.entry(name.clone()).and_modify(|sum| *sum = sum.plus(amount)).or_insert(amount);
    }
}

fn raise(sum: &mut Amounts, least: &Amounts) {
    for (name, amount) in least {
        sum.entry(name.clone()).and_modify(|sum| *sum = (*sum).max(*amount)).or_insert(*amount);
    }
}

/// The resources of the pod as a whole stand in place of the sum over its containers.
fn overlay(sum: &mut Amounts, list: Option<&Texts>) {
    for (name, amount) in list.into_iter().flatten().filter(|(name, _)| is_pod_level(name)) {
        sum.insert(name.clone(), read(amount));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn container(cpu: &str, sidecar: bool) -> Value {
        let policy = if sidecar { json!("Always") } else { Value::Null };
        json!({"name": "c", "restartPolicy": policy, "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}})
    }

    fn cpu(spec: Value) -> i64 {
        let pod: Pod = serde_json::from_value(json!({ "spec": spec })).expect("a pod");
        pod_requests(&pod, Overhead::With)["cpu"].milli_value()
    }

    #[test]
    fn a_pod_needs_the_most_of_any_moment() {
        let main = json!([container("1", false), container("2", false)]);
        let rows = [
            (json!([]), 3000),
            (json!([container("2", false)]), 3000),
            (json!([container("5", false)]), 5000),
            // The example of KEP-753: a sidecar counts beside what starts after it.
            (json!([container("500m", true), container("3", false)]), 3500),
            (json!([container("4", false), container("500m", true)]), 4000),
            (json!([container("1", true), container("1", true), container("2", false)]), 5000),
        ];
        for (init, expected) in rows {
            assert_eq!(cpu(json!({"containers": main, "initContainers": init})), expected, "{init}");
        }
    }

    #[test]
    fn overhead_is_added_and_the_pods_own_resources_come_first() {
        let containers = json!([container("1", false)]);
        assert_eq!(cpu(json!({"containers": containers, "overhead": {"cpu": "250m"}})), 1250);
        assert_eq!(cpu(json!({"containers": containers, "resources": {"requests": {"cpu": "4"}}})), 4000);
    }
}
