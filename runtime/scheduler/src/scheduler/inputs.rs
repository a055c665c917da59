//! What the loop is told.

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment};
use kiln_client::Change;

use crate::model::Name;
use crate::writer::Bound;

/// Something that happened.
pub(super) enum Input {
    Pod(Change<Pod>),
    Node(Change<Node>),
    Claim(Change<PersistentVolumeClaim>),
    Volume(Change<PersistentVolume>),
    StorageClass(Change<StorageClass>),
    CsiNode(Change<CSINode>),
    CsiDriver(Change<CSIDriver>),
    Capacity(Change<CSIStorageCapacity>),
    Attachment(Change<VolumeAttachment>),
    DeviceClaim(Change<ResourceClaim>),
    Devices(Change<ResourceSlice>),
    DeviceClass(Change<DeviceClass>),
    /// A binding was carried out, or not.
    Bound(Bound),
    /// Those that were asked to leave for this pod were all asked, or that failed.
    Preempted {
        uid: Name,
        failed: bool,
    },
    /// What this pod needs is bound to it, or that failed; then with the reason.
    Prepared {
        pod: Name,
        error: Option<String>,
    },
}
