//! Which volume does for a claim.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, VolumeResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use kiln_apimachinery::quantity::Quantity;

use crate::model::{LabelSet, Name, Node, NodeTerm, matches_any, selector_of};

const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// Names the node for which a volume is to be made.
pub(super) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// The storage class of a claim; empty for none.
pub(crate) fn class_of(claim: &PersistentVolumeClaim) -> String {
    let by_annotation = claim.metadata.annotations.as_ref().and_then(|annotations| annotations.get(BETA_CLASS));
    let by_field = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_ref());
    by_annotation.or(by_field).cloned().unwrap_or_default()
}

fn class_of_volume(volume: &PersistentVolume) -> &str {
    let by_annotation = volume.metadata.annotations.as_ref().and_then(|annotations| annotations.get(BETA_CLASS));
    let by_field = volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_ref());
    by_annotation.or(by_field).map_or("", String::as_str)
}

/// Whether a claim has its volume, on both sides.
pub(crate) fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_ref()).is_some_and(|name| !name.is_empty());
    named && claim.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(BIND_COMPLETED))
}

/// The node for which a claim's volume is being made.
pub(crate) fn selected_node(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.metadata.annotations.as_ref()?.get(SELECTED_NODE).map(String::as_str)
}

fn bytes(quantity: Option<&ApiQuantity>) -> i64 {
    quantity.and_then(|quantity| Quantity::parse(&quantity.0).ok()).map_or(0, Quantity::value)
}

/// How much a claim asks for, in bytes.
pub(crate) fn size_of(claim: &PersistentVolumeClaim) -> i64 {
    let of = |resources: &VolumeResourceRequirements| bytes(resources.requests.as_ref()?.get("storage")).into();
    claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()).and_then(of).unwrap_or(0)
}

fn capacity(volume: &PersistentVolume) -> i64 {
    bytes(volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()?.get("storage")))
}

/// Whether a volume can be used on a node.
pub(crate) fn allows(volume: &PersistentVolume, node: &Node) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let Some(required) = affinity.and_then(|affinity| affinity.required.as_ref()) else { return true };
    let terms: Vec<_> = required.node_selector_terms.iter().map(|term| NodeTerm::of(term, Name::new)).collect();
    matches_any(&terms, &node.name, &*node.labels)
}

fn is_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(reference) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else { return false };
    reference.name == claim.metadata.name
        && reference.namespace == claim.metadata.namespace
        && reference.uid.as_ref().is_none_or(|uid| uid.is_empty() || Some(uid) == claim.metadata.uid.as_ref())
}

/// The smallest free volume that does for a claim on a node, or the one that is reserved for the claim.
pub(crate) fn find_match(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    node: &Node,
    taken: &HashSet<String>,
) -> Option<Arc<PersistentVolume>> {
    let spec = claim.spec.as_ref()?;
    let (wanted, class) = (size_of(claim), class_of(claim));
    let selector = spec.selector.as_ref().map(|selector| selector_of(Some(selector), Name::new));
    let mode = |mode: Option<&String>| mode.map_or("Filesystem", String::as_str).to_owned();
    let none = std::collections::BTreeMap::new();
    let mut best: Option<(i64, &Arc<PersistentVolume>)> = None;
    for volume in volumes {
        let (meta, Some(own)) = (&volume.metadata, volume.spec.as_ref()) else { continue };
        let name = meta.name.as_deref().unwrap_or_default();
        if taken.contains(name)
            || meta.deletion_timestamp.is_some()
            || mode(own.volume_mode.as_ref()) != mode(spec.volume_mode.as_ref())
            || own.volume_attributes_class_name != spec.volume_attributes_class_name
        {
            continue;
        }
        let (has, fits) = (capacity(volume), allows(volume, node));
        if is_for(volume, claim) {
            if !fits {
                return None;
            }
            if has >= wanted {
                return Some(Arc::clone(volume));
            }
            continue;
        }
        let available = volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Available");
        let labels: &dyn Fn() -> bool = &|| {
            let labels = meta.labels.as_ref().unwrap_or(&none);
            selector.as_ref().is_none_or(|selector| selector.matches(labels))
        };
        let modes = |wanted: &String| own.access_modes.as_ref().is_some_and(|modes| modes.contains(wanted));
        if !available
            || own.claim_ref.is_some()
            || !labels()
            || class_of_volume(volume) != class
            || !fits
            || !spec.access_modes.iter().flatten().all(modes)
            || has < wanted
        {
            continue;
        }
        if best.is_none_or(|(least, _)| has < least) {
            best = Some((has, volume));
        }
    }
    best.map(|(_, volume)| Arc::clone(volume))
}

/// Whether a node's labels are among those that a storage class makes volumes for.
pub(crate) fn topology_allows(
    terms: Option<&Vec<k8s_openapi::api::core::v1::TopologySelectorTerm>>,
    labels: &impl LabelSet,
) -> bool {
    let Some(terms) = terms.filter(|terms| !terms.is_empty()) else { return true };
    terms.iter().any(|term| {
        term.match_label_expressions.iter().flatten().all(|expression| {
            labels.value(&expression.key).is_some_and(|value| expression.values.iter().any(|known| known == value))
        })
    })
}
