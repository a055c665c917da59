//! Columns of volumes, claims, classes and drivers.

use super::cells;
use crate::registry::columns::Cell::{Count, Path, With};
use crate::registry::columns::{AGE, Column, NAME, boolean, number, text, wide};

pub(crate) const VOLUME: &[Column] = &[
    NAME,
    text("Capacity", With(cells::volume_capacity)),
    text("Access Modes", With(cells::volume_modes)),
    text("Reclaim Policy", Path(&["spec", "persistentVolumeReclaimPolicy"])),
    text("Status", With(cells::phase)),
    text("Claim", With(cells::volume_claim)),
    text("StorageClass", With(cells::class)),
    text("VolumeAttributesClass", With(cells::attributes_class)),
    text("Reason", Path(&["status", "reason"])),
    AGE,
    wide("VolumeMode", With(cells::volume_mode)),
];
pub(crate) const CLAIM: &[Column] = &[
    NAME,
    text("Status", With(cells::phase)),
    text("Volume", Path(&["spec", "volumeName"])),
    text("Capacity", With(cells::claim_capacity)),
    text("Access Modes", With(cells::claim_modes)),
    text("StorageClass", With(cells::class)),
    text("VolumeAttributesClass", With(cells::attributes_class)),
    AGE,
    wide("VolumeMode", With(cells::volume_mode)),
];
pub(crate) const CLASS: &[Column] = &[
    Column { cell: With(cells::class_name), ..NAME },
    text("Provisioner", Path(&["provisioner"])),
    text("ReclaimPolicy", Path(&["reclaimPolicy"])),
    text("VolumeBindingMode", Path(&["volumeBindingMode"])),
    text("AllowVolumeExpansion", With(cells::class_expands)),
    AGE,
];
pub(crate) const ATTRIBUTES_CLASS: &[Column] = &[NAME, text("DriverName", Path(&["driverName"])), AGE];
pub(crate) const ATTACHMENT: &[Column] = &[
    NAME,
    Column { format: "name", ..text("Attacher", Path(&["spec", "attacher"])) },
    text("PV", Path(&["spec", "source", "persistentVolumeName"])),
    text("Node", Path(&["spec", "nodeName"])),
    boolean("Attached", Path(&["status", "attached"])),
    AGE,
];
pub(crate) const DRIVER: &[Column] = &[
    NAME,
    boolean("AttachRequired", With(cells::driver_attaches)),
    boolean("PodInfoOnMount", Path(&["spec", "podInfoOnMount"])),
    boolean("StorageCapacity", Path(&["spec", "storageCapacity"])),
    text("TokenRequests", With(cells::driver_tokens)),
    boolean("RequiresRepublish", Path(&["spec", "requiresRepublish"])),
    text("Modes", With(cells::driver_modes)),
    AGE,
];
pub(crate) const CSI_NODE: &[Column] = &[NAME, number("Drivers", Count(&["spec", "drivers"])), AGE];
pub(crate) const CAPACITY: &[Column] =
    &[NAME, text("StorageClassName", Path(&["storageClassName"])), text("Capacity", With(cells::capacity))];
