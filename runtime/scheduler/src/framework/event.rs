//! What happens in the cluster, as far as it can help a pod that found no node.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::resource::v1::ResourceClaim;
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass};

use crate::model::{Node, Pod};

/// An object as it was and as it is; without a former state it is new.
pub(crate) struct Update<'a, T> {
    pub(crate) old: Option<&'a T>,
    pub(crate) new: &'a T,
}

/// What changed of a pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PodChange {
    pub(crate) labels: bool,
    pub(crate) scaled_down: bool,
    pub(crate) gates_gone: bool,
    pub(crate) tolerations: bool,
    pub(crate) claims: bool,
}

/// What changed of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct NodeChange {
    pub(crate) allocatable: bool,
    pub(crate) labels: bool,
    /// Its taints, or it has become schedulable.
    pub(crate) taints: bool,
    /// What the kubelet can do.
    pub(crate) features: bool,
}

/// An event.
pub(crate) enum Event<'a> {
    /// A pod came to a node.
    PodPlaced(&'a Pod),
    /// A pod on a node changed.
    PodUpdated { old: &'a Pod, new: &'a Pod, change: PodChange },
    /// A pod left its node, or one without a node is gone.
    PodGone(&'a Pod),
    /// The very pod that waits changed.
    SelfUpdated { old: &'a Pod, new: &'a Pod, change: PodChange },
    /// A node came.
    NodeAdded(&'a Node),
    /// A node changed.
    NodeUpdated { old: &'a Node, new: &'a Node, change: NodeChange },
    /// A node is gone.
    NodeGone(&'a Node),
    /// A claim came or changed.
    Claim(Update<'a, PersistentVolumeClaim>),
    /// A volume came or changed.
    Volume(Update<'a, PersistentVolume>),
    /// A class of storage came or changed.
    StorageClass(Update<'a, StorageClass>),
    /// What CSI drivers say of a node came or changed.
    CsiNode(Update<'a, CSINode>),
    /// A CSI driver came or changed.
    CsiDriver(Update<'a, CSIDriver>),
    /// What room a driver has came or changed.
    CsiCapacity(Update<'a, CSIStorageCapacity>),
    /// A volume is no longer attached.
    Detached,
    /// A claim of devices came or changed.
    DeviceClaim(Update<'a, ResourceClaim>),
    /// A claim of devices is gone.
    DeviceClaimGone(&'a ResourceClaim),
    /// Devices or classes of devices came or changed.
    Devices,
}

impl Event<'_> {
    /// What it is called in metrics.
    pub(crate) fn label(&self) -> &'static str {
        fn of<T>(update: &Update<'_, T>, added: &'static str, changed: &'static str) -> &'static str {
            if update.old.is_none() { added } else { changed }
        }
        match self {
            Self::PodPlaced(_) => "AssignedPodAdd",
            Self::PodUpdated { change, .. } if change.labels => "AssignedPodUpdatePodLabel",
            Self::PodUpdated { change, .. } if change.scaled_down => "AssignedPodUpdatePodScaleDown",
            Self::PodUpdated { .. } => "AssignedPodUpdate",
            Self::PodGone(_) => "AssignedPodDelete",
            Self::SelfUpdated { change, .. } if change.gates_gone => {
                "UnschedulablePodUpdatePodSchedulingGatesEliminated"
            }
            Self::SelfUpdated { change, .. } if change.tolerations => "UnschedulablePodUpdatePodToleration",
            Self::SelfUpdated { change, .. } if change.scaled_down => "UnschedulablePodUpdatePodScaleDown",
            Self::SelfUpdated { change, .. } if change.labels => "UnschedulablePodUpdatePodLabel",
            Self::SelfUpdated { .. } => "UnschedulablePodUpdatePodGeneratedResourceClaim",
            Self::NodeAdded(_) => "NodeAdd",
            Self::NodeUpdated { change, .. } if change.allocatable => "NodeUpdateNodeAllocatable",
            Self::NodeUpdated { change, .. } if change.labels => "NodeUpdateNodeLabel",
            Self::NodeUpdated { change, .. } if change.taints => "NodeUpdateNodeTaint",
            Self::NodeUpdated { .. } => "NodeUpdateNodeDeclaredFeature",
            Self::NodeGone(_) => "NodeDelete",
            Self::Claim(update) => of(update, "PersistentVolumeClaimAdd", "PersistentVolumeClaimUpdate"),
            Self::Volume(update) => of(update, "PersistentVolumeAdd", "PersistentVolumeUpdate"),
            Self::StorageClass(update) => {
                of(update, "storage.k8s.io/StorageClassAdd", "storage.k8s.io/StorageClassUpdate")
            }
            Self::CsiNode(update) => of(update, "storage.k8s.io/CSINodeAdd", "storage.k8s.io/CSINodeUpdate"),
            Self::CsiDriver(update) => of(update, "storage.k8s.io/CSIDriverAdd", "storage.k8s.io/CSIDriverUpdate"),
            Self::CsiCapacity(update) => {
                of(update, "storage.k8s.io/CSIStorageCapacityAdd", "storage.k8s.io/CSIStorageCapacityUpdate")
            }
            Self::Detached => "storage.k8s.io/VolumeAttachmentDelete",
            Self::DeviceClaim(update) => {
                of(update, "resource.k8s.io/ResourceClaimAdd", "resource.k8s.io/ResourceClaimUpdate")
            }
            Self::DeviceClaimGone(_) => "resource.k8s.io/ResourceClaimDelete",
            Self::Devices => "resource.k8s.io/ResourceSliceAdd",
        }
    }
}

impl PodChange {
    /// What is different.
    pub(crate) fn between(old: &Pod, new: &Pod) -> Self {
        Self {
            labels: !Arc::ptr_eq(&old.labels, &new.labels) && old.labels != new.labels,
            scaled_down: asks_for_less(old, new),
            gates_gone: new.spec.gates.is_empty() && !old.spec.gates.is_empty(),
            tolerations: new.spec.tolerations.len() != old.spec.tolerations.len(),
            claims: new.claims != old.claims,
        }
    }

    /// Whether nothing that matters changed.
    pub(crate) fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

fn asks_for_less(old: &Pod, new: &Pod) -> bool {
    if Arc::ptr_eq(&old.spec, &new.spec) {
        return false;
    }
    let (old, new) = (&old.spec.requests, &new.spec.requests);
    old.milli_cpu > new.milli_cpu
        || old.memory > new.memory
        || old.ephemeral_storage > new.ephemeral_storage
        || old.scalars.iter().any(|(name, amount)| *amount > new.scalar(name))
}

impl NodeChange {
    /// What is different.
    pub(crate) fn between(old: &Node, new: &Node) -> Self {
        Self {
            allocatable: old.allocatable != new.allocatable || old.allowed_pods != new.allowed_pods,
            labels: old.labels != new.labels,
            taints: old.taints != new.taints || old.unschedulable && !new.unschedulable,
            features: old.features != new.features,
        }
    }

    /// Whether nothing that matters changed.
    pub(crate) fn is_nothing(self) -> bool {
        self == Self::default()
    }
}
