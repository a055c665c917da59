//! One pod's way through the plugins.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::{
    Code, Diagnosis, Filter, MAX_SCORE, PluginId, Plugins, PreFilter, Profile, Random, Refusal, SUCCESS, Verdict, World,
};
use crate::cache::NodeInfo;
use crate::metrics::Metrics;
use crate::model::{Name, Pod};

/// The filters of a pod that every plugin let through so far.
pub(crate) struct Cycle<'a> {
    world: World<'a>,
    pod: &'a Pod,
    filters: Filters<'a>,
    /// Only nodes of these names can do.
    among: Option<Vec<Name>>,
    /// Who says so.
    narrowed: Plugins,
}

/// What judges nodes, by plugin.
pub(crate) struct Filters<'a>(Vec<Box<dyn Filter<'a> + 'a>>);

/// How a cycle ended.
pub(crate) enum Outcome<'a> {
    /// The pod can go to the nodes at these places in the cache; why not to others.
    Feasible(Vec<usize>, Box<Diagnosis>),
    /// There are no nodes at all.
    NoNodes,
    /// No node can do. With the filters, unless the pod was refused before any node was asked.
    Unfit(Box<Diagnosis>, Option<Cycle<'a>>),
    /// A plugin failed.
    Failed(String),
}

impl<'a> Filters<'a> {
    /// Whether the pod can go to a node.
    pub(crate) fn check(&self, node: &NodeInfo) -> Verdict {
        self.0.iter().try_for_each(|filter| filter.check(node))
    }

    /// Counts a pod in on a node.
    pub(crate) fn add(&mut self, pod: &Arc<Pod>, node: &mut NodeInfo) {
        node.add(Arc::clone(pod));
        self.0.iter_mut().for_each(|filter| filter.add(pod, node));
    }

    /// Counts a pod out of a node.
    pub(crate) fn remove(&mut self, pod: &Pod, node: &mut NodeInfo) {
        node.remove(pod);
        self.0.iter_mut().for_each(|filter| filter.remove(pod, node));
    }

    fn copy(&self) -> Self {
        Self(self.0.iter().map(|filter| filter.copy()).collect())
    }
}

impl<'a> Cycle<'a> {
    /// Asks the plugins about the pod.
    pub(crate) fn start(world: World<'a>, profile: &'a Profile, pod: &'a Pod) -> Result<Self, (Refusal, Plugins)> {
        let mut filters = Vec::new();
        let mut among: Option<Vec<Name>> = None;
        let mut narrowed = Plugins::NONE;
        for plugin in profile.plugins.iter().filter(|plugin| profile.filters.contains(plugin.id())) {
            match plugin.pre_filter(world, pod).map_err(|refusal| (refusal, Plugins::NONE))? {
                PreFilter::Skip => {}
                PreFilter::Check(filter) => filters.push(filter),
                PreFilter::Among(filter, names) => {
                    filters.push(filter);
                    narrowed.insert(plugin.id());
                    let both = match among.take() {
                        Some(known) => known.into_iter().filter(|name| names.contains(name)).collect(),
                        None => names,
                    };
                    if both.is_empty() {
                        let refusal = Refusal::unresolvable(plugin.id(), unsatisfied(narrowed));
                        return Err((refusal, narrowed));
                    }
                    among = Some(both);
                }
            }
        }
        Ok(Self { world, pod, filters: Filters(filters), among, narrowed })
    }

    /// A copy of the filters on which a "what if" can be tried.
    pub(crate) fn filters(&self) -> Filters<'a> {
        self.filters.copy()
    }

    /// Whether the pod can go to a node, with the more important pods on it that were promised room there and without them.
    pub(crate) fn check(&self, filters: &Filters<'a>, node: &NodeInfo) -> Verdict {
        let others = self.world.nominator.on(&node.node.name).iter();
        let mut others = others
            .filter(|other| other.spec.priority >= self.pod.spec.priority && other.uid != self.pod.uid)
            .peekable();
        if others.peek().is_some() {
            let (mut filters, mut node) = (filters.copy(), node.clone());
            others.for_each(|other| filters.add(other, &mut node));
            filters.check(&node)?;
        }
        filters.check(node)
    }

    /// The places of nodes that can do. Stops when there are enough.
    fn feasible(
        &self,
        nodes: &[usize],
        enough: usize,
        start: usize,
        diagnosis: &mut Diagnosis,
    ) -> Result<Vec<usize>, Refusal> {
        let mut feasible = Vec::new();
        let all = self.world.cache.nodes();
        for step in 0..nodes.len() {
            let at = nodes[(start + step) % nodes.len()];
            match self.check(&self.filters, &all[at]) {
                Ok(()) => {
                    feasible.push(at);
                    if feasible.len() >= enough {
                        break;
                    }
                }
                Err(refusal) if refusal.code == Code::Error => return Err(refusal),
                Err(refusal) => {
                    diagnosis.blame(&refusal);
                    diagnosis.refusals.push((at, refusal));
                }
            }
        }
        Ok(feasible)
    }
}

fn unsatisfied(plugins: Plugins) -> String {
    let mut names: Vec<_> = PluginId::ALL.iter().filter(|id| plugins.contains(**id)).map(|id| id.name()).collect();
    names.sort_unstable();
    match &*names {
        [name] => format!("node(s) didn't satisfy plugin {name}"),
        _ => format!("node(s) didn't satisfy plugin(s) [{}] simultaneously", names.join(" ")),
    }
}

/// Looks for a pod's node. `start` is the place at which to begin, and moves on. `promised`: a node that others were asked to leave
/// for the pod goes first, and no other is asked if it can do.
pub(crate) fn schedule<'a>(
    world: World<'a>,
    profile: &'a Profile,
    pod: &'a Pod,
    promised: bool,
    start: &mut usize,
    metrics: &Metrics,
) -> Outcome<'a> {
    let all = world.cache.nodes();
    if all.is_empty() {
        return Outcome::NoNodes;
    }
    let mut diagnosis = Box::new(Diagnosis { nodes: all.len(), ..Diagnosis::default() });
    let began = Instant::now();
    let started = Cycle::start(world, profile, pod);
    let status = started.as_ref().map_or_else(|(refusal, _)| refusal.code.status(), |_| SUCCESS);
    metrics.ran("PreFilter", status, &profile.name, began.elapsed());
    let cycle = match started {
        Ok(cycle) => cycle,
        Err((refusal, _)) if refusal.code == Code::Error => {
            return Outcome::Failed(format!(
                "running PreFilter plugin {:?}: {}",
                refusal.plugin.name(),
                refusal.message()
            ));
        }
        Err((refusal, narrowed)) => {
            diagnosis.blame(&refusal);
            diagnosis.plugins = diagnosis.plugins.union(narrowed);
            diagnosis.before = Some(refusal.message());
            diagnosis.others = Some(refusal);
            return Outcome::Unfit(diagnosis, None);
        }
    };
    let began = Instant::now();
    let found = find(&cycle, profile, promised, start, &mut diagnosis);
    let status = found.as_ref().map_or_else(|refusal| refusal.code.status(), |_| SUCCESS);
    metrics.ran("Filter", status, &profile.name, began.elapsed());
    let feasible = match found {
        Ok(feasible) => feasible,
        Err(refusal) => {
            return Outcome::Failed(format!(
                "running {:?} filter plugin: {}",
                refusal.plugin.name(),
                refusal.message()
            ));
        }
    };
    if feasible.is_empty() {
        return Outcome::Unfit(diagnosis, Some(cycle));
    }
    Outcome::Feasible(feasible, diagnosis)
}

fn find(
    cycle: &Cycle<'_>,
    profile: &Profile,
    promised: bool,
    start: &mut usize,
    diagnosis: &mut Diagnosis,
) -> Result<Vec<usize>, Refusal> {
    let cache = cycle.world.cache;
    let nominated = cycle.pod.nominated.as_ref().filter(|_| promised);
    if let Some(at) = nominated.and_then(|node| cache.index_of(node)) {
        let mut aside = Diagnosis::default();
        if let Ok(feasible) = cycle.feasible(&[at], 1, 0, &mut aside)
            && !feasible.is_empty()
        {
            return Ok(feasible);
        }
    }
    let nodes: Vec<usize> = match &cycle.among {
        None => (0..cache.nodes().len()).collect(),
        Some(names) => {
            let mut plugins: Vec<_> =
                PluginId::ALL.iter().filter(|id| cycle.narrowed.contains(**id)).map(|id| id.name()).collect();
            plugins.sort_unstable();
            let reason = format!("node(s) didn't satisfy plugin(s) [{}]", plugins.join(" "));
            diagnosis.others = Some(Refusal::unresolvable(PluginId::NodeAffinity, reason));
            diagnosis.plugins = diagnosis.plugins.union(cycle.narrowed);
            names.iter().filter_map(|name| cache.index_of(name)).collect()
        }
    };
    if nodes.is_empty() {
        return Ok(Vec::new());
    }
    let feasible = cycle.feasible(&nodes, profile.enough(nodes.len()), *start, diagnosis)?;
    *start = (*start + feasible.len() + diagnosis.refusals.len()) % cache.nodes().len();
    Ok(feasible)
}

/// The place of the node with the most points; chance decides between equals. `further`: points from elsewhere, by place.
pub(crate) fn best(
    world: World<'_>,
    profile: &Profile,
    pod: &Pod,
    feasible: &[usize],
    further: &HashMap<usize, i64>,
    random: &mut Random,
    metrics: &Metrics,
) -> Option<usize> {
    if let [] | [_] = feasible {
        return feasible.first().copied();
    }
    let began = Instant::now();
    let all = world.cache.nodes();
    let nodes: Vec<&NodeInfo> = feasible.iter().map(|at| &all[*at]).collect();
    let mut totals = points(world, profile, pod, &nodes);
    for (total, at) in totals.iter_mut().zip(feasible) {
        *total = total.saturating_add(further.get(at).copied().unwrap_or(0));
    }
    let (mut best, mut equals) = (0, 1);
    for at in 1..totals.len() {
        if totals[at] > totals[best] {
            (best, equals) = (at, 1);
        } else if totals[at] == totals[best] {
            equals += 1;
            if random.below(equals) == 0 {
                best = at;
            }
        }
    }
    metrics.ran("Score", SUCCESS, &profile.name, began.elapsed());
    feasible.get(best).copied()
}

/// The points of nodes by all plugins together.
pub(crate) fn points(world: World<'_>, profile: &Profile, pod: &Pod, nodes: &[&NodeInfo]) -> Vec<i64> {
    let mut totals = vec![0_i64; nodes.len()];
    let mut scores = vec![0_i64; nodes.len()];
    for plugin in &profile.plugins {
        let weight = profile.weight(plugin.id());
        if weight == 0 {
            continue;
        }
        let Some(scorer) = plugin.pre_score(world, pod, nodes) else { continue };
        for (score, node) in scores.iter_mut().zip(nodes) {
            *score = scorer.score(node);
        }
        scorer.normalize(nodes, &mut scores);
        for (total, score) in totals.iter_mut().zip(&scores) {
            *total += weight * (*score).clamp(0, MAX_SCORE);
        }
    }
    totals
}
