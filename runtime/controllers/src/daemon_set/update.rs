//! A step of a rolling update: old pods are deleted, or new ones made beside them, as far as the set's limits allow.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::DaemonSetSpec;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::manage::{Plan, runs_on};
use super::{Engine, Look, is_rolling, pod};
use crate::intstr::scaled;
use crate::owned::is_going;
use crate::pods::is_available;
use crate::reconcile::Failure;

/// How many pods may lack, and how many there may be beside old ones, of so many nodes.
struct Limits {
    unavailable: usize,
    surge: usize,
}

fn limit(
    spec: &DaemonSetSpec,
    of: impl Fn(&k8s_openapi::api::apps::v1::RollingUpdateDaemonSet) -> Option<&IntOrString>,
    total: usize,
) -> usize {
    let rolling = spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
    let total = i32::try_from(total).unwrap_or(i32::MAX);
    let value = rolling.filter(|_| is_rolling(spec)).and_then(of).map_or(0, |value| scaled(value, total, true));
    usize::try_from(value).unwrap_or(0)
}

impl Limits {
    fn of(spec: &DaemonSetSpec, nodes: usize) -> Self {
        let surge = limit(spec, |rolling| rolling.max_surge.as_ref(), nodes);
        let unavailable = limit(spec, |rolling| rolling.max_unavailable.as_ref(), nodes);
        // Neither would never move.
        if nodes > 0 && surge == 0 && unavailable == 0 {
            Self { unavailable: 1, surge }
        } else {
            Self { unavailable, surge }
        }
    }
}

/// Whether there may be two pods on a node.
pub(super) fn may_surge(spec: &DaemonSetSpec) -> bool {
    limit(spec, |rolling| rolling.max_surge.as_ref(), 1) > 0
}

/// The pod of the present template and the one before it on a node.
struct Pair {
    new: Option<Arc<Pod>>,
    old: Option<Arc<Pod>>,
}

/// `None` if there are several of one sort, which are cleared away first.
fn pair(look: &Look<'_>, pods: &[Arc<Pod>]) -> Option<Pair> {
    let mut pair = Pair { new: None, old: None };
    for pod in pods.iter().filter(|pod| !is_going(&***pod)) {
        let place = if pod::is_updated(look.set, pod, &look.hash) { &mut pair.new } else { &mut pair.old };
        if place.replace(pod.clone()).is_some() {
            return None;
        }
    }
    Some(pair)
}

impl Engine {
    pub(super) async fn update(&self, look: &Look<'_>) -> Result<(), Failure> {
        let desired: Vec<_> = look.nodes.iter().filter(|node| pod::is_for(look.set, node).runs).collect();
        let limits = Limits::of(look.spec, desired.len());
        let bare = desired.iter().filter(|node| !look.pods.contains_key(crate::owned::name(&****node))).count();
        let plan = if limits.surge == 0 {
            replace(look, limits.unavailable, bare)
        } else {
            surge(look, limits.surge, desired.len())
        };
        self.carry_out(look, plan).await
    }
}

fn is_up(look: &Look<'_>, pod: &Pod) -> bool {
    is_available(pod, look.spec.min_ready_seconds.unwrap_or(0), look.now)
}

/// Deletes old pods: all that are not available, and so many that are as may lack. `bare` nodes have no pod at all.
fn replace(look: &Look<'_>, most: usize, bare: usize) -> Plan {
    let (mut unavailable, mut delete, mut candidates) = (bare, Vec::new(), Vec::new());
    for pods in look.pods.values() {
        match pair(look, pods) {
            Some(Pair { new: Some(new), old: None }) => unavailable += usize::from(!is_up(look, &new)),
            Some(Pair { new: None, old: Some(old) }) => {
                if is_up(look, &old) {
                    candidates.push(old);
                } else {
                    delete.push(old);
                    unavailable += 1;
                }
            }
            _ => unavailable += 1,
        }
    }
    delete.extend(candidates.into_iter().take(most.saturating_sub(unavailable)));
    Plan { delete, ..Plan::default() }
}

/// Makes new pods beside old ones: on all nodes whose old one is not available, and on so many others as there may be two on;
/// deletes old ones whose new one is available.
fn surge(look: &Look<'_>, most: usize, desired: usize) -> Plan {
    let (mut plan, mut surging, mut available) = (Plan::default(), 0, 0);
    let (mut candidates, mut misplaced) = (Vec::new(), Vec::new());
    for (node, pods) in &look.pods {
        let Some(pair) = pair(look, pods) else {
            surging += 1;
            continue;
        };
        let counted = pair.old.as_ref().or(pair.new.as_ref());
        available += usize::from(counted.is_some_and(|pod| is_up(look, pod)));
        match pair {
            Pair { old: None, .. } => {}
            Pair { old: Some(old), new: Some(new) } => {
                if is_up(look, &new) {
                    plan.delete.push(old);
                } else {
                    surging += 1;
                }
            }
            Pair { old: Some(old), new: None } => match (is_up(look, &old), runs_on(look, look.set, node)) {
                (false, true) => plan.make.push(node.clone()),
                (false, false) => plan.delete.push(old),
                (true, true) => candidates.push(node.clone()),
                (true, false) => misplaced.push(old),
            },
        }
    }
    plan.make.extend(candidates.into_iter().take(most.saturating_sub(surging)));
    // One on a node that it is not for any more goes once enough others are available.
    plan.delete.extend(misplaced.into_iter().take(available.saturating_sub(desired)));
    plan
}
