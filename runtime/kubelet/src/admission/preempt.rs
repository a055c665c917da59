//! Which pods make room for one that the node cannot do without: as few as possible, and of the lowest class of service.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::fit::{self, Shortage};
use crate::resources::{CPU, MEMORY, Qos, is_critical, qos};

/// How much of a resource must still become free.
#[derive(Debug, Clone)]
struct Need {
    resource: String,
    amount: i64,
}

/// Picks pods whose requests cover all shortages, or tells what no pods can.
pub(super) fn choose(pod: &Pod, others: &[Arc<Pod>], shortages: &[Shortage]) -> Result<Vec<Arc<Pod>>, String> {
    let needs: Vec<Need> = shortages
        .iter()
        .map(|shortage| Need { resource: shortage.resource.clone(), amount: shortage.missing() })
        .collect();
    let of = |class: Qos| -> Vec<Arc<Pod>> {
        let lower = others.iter().filter(|other| can_preempt(pod, other));
        lower.filter(|other| qos(other) == class).cloned().collect()
    };
    let (best_effort, burstable, guaranteed) = (of(Qos::BestEffort), of(Qos::Burstable), of(Qos::Guaranteed));
    let both = |a: &[Arc<Pod>], b: &[Arc<Pod>]| [a, b].concat();
    let unmet = less(&needs, &[&best_effort[..], &burstable, &guaranteed].concat());
    if !unmet.is_empty() {
        return Err(format!("preemption: error finding a set of pods to preempt: {}", none(&unmet)));
    }
    // Of each class only what those below it cannot cover.
    let best = pick(guaranteed, less(&needs, &both(&best_effort, &burstable)))?;
    let middle = pick(burstable, less(&needs, &both(&best_effort, &best)))?;
    let least = pick(best_effort, less(&needs, &both(&middle, &best)))?;
    Ok([least, middle, best].concat())
}

fn can_preempt(pod: &Pod, other: &Pod) -> bool {
    let priority = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.priority);
    if is_critical(pod) && !is_critical(other) {
        return true;
    }
    matches!((priority(pod), priority(other)), (Some(own), Some(theirs)) if own > theirs)
}

fn request(pod: &Pod, resource: &str) -> i64 {
    if resource == fit::PODS { 1 } else { fit::of_pod(pod).get(resource).copied().unwrap_or(0) }
}

/// What is left to be covered without these pods.
fn less(needs: &[Need], pods: &[Arc<Pod>]) -> Vec<Need> {
    let left = needs.iter().map(|need| {
        let freed: i64 = pods.iter().map(|pod| request(pod, &need.resource)).sum();
        Need { resource: need.resource.clone(), amount: need.amount - freed }
    });
    left.filter(|need| need.amount > 0).collect()
}

/// Takes the pod that covers most, again and again; of two that cover as much, the smaller.
fn pick(mut pods: Vec<Arc<Pod>>, mut needs: Vec<Need>) -> Result<Vec<Arc<Pod>>, String> {
    let mut picked = Vec::new();
    while !needs.is_empty() {
        let mut best: Option<(usize, f64)> = None;
        for (index, pod) in pods.iter().enumerate() {
            let far = distance(&needs, pod);
            let is_better =
                best.is_none_or(|(other, least)| far < least || far == least && is_smaller(pod, &pods[other]));
            if is_better {
                best = Some((index, far));
            }
        }
        let Some((index, _)) = best else { return Err(none(&needs)) };
        let pod = pods.swap_remove(index);
        needs = less(&needs, std::slice::from_ref(&pod));
        picked.push(pod);
    }
    Ok(picked)
}

/// How much of the needs a pod would leave open, each as a part of itself, squared.
fn distance(needs: &[Need], pod: &Pod) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "only to compare")]
    let part = |need: &Need| {
        let left = (need.amount - request(pod, &need.resource)).max(0);
        (left as f64 / need.amount as f64).powi(2)
    };
    needs.iter().map(part).sum()
}

fn is_smaller(pod: &Pod, other: &Pod) -> bool {
    let both = |pod: &Pod| (request(pod, MEMORY), request(pod, CPU));
    both(pod) <= both(other)
}

fn none(needs: &[Need]) -> String {
    let needs: String = needs.iter().map(|need| format!("(res: {}, q: {}), ", need.resource, need.amount)).collect();
    format!("no set of running pods found to reclaim resources: [{needs}]")
}
