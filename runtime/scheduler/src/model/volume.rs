//! The volumes of a pod that bear on where it can go.

use k8s_openapi::api::core::v1;

use super::Name;

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Volume {
    /// By a claim of this name.
    Claim(Name),
    /// By a claim that is made for the pod; this is the volume's name.
    Ephemeral(Name),
    /// A CSI driver's, inline.
    Csi(Name),
    /// A disk that few can have at once.
    Disk(Disk),
}

/// A disk that several pods of one node may not share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Disk {
    /// A GCE persistent disk: its name, and whether it is only read.
    Gce(Name, bool),
    /// An AWS volume, by its id.
    Aws(Name),
    /// An iSCSI target: its name, and whether it is only read.
    Iscsi(Name, bool),
    /// A Ceph image.
    Rbd { monitors: Box<[Name]>, pool: Name, image: Name, read_only: bool },
}

impl Volume {
    pub(super) fn of(volume: &v1::Volume, mut name: impl FnMut(&str) -> Name) -> Option<Self> {
        if let Some(claim) = &volume.persistent_volume_claim {
            return Some(Self::Claim(name(&claim.claim_name)));
        }
        if volume.ephemeral.is_some() {
            return Some(Self::Ephemeral(name(&volume.name)));
        }
        if let Some(csi) = &volume.csi {
            return Some(Self::Csi(name(&csi.driver)));
        }
        if let Some(disk) = &volume.gce_persistent_disk {
            return Some(Self::Disk(Disk::Gce(name(&disk.pd_name), disk.read_only.unwrap_or(false))));
        }
        if let Some(disk) = &volume.aws_elastic_block_store {
            return Some(Self::Disk(Disk::Aws(name(&disk.volume_id))));
        }
        if let Some(disk) = &volume.iscsi {
            return Some(Self::Disk(Disk::Iscsi(name(&disk.iqn), disk.read_only.unwrap_or(false))));
        }
        let disk = volume.rbd.as_ref()?;
        Some(Self::Disk(Disk::Rbd {
            monitors: disk.monitors.iter().map(|monitor| name(monitor)).collect(),
            pool: name(disk.pool.as_deref().unwrap_or("rbd")),
            image: name(&disk.image),
            read_only: disk.read_only.unwrap_or(false),
        }))
    }
}

impl Disk {
    /// Whether the two can't be on one node.
    pub(crate) fn conflicts(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Gce(a, a_reads), Self::Gce(b, b_reads)) | (Self::Iscsi(a, a_reads), Self::Iscsi(b, b_reads)) => {
                a == b && !(*a_reads && *b_reads)
            }
            (Self::Aws(a), Self::Aws(b)) => a == b,
            (
                Self::Rbd { monitors, pool, image, read_only },
                Self::Rbd { monitors: others, pool: other_pool, image: other_image, read_only: other_reads },
            ) => {
                monitors.iter().any(|monitor| others.contains(monitor))
                    && pool == other_pool
                    && image == other_image
                    && !(*read_only && *other_reads)
            }
            _ => false,
        }
    }
}
