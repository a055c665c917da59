//! A set's pod on a node.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration,
};

use super::HASH_LABEL;
use crate::node_fit::{is_selected, untolerated};
use crate::owned::{name, reference};
use crate::pods::{from_template, node_name};

const NODE_NAME: &str = "metadata.name";
/// The generation of the template, on sets and pods of early versions of the API.
const GENERATION: &str = "deprecated.daemonset.template.generation";
const GENERATION_LABEL: &str = "pod-template-generation";

/// Taints that every pod of a DaemonSet tolerates for ever, with their effects.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
/// And those that use the node's own network.
const TOLERATED_BY_HOST_NETWORK: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

/// Whether a pod of the set should be made on a node, and whether one that is there may stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IsFor {
    pub(super) runs: bool,
    pub(super) stays: bool,
}

/// Whether the set's pods are for a node.
pub(super) fn is_for(set: &DaemonSet, node: &Node) -> IsFor {
    let no = IsFor { runs: false, stays: false };
    let Some(spec) = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()) else { return no };
    let named = spec.node_name.as_deref().unwrap_or_default();
    if !(named.is_empty() || named == name(node)) || !is_selected(spec, node) {
        return no;
    }
    let mut tolerations = spec.tolerations.clone().unwrap_or_default();
    tolerate(&mut tolerations, spec.host_network == Some(true));
    let runs = untolerated(node, &tolerations, &["NoSchedule", "NoExecute"]).is_none();
    IsFor { runs, stays: runs || untolerated(node, &tolerations, &["NoExecute"]).is_none() }
}

/// Adds what every pod of a DaemonSet tolerates, in place of tolerations of the same taint and effect.
fn tolerate(tolerations: &mut Vec<Toleration>, host_network: bool) {
    let by_network = host_network.then_some(TOLERATED_BY_HOST_NETWORK);
    for (key, effect) in TOLERATED.into_iter().chain(by_network) {
        let toleration = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        let is_it = |known: &&mut Toleration| {
            known.key == toleration.key
                && known.effect == toleration.effect
                && known.operator == toleration.operator
                && known.value.as_deref().unwrap_or_default().is_empty()
        };
        match tolerations.iter_mut().find(is_it) {
            Some(known) => *known = toleration,
            None => tolerations.push(toleration),
        }
    }
}

/// The set's pod for a node.
pub(super) fn make(set: &DaemonSet, hash: &str, node: &str) -> Option<Pod> {
    let mut pod = from_template(&set.spec.as_ref()?.template, reference(set));
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
    if let Some(generation) = generation(set) {
        labels.insert(GENERATION_LABEL.to_owned(), generation.to_string());
    }
    let spec = pod.spec.as_mut()?;
    tolerate(spec.tolerations.get_or_insert_default(), spec.host_network == Some(true));
    bind_to(spec, node);
    Some(pod)
}

/// Has the scheduler bind a pod to this node and no other. What else its affinity required of a node, this one meets.
fn bind_to(spec: &mut PodSpec, node: &str) {
    let by_name = NodeSelectorRequirement {
        key: NODE_NAME.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let term = NodeSelectorTerm { match_fields: Some(vec![by_name]), match_expressions: None };
    let affinity = spec.affinity.get_or_insert_default().node_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution =
        Some(NodeSelector { node_selector_terms: vec![term] });
}

/// The node that a pod is on, or is made for.
pub(super) fn target(pod: &Pod) -> Option<&str> {
    let bound = node_name(pod);
    if !bound.is_empty() {
        return Some(bound);
    }
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let terms = &affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    let fields = terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    let by_name = fields.into_iter().find(|field| field.key == NODE_NAME && field.operator == "In")?;
    match by_name.values.as_deref()? {
        [one] => Some(one),
        _ => None,
    }
}

/// The generation of the template that early clients set.
fn generation(set: &DaemonSet) -> Option<i64> {
    set.metadata.annotations.as_ref()?.get(GENERATION)?.parse().ok()
}

/// The hash of the template that a pod was made of.
pub(super) fn hash(pod: &Pod) -> &str {
    let labels = pod.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(HASH_LABEL)).map_or("", String::as_str)
}

/// Whether a pod is of the present template.
pub(super) fn is_updated(set: &DaemonSet, pod: &Pod, present: &str) -> bool {
    let labelled = pod.metadata.labels.as_ref().and_then(|labels| labels.get(GENERATION_LABEL));
    let by_generation = generation(set).is_some_and(|wanted| labelled == Some(&wanted.to_string()));
    hash(pod) == present || by_generation
}
