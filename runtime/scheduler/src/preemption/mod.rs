//! `DefaultPreemption`: who is to leave so that a more important pod can come.
//!
//! [`find`] tries on copies of nodes what happens without their less important pods, and gives back as many as can stay, those that
//! a PodDisruptionBudget protects first. [`cheapest`] chooses the node on which least is lost. [`carry_out`] asks them to leave.

mod budgets;
mod carry_out;

use std::cmp::Reverse;
use std::sync::Arc;

pub(crate) use carry_out::{Order, carry_out};

use self::budgets::Budgets;
use crate::cache::NodeInfo;
use crate::framework::{Candidates, Code, Cycle, Diagnosis, PluginId, Random, Refusal, World};
use crate::model::{Name, Pod};

const NO_VICTIMS: &str = "No preemption victims found for incoming pod";
const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";

/// What came of it.
pub(crate) enum Found {
    /// These could leave, each for one node; at least one.
    Candidates(Vec<Victims>),
    /// Nobody's leaving helps; in words. What the pod was promised before is void.
    Nobody(String),
    /// The pod may not ask anyone to leave now; in words.
    NotEligible(String),
}

/// Pods that are to leave a node.
pub(crate) struct Victims {
    pub(crate) node: Name,
    pub(crate) pods: Vec<Arc<Pod>>,
    /// How many leave against their budget.
    pub(crate) violations: i64,
}

/// Whether a pod may ask others to leave.
fn is_eligible(world: World<'_>, pod: &Pod, diagnosis: &Diagnosis) -> Result<(), &'static str> {
    if pod.spec.never_preempts {
        return Err("not eligible due to preemptionPolicy=Never.");
    }
    let Some(at) = pod.nominated.as_ref().and_then(|node| world.cache.index_of(node)) else { return Ok(()) };
    if diagnosis.of(at).is_none_or(|refusal| refusal.code == Code::Unresolvable) {
        return Ok(());
    }
    let leaving = |other: &&Arc<Pod>| other.spec.priority < pod.spec.priority && other.preempted;
    match world.cache.nodes()[at].pods.iter().find(leaving) {
        Some(_) => Err("not eligible due to a terminating pod on the nominated node."),
        None => Ok(()),
    }
}

/// Looks for pods whose leaving helps.
pub(crate) fn find(
    world: World<'_>,
    candidates: Candidates,
    pod: &Pod,
    cycle: Option<&Cycle<'_>>,
    diagnosis: &Diagnosis,
    random: &mut Random,
) -> Found {
    if let Err(why) = is_eligible(world, pod, diagnosis) {
        return Found::NotEligible(why.to_owned());
    }
    let mut report = Diagnosis {
        nodes: diagnosis.nodes,
        others: Some(Refusal::unresolvable(PluginId::DefaultPreemption, NOT_HELPFUL)),
        ..Diagnosis::default()
    };
    let possible = diagnosis.refusals.iter().filter(|(_, refusal)| refusal.code == Code::Unschedulable);
    let possible: Vec<usize> = possible.map(|(at, _)| *at).collect();
    let Some(cycle) = cycle.filter(|_| !possible.is_empty()) else { return Found::Nobody(report.message()) };

    let budgets = Budgets::new(world.listers);
    let enough = candidates.of(possible.len());
    let offset = random.below(possible.len());
    let mut found = Vec::new();
    for step in 0..possible.len() {
        let at = possible[(offset + step) % possible.len()];
        match victims_on(cycle, &world.cache.nodes()[at], pod, &budgets) {
            Ok(victims) => found.push(victims),
            Err(refusal) => report.refusals.push((at, refusal)),
        }
        if found.len() >= enough && found.iter().any(|victims| victims.violations == 0) {
            break;
        }
    }
    if found.is_empty() { Found::Nobody(report.message()) } else { Found::Candidates(found) }
}

/// Those with whom least is lost.
pub(crate) fn cheapest(candidates: Vec<Victims>) -> Option<Victims> {
    candidates.into_iter().min_by_key(cost)
}

/// What is lost: budgets broken, then the importance of the most important, then of all, then how many, then how recently they
/// started.
fn cost(victims: &Victims) -> (i64, i32, i64, usize, Reverse<i64>) {
    let most = victims.pods.iter().map(|pod| pod.spec.priority).max().unwrap_or(i32::MIN);
    // Each pod adds something, however unimportant it is.
    let sum = victims.pods.iter().map(|pod| i64::from(pod.spec.priority) + (1 << 31)).sum();
    let first = victims.pods.iter().filter(|pod| pod.spec.priority == most);
    let earliest = first.map(|pod| pod.started.unwrap_or(i64::MAX)).min().unwrap_or(i64::MAX);
    (victims.violations, most, sum, victims.pods.len(), Reverse(earliest))
}

/// The fewest pods that must leave a node.
fn victims_on(cycle: &Cycle<'_>, node: &NodeInfo, pod: &Pod, budgets: &Budgets) -> Result<Victims, Refusal> {
    let less_important = node.pods.iter().filter(|other| other.spec.priority < pod.spec.priority);
    let mut possible: Vec<Arc<Pod>> = less_important.cloned().collect();
    if possible.is_empty() {
        return Err(Refusal::unresolvable(PluginId::DefaultPreemption, NO_VICTIMS));
    }
    let (mut filters, mut without) = (cycle.filters(), node.clone());
    for other in &possible {
        filters.remove(other, &mut without);
    }
    cycle.check(&filters, &without)?;
    // The most important stay first; of the equal those that have run longest.
    possible.sort_by_key(|pod| (Reverse(pod.spec.priority), pod.started.unwrap_or(i64::MAX)));
    let (protected, free) = budgets.divide(possible);
    let (mut pods, mut violations) = (Vec::new(), 0);
    for (other, is_protected) in
        protected.into_iter().map(|pod| (pod, true)).chain(free.into_iter().map(|pod| (pod, false)))
    {
        filters.add(&other, &mut without);
        if cycle.check(&filters, &without).is_err() {
            filters.remove(&other, &mut without);
            violations += i64::from(is_protected);
            pods.push(other);
        }
    }
    if pods.is_empty() {
        // Nothing of what it was refused for is left when its own copy is asked; the next cycle will see that.
        return Err(Refusal::unresolvable(PluginId::DefaultPreemption, NO_VICTIMS));
    }
    pods.sort_by_key(|pod| (Reverse(pod.spec.priority), pod.started.unwrap_or(i64::MAX)));
    Ok(Victims { node: node.node.name.clone(), pods, violations })
}
