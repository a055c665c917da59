//! The mirrors of what plugins read besides pods and nodes.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{
    Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController, Service,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment};
use kiln_client::{ObjectRef, Store};

use crate::devices::AssumedDevices;
use crate::volumes::AssumedVolumes;

/// The mirrors, and what was decided and is not in them yet.
#[derive(Default)]
pub(crate) struct Listers {
    pub(crate) pods: Store<Pod>,
    /// Only to know that all nodes are in.
    pub(crate) nodes: Store<Node>,
    pub(crate) namespaces: Store<Namespace>,
    pub(crate) services: Store<Service>,
    pub(crate) replica_sets: Store<ReplicaSet>,
    pub(crate) replication_controllers: Store<ReplicationController>,
    pub(crate) stateful_sets: Store<StatefulSet>,
    pub(crate) budgets: Store<PodDisruptionBudget>,
    pub(crate) claims: Store<PersistentVolumeClaim>,
    pub(crate) volumes: Store<PersistentVolume>,
    pub(crate) storage_classes: Store<StorageClass>,
    pub(crate) csi_nodes: Store<CSINode>,
    pub(crate) csi_drivers: Store<CSIDriver>,
    pub(crate) capacities: Store<CSIStorageCapacity>,
    pub(crate) attachments: Store<VolumeAttachment>,
    pub(crate) device_claims: Store<ResourceClaim>,
    pub(crate) slices: Store<ResourceSlice>,
    pub(crate) device_classes: Store<DeviceClass>,
    pub(crate) assumed_volumes: AssumedVolumes,
    pub(crate) assumed_devices: AssumedDevices,
}

impl Listers {
    /// The labels of a namespace; none if it is not there.
    pub(crate) fn namespace_labels(&self, name: &str) -> BTreeMap<String, String> {
        let namespace = self.namespaces.get(&ObjectRef::cluster(name));
        namespace.and_then(|namespace| namespace.metadata.labels.clone()).unwrap_or_default()
    }

    /// Waits until all are filled.
    pub(crate) async fn synced(&self) {
        self.pods.synced().await;
        self.nodes.synced().await;
        self.namespaces.synced().await;
        self.services.synced().await;
        self.replica_sets.synced().await;
        self.replication_controllers.synced().await;
        self.stateful_sets.synced().await;
        self.budgets.synced().await;
        self.claims.synced().await;
        self.volumes.synced().await;
        self.storage_classes.synced().await;
        self.csi_nodes.synced().await;
        self.csi_drivers.synced().await;
        self.capacities.synced().await;
        self.attachments.synced().await;
        self.device_claims.synced().await;
        self.slices.synced().await;
        self.device_classes.synced().await;
    }
}
