//! What was decided of volumes and is not in the mirrors yet.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kiln_client::ObjectRef;

use crate::model::Name;

/// What is to become of a pod's unbound claims on one node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Decision {
    /// Volumes that are there, each for a claim.
    pub(crate) bindings: Vec<(Arc<PersistentVolume>, Arc<PersistentVolumeClaim>)>,
    /// Claims for which volumes are to be made.
    pub(crate) provisions: Vec<Arc<PersistentVolumeClaim>>,
}

impl Decision {
    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.bindings.is_empty() && self.provisions.is_empty()
    }
}

/// Decisions that are being carried out.
#[derive(Default)]
pub(crate) struct AssumedVolumes {
    /// By the pod's uid.
    decisions: HashMap<Name, Vec<String>>,
    /// Volumes that are promised to a claim.
    volumes: HashSet<String>,
    /// The nodes of claims for which volumes are to be made, with the pod that asked.
    nodes: HashMap<ObjectRef, (Name, Name)>,
}

impl AssumedVolumes {
    /// Notes a pod's decision.
    pub(crate) fn assume(&mut self, pod: &Name, node: &Name, decision: &Decision) {
        let names: Vec<String> =
            decision.bindings.iter().filter_map(|(volume, _)| volume.metadata.name.clone()).collect();
        self.volumes.extend(names.iter().cloned());
        self.decisions.insert(pod.clone(), names);
        for claim in &decision.provisions {
            self.nodes.insert(place(claim), (node.clone(), pod.clone()));
        }
    }

    /// The pod's decision is carried out, or given up.
    pub(crate) fn forget(&mut self, pod: &str) {
        for volume in self.decisions.remove(pod).unwrap_or_default() {
            self.volumes.remove(&volume);
        }
        self.nodes.retain(|_, (_, owner)| **owner != *pod);
    }

    /// The volumes that are promised.
    pub(crate) fn promised(&self) -> &HashSet<String> {
        &self.volumes
    }

    /// The node for which a claim's volume is to be made.
    pub(crate) fn node_of(&self, claim: &PersistentVolumeClaim) -> Option<&Name> {
        self.nodes.get(&place(claim)).map(|(node, _)| node)
    }
}

/// A claim's place.
fn place(claim: &PersistentVolumeClaim) -> ObjectRef {
    let meta = &claim.metadata;
    ObjectRef::namespaced(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}
