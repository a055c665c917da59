//! Quality-of-service classes.

use std::fmt;

use k8s_openapi::api::core::v1::Pod;
use kiln_apimachinery::quantity::Quantity;

use super::{Amounts, CPU, MEMORY, Texts};

/// How sure a pod can be of its resources; the better, the later it is killed when they run short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    /// It asks for nothing.
    BestEffort,
    /// It asks for something.
    Burstable,
    /// Each container is limited to just what it asks for, of processor time and of memory.
    Guaranteed,
}

impl Qos {
    /// As the API spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BestEffort => "BestEffort",
            Self::Burstable => "Burstable",
            Self::Guaranteed => "Guaranteed",
        }
    }
}

impl fmt::Display for Qos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A pod's class: the one in its status, which never changes, else what its spec makes it.
pub fn qos(pod: &Pod) -> Qos {
    match pod.status.as_ref().and_then(|status| status.qos_class.as_deref()) {
        Some("Guaranteed") => Qos::Guaranteed,
        Some("Burstable") => Qos::Burstable,
        Some("BestEffort") => Qos::BestEffort,
        _ => compute(pod),
    }
}

fn compute(pod: &Pod) -> Qos {
    let Some(spec) = &pod.spec else { return Qos::BestEffort };
    let (mut requests, mut limits) = (Amounts::new(), Amounts::new());
    let mut limited = true;
    let mut add = |resources: Option<&k8s_openapi::api::core::v1::ResourceRequirements>| {
        add_to(&mut requests, resources.and_then(|r| r.requests.as_ref()));
        limited &= add_to(&mut limits, resources.and_then(|r| r.limits.as_ref())) == 2;
    };
    if let Some(whole) = &spec.resources {
        add(Some(whole));
    } else {
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        containers.for_each(|container| add(container.resources.as_ref()));
    }
    if requests.is_empty() && limits.is_empty() {
        Qos::BestEffort
    } else if limited && requests == limits {
        Qos::Guaranteed
    } else {
        Qos::Burstable
    }
}

/// Adds what of a list counts for the class; answers how many of the two resources it has.
fn add_to(sum: &mut Amounts, list: Option<&Texts>) -> usize {
    let counted = [CPU, MEMORY].into_iter().filter_map(|name| {
        let amount = super::find(list, name).filter(|amount| *amount > Quantity::ZERO)?;
        let sum = sum.entry(name.to_owned()).or_insert(Quantity::ZERO);
        *sum = sum.plus(amount);
        Some(())
    });
    counted.count()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn class(spec: Value) -> Qos {
        qos(&serde_json::from_value(json!({ "spec": spec })).expect("a pod"))
    }

    fn container(requests: Value, limits: Value) -> Value {
        json!({"name": "c", "resources": {"requests": requests, "limits": limits}})
    }

    #[test]
    fn the_class_follows_from_requests_and_limits() {
        let none = json!({});
        let both = json!({"cpu": "100m", "memory": "100Mi"});
        let same = json!({"cpu": "0.1", "memory": "102400Ki"});
        let rows = [
            (vec![container(none.clone(), none.clone())], Qos::BestEffort),
            (vec![container(json!({"ephemeral-storage": "1Gi"}), none.clone())], Qos::BestEffort),
            (vec![container(json!({"cpu": "0"}), none.clone())], Qos::BestEffort),
            (vec![container(both.clone(), same.clone())], Qos::Guaranteed),
            (vec![container(both.clone(), same.clone()), container(same.clone(), both.clone())], Qos::Guaranteed),
            (vec![container(both.clone(), both.clone()), container(none.clone(), none.clone())], Qos::Burstable),
            (vec![container(json!({"cpu": "100m"}), none.clone())], Qos::Burstable),
            (vec![container(none.clone(), json!({"cpu": "100m"}))], Qos::Burstable),
            (vec![container(both.clone(), json!({"cpu": "200m", "memory": "100Mi"}))], Qos::Burstable),
            // The API fills requests in from limits, so a pod that lacks them did not come through it.
            (vec![container(none, both)], Qos::Burstable),
        ];
        for (containers, expected) in rows {
            assert_eq!(class(json!({ "containers": containers })), expected, "{containers:?}");
        }
    }

    #[test]
    fn init_containers_count_and_resources_of_the_whole_pod_come_first() {
        let both = json!({"cpu": "1", "memory": "1Gi"});
        let guaranteed = container(both.clone(), both.clone());
        assert_eq!(
            class(json!({"containers": [guaranteed], "initContainers": [container(json!({}), json!({}))]})),
            Qos::Burstable
        );
        assert_eq!(
            class(
                json!({"containers": [container(json!({}), json!({}))], "resources": {"requests": both, "limits": both}})
            ),
            Qos::Guaranteed
        );
    }
}
