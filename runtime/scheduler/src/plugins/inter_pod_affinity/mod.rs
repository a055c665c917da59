//! `InterPodAffinity`: near the pods it wants to be near, and far from those that it or that others want apart.

use std::collections::{BTreeMap, HashMap};

use crate::cache::NodeInfo;
use crate::framework::{Event, Filter, MAX_SCORE, Plugin, PluginId, PreFilter, Refusal, Score, Verdict, World};
use crate::model::{AffinityTerm, Name, Node, Pod, WeightedTerm};

const AFFINITY: &str = "node(s) didn't match pod affinity rules";
const ANTI_AFFINITY: &str = "node(s) didn't match pod anti-affinity rules";
const EXISTING: &str = "node(s) didn't satisfy existing pods anti-affinity rules";

/// With the settings of a profile.
pub(super) struct InterPodAffinity {
    /// What a required term of a pod that is there counts for one that it selects.
    hard_weight: i64,
    /// Whether preferred terms of pods that are there count only for pods that have terms themselves.
    ignore_preferred_of_existing: bool,
}

/// Labels of a namespace.
type NamespaceLabels = BTreeMap<String, String>;

/// How many terms hold in a place, by its label's key and value.
type Counts = HashMap<(Name, Name), i64>;

/// A term, with the namespaces that its selector selects now.
#[derive(Clone)]
struct Resolved<'a> {
    term: &'a AffinityTerm,
    selected: Vec<String>,
}

#[derive(Clone)]
struct Places<'a> {
    pod: &'a Pod,
    namespace: NamespaceLabels,
    required: Vec<Resolved<'a>>,
    required_anti: Vec<Resolved<'a>>,
    existing_anti: Counts,
    affinity: Counts,
    anti_affinity: Counts,
}

struct Sums(HashMap<Name, HashMap<Name, i64>>);

impl<'a> Resolved<'a> {
    fn all(world: World<'_>, terms: impl Iterator<Item = &'a AffinityTerm>) -> Vec<Self> {
        let resolve = |term: &'a AffinityTerm| {
            let mut selected = Vec::new();
            if !term.namespace_selector.is_nothing() && !term.namespace_selector.is_everything() {
                for namespace in world.listers.namespaces.list() {
                    let labels = namespace.metadata.labels.clone().unwrap_or_default();
                    if term.namespace_selector.matches(&labels) {
                        selected.extend(namespace.metadata.name.clone());
                    }
                }
            }
            Self { term, selected }
        };
        terms.map(resolve).collect()
    }

    fn matches(&self, pod: &Pod) -> bool {
        let term = self.term;
        (term.namespace_selector.is_everything()
            || term.namespaces.contains(&pod.namespace)
            || self.selected.iter().any(|name| **name == *pod.namespace))
            && term.selector.matches(&*pod.labels)
    }
}

fn matches_all(terms: &[Resolved<'_>], pod: &Pod) -> bool {
    !terms.is_empty() && terms.iter().all(|term| term.matches(pod))
}

fn count(counts: &mut Counts, node: &Node, key: &Name, by: i64) {
    let Some(value) = node.labels.get(key) else { return };
    let place = (key.clone(), value.clone());
    let held = counts.entry(place.clone()).or_default();
    *held += by;
    if *held == 0 {
        counts.remove(&place);
    }
}

impl<'a> Places<'a> {
    fn new(world: World<'a>, pod: &'a Pod) -> Self {
        let terms = pod.inter_pod();
        let required = terms.map_or(&[][..], |terms| &terms.required);
        let required_anti = terms.map_or(&[][..], |terms| &terms.required_anti);
        let mut places = Self {
            pod,
            namespace: world.listers.namespace_labels(&pod.namespace),
            required: Resolved::all(world, required.iter()),
            required_anti: Resolved::all(world, required_anti.iter()),
            existing_anti: Counts::new(),
            affinity: Counts::new(),
            anti_affinity: Counts::new(),
        };
        for info in world.cache.nodes() {
            for other in &info.with_affinity {
                places.count_existing(other, &info.node, 1);
            }
            if !places.required.is_empty() || !places.required_anti.is_empty() {
                for other in &info.pods {
                    places.count_own(other, &info.node, 1);
                }
            }
        }
        places
    }

    fn is_empty(&self) -> bool {
        self.existing_anti.is_empty() && self.required.is_empty() && self.required_anti.is_empty()
    }

    fn count_existing(&mut self, other: &Pod, node: &Node, by: i64) {
        for term in other.inter_pod().into_iter().flat_map(|terms| &terms.required_anti) {
            if term.matches(self.pod, &self.namespace) {
                count(&mut self.existing_anti, node, &term.topology_key, by);
            }
        }
    }

    fn count_own(&mut self, other: &Pod, node: &Node, by: i64) {
        if matches_all(&self.required, other) {
            for term in &self.required {
                count(&mut self.affinity, node, &term.term.topology_key, by);
            }
        }
        for term in &self.required_anti {
            if term.matches(other) {
                count(&mut self.anti_affinity, node, &term.term.topology_key, by);
            }
        }
    }

    fn holds(counts: &Counts, node: &Node, key: &Name) -> bool {
        let place = node.labels.get(key).map(|value| (key.clone(), value.clone()));
        place.is_some_and(|place| counts.get(&place).is_some_and(|count| *count > 0))
    }

    fn affinity_holds(&self, node: &Node) -> bool {
        if self.required.iter().any(|term| node.labels.get(&term.term.topology_key).is_none()) {
            return false;
        }
        let near = self.required.iter().all(|term| Self::holds(&self.affinity, node, &term.term.topology_key));
        // The first of pods that want each other goes anywhere.
        near || self.affinity.is_empty() && matches_all(&self.required, self.pod)
    }
}

impl<'a> Filter<'a> for Places<'a> {
    fn check(&self, info: &NodeInfo) -> Verdict {
        let (id, node) = (PluginId::InterPodAffinity, &*info.node);
        if !self.required.is_empty() && !self.affinity_holds(node) {
            return Err(Refusal::unresolvable(id, AFFINITY));
        }
        if self.required_anti.iter().any(|term| Self::holds(&self.anti_affinity, node, &term.term.topology_key)) {
            return Err(Refusal::unschedulable(id, ANTI_AFFINITY));
        }
        let existing = &self.existing_anti;
        let is_barred =
            |(key, value): &(Name, Name)| existing.get(&(key.clone(), value.clone())).is_some_and(|count| *count > 0);
        if !existing.is_empty() && node.labels.iter().any(is_barred) {
            return Err(Refusal::unschedulable(id, EXISTING));
        }
        Ok(())
    }

    fn add(&mut self, pod: &Pod, info: &NodeInfo) {
        self.count_existing(pod, &info.node, 1);
        self.count_own(pod, &info.node, 1);
    }

    fn remove(&mut self, pod: &Pod, info: &NodeInfo) {
        self.count_existing(pod, &info.node, -1);
        self.count_own(pod, &info.node, -1);
    }

    fn copy(&self) -> Box<dyn Filter<'a> + 'a> {
        Box::new(self.clone())
    }
}

impl InterPodAffinity {
    pub(super) fn new(hard_weight: i64, ignore_preferred_of_existing: bool) -> Self {
        Self { hard_weight, ignore_preferred_of_existing }
    }

    fn sums(&self, world: World<'_>, pod: &Pod) -> Sums {
        let mut sums = Sums(HashMap::new());
        let namespace = world.listers.namespace_labels(&pod.namespace);
        let own = pod.inter_pod();
        let preferred = own.map_or(&[][..], |terms| &terms.preferred);
        let preferred_anti = own.map_or(&[][..], |terms| &terms.preferred_anti);
        let near = Resolved::all(world, preferred.iter().map(|weighted| &weighted.term));
        let far = Resolved::all(world, preferred_anti.iter().map(|weighted| &weighted.term));
        let has_own = !near.is_empty() || !far.is_empty();
        for info in world.cache.nodes().iter().filter(|info| !info.node.labels.is_empty()) {
            let others = if has_own { &info.pods } else { &info.with_affinity };
            for other in others {
                for (term, weighted) in near.iter().zip(preferred).filter(|(term, _)| term.matches(other)) {
                    sums.add(&info.node, term.term, weighted.weight);
                }
                for (term, weighted) in far.iter().zip(preferred_anti).filter(|(term, _)| term.matches(other)) {
                    sums.add(&info.node, term.term, -weighted.weight);
                }
                let Some(terms) = other.inter_pod() else { continue };
                let mut theirs = |weighted: &WeightedTerm, sign: i64| {
                    if weighted.term.matches(pod, &namespace) {
                        sums.add(&info.node, &weighted.term, sign * weighted.weight);
                    }
                };
                terms.preferred.iter().for_each(|term| theirs(term, 1));
                terms.preferred_anti.iter().for_each(|term| theirs(term, -1));
                if self.hard_weight > 0 {
                    for term in terms.required.iter().filter(|term| term.matches(pod, &namespace)) {
                        sums.add(&info.node, term, self.hard_weight);
                    }
                }
            }
        }
        sums
    }
}

impl Sums {
    fn add(&mut self, node: &Node, term: &AffinityTerm, by: i64) {
        let Some(value) = node.labels.get(&term.topology_key) else { return };
        *self.0.entry(term.topology_key.clone()).or_default().entry(value.clone()).or_default() += by;
    }
}

impl Score for Sums {
    fn score(&self, info: &NodeInfo) -> i64 {
        let values = self.0.iter().filter_map(|(key, values)| values.get(info.node.labels.get(key)?));
        values.sum()
    }

    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "as the reference scales them")]
    fn normalize(&self, _nodes: &[&NodeInfo], scores: &mut [i64]) {
        let least = scores.iter().copied().min().unwrap_or(0);
        let span = scores.iter().copied().max().unwrap_or(0) - least;
        for score in scores {
            let part = if span > 0 { (*score - least) as f64 / span as f64 } else { 0.0 };
            *score = (MAX_SCORE as f64 * part) as i64;
        }
    }
}

impl Plugin for InterPodAffinity {
    fn id(&self) -> PluginId {
        PluginId::InterPodAffinity
    }

    fn pre_filter<'a>(&'a self, world: World<'a>, pod: &'a Pod) -> Result<PreFilter<'a>, Refusal> {
        if pod.spec.inter_pod.is_none() && world.cache.with_affinity == 0 {
            return Ok(PreFilter::Skip);
        }
        let places = Places::new(world, pod);
        Ok(if places.is_empty() { PreFilter::Skip } else { PreFilter::Check(Box::new(places)) })
    }

    fn pre_score<'a>(&'a self, world: World<'a>, pod: &'a Pod, _nodes: &[&'a NodeInfo]) -> Option<Box<dyn Score + 'a>> {
        let prefers = |pod: &Pod| {
            pod.inter_pod().is_some_and(|terms| !terms.preferred.is_empty() || !terms.preferred_anti.is_empty())
        };
        if !prefers(pod) && (self.ignore_preferred_of_existing || world.cache.with_affinity == 0) {
            return None;
        }
        let sums = self.sums(world, pod);
        if sums.0.is_empty() { None } else { Some(Box::new(sums)) }
    }

    fn may_help(&self, world: World<'_>, pod: &Pod, event: &Event<'_>) -> bool {
        let terms = pod.inter_pod();
        let near = || Resolved::all(world, terms.into_iter().flat_map(|terms| &terms.required));
        let far = || Resolved::all(world, terms.into_iter().flat_map(|terms| &terms.required_anti));
        match event {
            Event::SelfUpdated { change, .. } => change.labels,
            Event::PodPlaced(new) => matches_all(&near(), new),
            Event::PodUpdated { old, new, change } if change.labels => {
                let (near, far) = (near(), far());
                !matches_all(&near, old) && matches_all(&near, new) || matches_all(&far, old) && !matches_all(&far, new)
            }
            Event::PodGone(gone) if gone.has_place() => {
                let theirs = gone.inter_pod().into_iter().flat_map(|terms| &terms.required_anti);
                matches_all(&far(), gone) || matches_all(&Resolved::all(world, theirs), pod)
            }
            Event::NodeAdded(node) => {
                let mut near = terms.into_iter().flat_map(|terms| &terms.required);
                terms.is_some_and(|terms| !terms.required_anti.is_empty())
                    || near.any(|term| node.labels.get(&term.topology_key).is_some())
            }
            Event::NodeUpdated { old, new, change } if change.labels => {
                let moved = |term: &AffinityTerm, gained: bool, lost: bool| match (
                    old.labels.get(&term.topology_key),
                    new.labels.get(&term.topology_key),
                ) {
                    (None, Some(_)) => gained,
                    (Some(_), None) => lost,
                    (old, new) => old != new,
                };
                terms.is_some_and(|terms| {
                    terms.required.iter().any(|term| moved(term, true, false))
                        || terms.required_anti.iter().any(|term| moved(term, false, true))
                })
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
