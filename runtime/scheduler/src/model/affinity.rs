//! What a pod says of the pods it wants near it or far from it.

use k8s_openapi::api::core::v1;

use super::{LabelSet, Name, Pod, Selector, selector_of};

/// Selects pods, and says what is near them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct AffinityTerm {
    /// Namespaces of the pods.
    pub(crate) namespaces: Box<[Name]>,
    /// Further namespaces by their labels.
    pub(crate) namespace_selector: Selector,
    /// The pods.
    pub(crate) selector: Selector,
    /// Nodes with one value of this label are one place.
    pub(crate) topology_key: Name,
}

/// A term with a weight.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct WeightedTerm {
    pub(crate) term: AffinityTerm,
    pub(crate) weight: i64,
}

/// Affinity and anti-affinity to other pods.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct InterPod {
    pub(crate) required: Box<[AffinityTerm]>,
    pub(crate) required_anti: Box<[AffinityTerm]>,
    pub(crate) preferred: Box<[WeightedTerm]>,
    pub(crate) preferred_anti: Box<[WeightedTerm]>,
}

impl AffinityTerm {
    fn of(term: &v1::PodAffinityTerm, own: &Name, mut name: impl FnMut(&str) -> Name) -> Self {
        let named: Box<[Name]> = term.namespaces.iter().flatten().map(|namespace| name(namespace)).collect();
        let namespaces =
            if named.is_empty() && term.namespace_selector.is_none() { Box::new([own.clone()]) } else { named };
        Self {
            namespaces,
            namespace_selector: selector_of(term.namespace_selector.as_ref(), &mut name),
            selector: selector_of(term.label_selector.as_ref(), &mut name),
            topology_key: name(&term.topology_key),
        }
    }

    /// Whether it selects a pod whose namespace has these labels.
    pub(crate) fn matches(&self, pod: &Pod, namespace_labels: &impl LabelSet) -> bool {
        (self.namespaces.contains(&pod.namespace) || self.namespace_selector.matches(namespace_labels))
            && self.selector.matches(&*pod.labels)
    }
}

impl InterPod {
    /// `None` if the pod says nothing of others.
    pub(super) fn of(affinity: &v1::Affinity, own: &Name, mut name: impl FnMut(&str) -> Name) -> Option<Self> {
        let mut terms = |terms: Option<&Vec<v1::PodAffinityTerm>>| -> Box<[AffinityTerm]> {
            terms.into_iter().flatten().map(|term| AffinityTerm::of(term, own, &mut name)).collect()
        };
        let (near, far) = (affinity.pod_affinity.as_ref(), affinity.pod_anti_affinity.as_ref());
        let required = terms(near.and_then(|near| near.required_during_scheduling_ignored_during_execution.as_ref()));
        let required_anti = terms(far.and_then(|far| far.required_during_scheduling_ignored_during_execution.as_ref()));
        let mut weighted = |terms: Option<&Vec<v1::WeightedPodAffinityTerm>>| -> Box<[WeightedTerm]> {
            let of = |weighted: &v1::WeightedPodAffinityTerm| WeightedTerm {
                term: AffinityTerm::of(&weighted.pod_affinity_term, own, &mut name),
                weight: i64::from(weighted.weight),
            };
            terms.into_iter().flatten().map(of).collect()
        };
        let preferred =
            weighted(near.and_then(|near| near.preferred_during_scheduling_ignored_during_execution.as_ref()));
        let preferred_anti =
            weighted(far.and_then(|far| far.preferred_during_scheduling_ignored_during_execution.as_ref()));
        let whole = Self { required, required_anti, preferred, preferred_anti };
        (whole != Self::default()).then_some(whole)
    }
}

/// How evenly pods are to be spread.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SpreadConstraint {
    /// The most by which the fullest place may differ from the emptiest.
    pub(crate) max_skew: i64,
    /// Nodes with one value of this label are one place.
    pub(crate) topology_key: Name,
    /// `DoNotSchedule`; otherwise `ScheduleAnyway`.
    pub(crate) hard: bool,
    /// The pods that count.
    pub(crate) selector: Selector,
    /// With fewer places than this the emptiest counts as empty.
    pub(crate) min_domains: i64,
    /// Whether only nodes count that the pod's node affinity lets in.
    pub(crate) honor_affinity: bool,
    /// Whether only nodes count whose taints the pod tolerates.
    pub(crate) honor_taints: bool,
}

impl SpreadConstraint {
    pub(crate) fn of(
        constraint: &v1::TopologySpreadConstraint,
        labels: &impl LabelSet,
        mut name: impl FnMut(&str) -> Name,
    ) -> Self {
        let selector = selector_of(constraint.label_selector.as_ref(), &mut name);
        let keys = constraint.match_label_keys.iter().flatten();
        let same: Vec<_> = keys.filter_map(|key| Some((&**key, labels.value(key)?))).collect();
        let selector = if same.is_empty() { selector } else { Selector::all_of(same, &mut name).and(selector) };
        Self {
            max_skew: i64::from(constraint.max_skew),
            topology_key: name(&constraint.topology_key),
            hard: constraint.when_unsatisfiable == "DoNotSchedule",
            selector,
            min_domains: constraint.min_domains.map_or(1, i64::from),
            honor_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        }
    }
}
