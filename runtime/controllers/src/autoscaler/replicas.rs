//! How many replicas one metric calls for.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kiln_apimachinery::quantity::Quantity;

use super::metrics::{PodMetric, PodMetrics};
use crate::owned::{is_going, name};
use crate::pods::{condition, is_ready, phase};
use crate::reconcile::Failure;

/// How long a pod's CPU is not looked at while it starts, and how late a first readiness may come.
const CPU_INITIALIZATION: SignedDuration = SignedDuration::from_secs(300);
const INITIAL_READINESS: SignedDuration = SignedDuration::from_secs(30);

/// How far from the target usage may be before anything is done: so much below, and so much above.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tolerances {
    pub(super) down: f64,
    pub(super) up: f64,
}

impl Tolerances {
    pub(super) fn contain(self, ratio: f64) -> bool {
        (1.0 - self.down..=1.0 + self.up).contains(&ratio)
    }
}

/// What a metric is measured against.
pub(super) enum Target<'a> {
    /// A percentage of what pods request: the requests by pod, in thousandths, and the percentage.
    Utilization(&'a HashMap<String, i64>, i32),
    /// A value for each pod, in thousandths.
    Average(i64),
}

/// What a metric of pods comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) replicas: i32,
    /// The average of all pods, in thousandths.
    pub(super) average: i64,
    /// In percent of the requests, if the target is such.
    pub(super) utilization: Option<i32>,
}

/// Pods by what their metrics are good for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Groups {
    ready: usize,
    unready: Vec<String>,
    missing: Vec<String>,
    ignored: Vec<String>,
}

/// Replicas by the usage of each pod. `resource` is empty for a metric that is none of a resource.
pub(super) fn of_pods(
    pods: &[Arc<Pod>],
    mut metrics: PodMetrics,
    resource: &str,
    target: &Target<'_>,
    current: i32,
    tolerances: Tolerances,
    now: Timestamp,
) -> Result<Count, Failure> {
    let failed = |why: &str| Err(Failure::Waiting(why.to_owned()));
    if pods.is_empty() {
        return failed("no pods returned by selector while calculating replica count");
    }
    let groups = group(pods, &metrics, resource, now);
    for pod in groups.ignored.iter().chain(&groups.unready) {
        metrics.remove(pod);
    }
    if metrics.is_empty() {
        return failed("did not receive metrics for targeted pods (pods might be unready)");
    }
    let Some(Usage { ratio, average, utilization }) = usage(&metrics, target) else {
        return failed("no metrics returned matched known pods");
    };
    let unchanged = Count { replicas: current, average, utilization };
    let counts_unready = !groups.unready.is_empty() && ratio > 1.0;
    if !counts_unready && groups.missing.is_empty() {
        if tolerances.contain(ratio) {
            return Ok(unchanged);
        }
        return Ok(Count { replicas: ceil(ratio * groups.ready as f64), ..unchanged });
    }
    // Those of which nothing is known are taken to use what makes the change smaller.
    let assumed = |pod: &str| match target {
        _ if ratio > 1.0 => 0,
        Target::Utilization(requests, percent) => {
            requests.get(pod).copied().unwrap_or(0) * i64::from((*percent).max(100)) / 100
        }
        Target::Average(value) => *value,
    };
    let guess = |value: i64| PodMetric { value, at: now, window: SignedDuration::ZERO };
    if ratio != 1.0 {
        for pod in &groups.missing {
            metrics.insert(pod.clone(), guess(assumed(pod)));
        }
    }
    if counts_unready {
        for pod in &groups.unready {
            metrics.insert(pod.clone(), guess(0));
        }
    }
    let again = usage(&metrics, target).map_or(1.0, |usage| usage.ratio);
    if tolerances.contain(again) || (ratio < 1.0 && again > 1.0) || (ratio > 1.0 && again < 1.0) {
        return Ok(unchanged);
    }
    let replicas = ceil(again * metrics.len() as f64);
    if (again < 1.0 && replicas > current) || (again > 1.0 && replicas < current) {
        return Ok(unchanged);
    }
    Ok(Count { replicas, ..unchanged })
}

/// Replicas by one value for all: as many times the ready pods as the value is of the target.
pub(super) fn of_value(
    pods: &[Arc<Pod>],
    value: i64,
    target: i64,
    current: i32,
    tolerances: Tolerances,
) -> Result<i32, Failure> {
    let ratio = value as f64 / target as f64;
    if current == 0 {
        return Ok(ceil(ratio));
    }
    if tolerances.contain(ratio) {
        return Ok(current);
    }
    if pods.is_empty() {
        let why = "unable to calculate ready pods: no pods returned by selector while calculating replica count";
        return Err(Failure::Waiting(why.to_owned()));
    }
    let ready = pods.iter().filter(|pod| phase(pod) == "Running" && is_ready(pod)).count();
    Ok(ceil(ratio * ready as f64))
}

/// Replicas by one value that is shared out among them; and the share of each that there is.
pub(super) fn of_shared_value(value: i64, target: i64, has: i32, tolerances: Tolerances) -> (i32, i64) {
    let ratio = value as f64 / (target as f64 * f64::from(has));
    let replicas = if tolerances.contain(ratio) { has } else { ceil(value as f64 / target as f64) };
    (replicas, (value as f64 / f64::from(has)).ceil() as i64)
}

fn ceil(replicas: f64) -> i32 {
    // A cast saturates, which is what is wanted of a count beyond all bounds.
    replicas.ceil() as i32
}

struct Usage {
    ratio: f64,
    average: i64,
    utilization: Option<i32>,
}

fn usage(metrics: &PodMetrics, target: &Target<'_>) -> Option<Usage> {
    match target {
        Target::Average(target) => {
            let total: i64 = metrics.values().map(|metric| metric.value).sum();
            let average = total / i64::try_from(metrics.len()).ok().filter(|count| *count > 0)?;
            Some(Usage { ratio: average as f64 / *target as f64, average, utilization: None })
        }
        Target::Utilization(requests, percent) => {
            let known = metrics.iter().filter_map(|(pod, metric)| Some((metric.value, *requests.get(pod)?)));
            let (mut used, mut requested, mut count) = (0, 0, 0);
            for (value, request) in known {
                (used, requested, count) = (used + value, requested + request, count + 1);
            }
            if requested == 0 {
                return None;
            }
            let utilization = i32::try_from(used * 100 / requested).unwrap_or(i32::MAX);
            let ratio = f64::from(utilization) / f64::from(*percent);
            Some(Usage { ratio, average: used / count, utilization: Some(utilization) })
        }
    }
}

fn group(pods: &[Arc<Pod>], metrics: &PodMetrics, resource: &str, now: Timestamp) -> Groups {
    let mut groups = Groups::default();
    for pod in pods {
        let pod_name = name(&**pod).to_owned();
        if is_going(&**pod) || phase(pod) == "Failed" {
            groups.ignored.push(pod_name);
        } else if phase(pod) == "Pending" {
            groups.unready.push(pod_name);
        } else if let Some(metric) = metrics.get(&pod_name) {
            if resource == "cpu" && is_starting(pod, metric, now) {
                groups.unready.push(pod_name);
            } else {
                groups.ready += 1;
            }
        } else {
            groups.missing.push(pod_name);
        }
    }
    groups
}

/// Whether what a pod uses of the CPU tells of its start rather than of its work.
fn is_starting(pod: &Pod, metric: &PodMetric, now: Timestamp) -> bool {
    let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    let (Some(ready), Some(started)) = (condition(pod, "Ready"), started) else { return true };
    let since = ready.last_transition_time.as_ref().map_or(Timestamp::MIN, |time| time.0);
    if started.0 + CPU_INITIALIZATION > now {
        ready.status == "False" || metric.at < since.saturating_add(metric.window).unwrap_or(Timestamp::MAX)
    } else {
        // It has never been ready.
        ready.status == "False" && started.0 + INITIAL_READINESS > since
    }
}

/// What each pod requests of a resource, in thousandths: the pod itself, or all its containers, or one of them.
pub(super) fn requests(
    pods: &[Arc<Pod>],
    resource: &str,
    container: Option<&str>,
) -> Result<HashMap<String, i64>, Failure> {
    pods.iter().map(|pod| Ok((name(&**pod).to_owned(), request(pod, resource, container)?))).collect()
}

fn request(pod: &Pod, resource: &str, container: Option<&str>) -> Result<i64, Failure> {
    let (pod_name, failed) = (name(pod), |why: String| Err(Failure::Waiting(why)));
    let Some(spec) = &pod.spec else { return Ok(0) };
    let amount = |quantity: &k8s_openapi::apimachinery::pkg::api::resource::Quantity| {
        Quantity::parse(&quantity.0).map_or(0, Quantity::milli_value)
    };
    let own = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let own = own.filter(|own| container.is_none() && own.keys().any(|name| is_of_pods(name)));
    if let Some(quantity) = own.filter(|_| is_of_pods(resource)).and_then(|own| own.get(resource)) {
        return Ok(amount(quantity));
    }
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let (mut total, mut found, mut known) = (0, false, false);
    for each in spec.containers.iter().chain(sidecars) {
        if container.is_some_and(|wanted| wanted != each.name) {
            continue;
        }
        found = true;
        let requests = each.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let Some(quantity) = requests.and_then(|requests| requests.get(resource)) else {
            // The pod has taken it upon itself what its containers request.
            if own.is_some() {
                continue;
            }
            let name = &each.name;
            return failed(format!("missing request for {resource} in container {name} of Pod {pod_name}"));
        };
        total += amount(quantity);
        known = true;
    }
    match container {
        None if own.is_some() && !known => {
            failed(format!("missing pod-level request for {resource} in Pod {pod_name}"))
        }
        Some(container) if !found => failed(format!("container {container} not found in Pod {pod_name}")),
        _ => Ok(total),
    }
}

/// Whether a pod may request a resource for all its containers.
fn is_of_pods(resource: &str) -> bool {
    matches!(resource, "cpu" | "memory") || resource.starts_with("hugepages-")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::metrics::PodMetric;
    use super::*;
    use crate::pods::tests::pod;

    const TOLERANCES: Tolerances = Tolerances { down: 0.1, up: 0.1 };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Pods `p0` and so on with what they use; one that uses nothing known has no metric, a negative one is not ready.
    fn counted(usages: &[Option<i64>], current: i32, target: i64) -> i32 {
        let (mut pods, mut metrics) = (Vec::new(), PodMetrics::new());
        for (n, usage) in usages.iter().enumerate() {
            let name = format!("p{n}");
            let is_pending = usage.is_some_and(|usage| usage < 0);
            pods.push(Arc::new(pod(&name, "n", if is_pending { "Pending" } else { "Running" }, Some(0))));
            if let Some(usage) = usage.filter(|usage| *usage >= 0) {
                metrics.insert(name, PodMetric { value: usage, at: at(900), window: SignedDuration::from_secs(30) });
            }
        }
        let target = Target::Average(target);
        of_pods(&pods, metrics, "memory", &target, current, TOLERANCES, at(1_000)).unwrap().replicas
    }

    #[test]
    fn replicas_are_the_current_ones_times_the_ratio_of_usage_to_target() {
        for (usages, current, target, expected) in [
            // The documentation's example: 200m of 100m double, 50m halve.
            (vec![Some(200), Some(200)], 2, 100, 4),
            (vec![Some(50), Some(50)], 2, 100, 1),
            // Within a tenth of the target nothing happens.
            (vec![Some(109), Some(109)], 2, 100, 2),
            (vec![Some(91), Some(91)], 2, 100, 2),
            (vec![Some(120), Some(120), Some(120)], 3, 100, 4),
            // One that is missing damps the change: nothing when growing, the target when shrinking.
            (vec![Some(300), Some(300), None], 3, 100, 6),
            (vec![Some(20), Some(20), None], 3, 100, 2),
            // One that is not ready counts as nothing when growing, and not at all when shrinking.
            (vec![Some(300), Some(300), Some(-1)], 3, 100, 6),
            (vec![Some(20), Some(20), Some(-1)], 3, 100, 1),
            // Damped so far that it would turn around: nothing happens.
            (vec![Some(120), None], 2, 100, 2),
        ] {
            assert_eq!(counted(&usages, current, target), expected, "{usages:?}");
        }
    }

    #[test]
    fn what_a_pod_requests_for_all_its_containers_goes_before_what_each_does() {
        let missing = |what: &str| Err(format!("missing {what} of Pod p"));
        for (own, first, second, container_of, expected) in [
            (json!({}), json!({"cpu": "1"}), json!({"cpu": "500m"}), None, Ok(1_500)),
            (json!({}), json!({"cpu": "1"}), json!({}), None, missing("request for cpu in container b")),
            (json!({"cpu": "3"}), json!({"cpu": "1"}), json!({}), None, Ok(3_000)),
            (json!({"cpu": "3"}), json!({"cpu": "1"}), json!({}), Some("a"), Ok(1_000)),
            (json!({"memory": "1Gi"}), json!({"cpu": "1"}), json!({}), None, Ok(1_000)),
            (
                json!({"memory": "1Gi"}),
                json!({}),
                json!({}),
                None,
                Err("missing pod-level request for cpu in Pod p".to_owned()),
            ),
        ] {
            let mut pod = pod("p", "n", "Running", Some(0));
            let container = |name: &str, requests: &Value| json!({"name": name, "resources": {"requests": requests}});
            let spec = json!({"resources": {"requests": own},
                "containers": [container("a", &first), container("b", &second)]});
            pod.spec = serde_json::from_value(spec).unwrap();
            let found = request(&pod, "cpu", container_of).map_err(|failure| failure.to_string());
            assert_eq!(found, expected, "{own} {first} {second}");
        }
    }

    #[test]
    fn a_shared_value_is_divided_by_the_target() {
        assert_eq!(of_shared_value(1_000, 100, 4, TOLERANCES), (10, 250));
        assert_eq!(of_shared_value(420, 100, 4, TOLERANCES), (4, 105));
        let pods = [Arc::new(pod("a", "n", "Running", Some(0))), Arc::new(pod("b", "n", "Running", Some(0)))];
        assert_eq!(of_value(&pods, 300, 100, 2, TOLERANCES).unwrap(), 6);
        assert_eq!(of_value(&pods, 105, 100, 2, TOLERANCES).unwrap(), 2);
        assert_eq!(of_value(&[], 250, 100, 0, TOLERANCES).unwrap(), 3);
    }
}
