//! Volumes, claims, their classes and the drivers that provide them.

pub(crate) mod cells;
mod claim;
mod claim_rules;
mod classes;
mod columns;
mod csi;
mod volume;
mod volume_rules;

use columns as c;

use crate::registry::resource::{Resource, core, v1};

const STORAGE: &str = "storage.k8s.io";

/// The rows. One kind, one paragraph: a table reads better than a tower.
#[rustfmt::skip]
pub(crate) fn rows() -> Vec<Resource> {
    vec![
        core("PersistentVolumeClaim", "persistentvolumeclaims").short(&["pvc"]).with_status()
            .columns(c::CLAIM).strategy(claim::Claims),
        core("PersistentVolume", "persistentvolumes").cluster().short(&["pv"]).with_status()
            .columns(c::VOLUME).strategy(volume::Volumes),
        v1(STORAGE, "StorageClass", "storageclasses").cluster().short(&["sc"])
            .columns(c::CLASS).strategy(classes::StorageClasses),
        v1(STORAGE, "VolumeAttachment", "volumeattachments").cluster().with_status()
            .columns(c::ATTACHMENT).conditional_update().strategy(csi::Attachments),
        v1(STORAGE, "CSIDriver", "csidrivers").cluster().columns(c::DRIVER).conditional_update().strategy(csi::Drivers),
        v1(STORAGE, "CSINode", "csinodes").cluster().columns(c::CSI_NODE).conditional_update().strategy(csi::Nodes),
        v1(STORAGE, "CSIStorageCapacity", "csistoragecapacities")
            .columns(c::CAPACITY).conditional_update().strategy(csi::Capacities),
        v1(STORAGE, "VolumeAttributesClass", "volumeattributesclasses").cluster().short(&["vac"])
            .columns(c::ATTRIBUTES_CLASS).strategy(classes::AttributesClasses),
    ]
}
