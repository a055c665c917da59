//! What is asked of a driver for one volume.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::csi::client::{self, CsiError};
use crate::csi::messages::{
    AccessMode, AccessType, Capability, Empty, Mode, MountVolume, NodePublishVolumeRequest, NodeStageVolumeRequest,
    NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest, VolumeCapability,
};

pub(super) type Texts = HashMap<String, String>;

/// A driver and what it can do.
pub(super) struct Driver {
    pub(super) socket: PathBuf,
    pub(super) can: HashSet<Capability>,
}

/// One volume, as its driver is told of it.
pub(super) struct Asked<'a> {
    pub(super) handle: &'a str,
    /// By the volume's access modes, of which the first counts.
    pub(super) access: &'a str,
    pub(super) is_block: bool,
    pub(super) fs_type: &'a str,
    pub(super) options: &'a [String],
    /// The pod's group, if there is one.
    pub(super) group: Option<u32>,
    /// What the attacher said.
    pub(super) context: &'a Texts,
}

/// What is asked for a pod, beside the volume.
pub(super) struct ForPod<'a> {
    pub(super) staging: Option<&'a Path>,
    pub(super) target: &'a Path,
    pub(super) read_only: bool,
    pub(super) attributes: Texts,
    pub(super) secrets: Texts,
}

impl Driver {
    pub(super) async fn at(socket: PathBuf) -> Result<Self, CsiError> {
        let can = client::capabilities(&socket).await?;
        Ok(Self { socket, can })
    }

    pub(super) fn can(&self, capability: Capability) -> bool {
        self.can.contains(&capability)
    }

    pub(super) fn capability(&self, volume: &Asked<'_>) -> VolumeCapability {
        let several = self.can(Capability::SingleNodeMultiWriter);
        let access = if volume.is_block {
            AccessType::Block(Empty {})
        } else {
            let group = volume.group.filter(|_| self.can(Capability::VolumeMountGroup));
            AccessType::Mount(MountVolume {
                fs_type: volume.fs_type.to_owned(),
                mount_flags: volume.options.to_vec(),
                volume_mount_group: group.map(|group| group.to_string()).unwrap_or_default(),
            })
        };
        let mode = AccessMode { mode: mode(volume.access, several) as i32 };
        VolumeCapability { access_type: Some(access), access_mode: Some(mode) }
    }

    pub(super) async fn stage(
        &self,
        volume: &Asked<'_>,
        path: &Path,
        attributes: Texts,
        secrets: Texts,
    ) -> Result<(), CsiError> {
        let request = NodeStageVolumeRequest {
            volume_id: volume.handle.to_owned(),
            publish_context: volume.context.clone(),
            staging_target_path: text(path),
            volume_capability: Some(self.capability(volume)),
            secrets,
            volume_context: attributes,
        };
        client::node::<_, Empty>(&self.socket, "NodeStageVolume", &request).await.map(drop)
    }

    pub(super) async fn publish(&self, volume: &Asked<'_>, pod: ForPod<'_>) -> Result<(), CsiError> {
        let request = NodePublishVolumeRequest {
            volume_id: volume.handle.to_owned(),
            publish_context: volume.context.clone(),
            staging_target_path: pod.staging.map(text).unwrap_or_default(),
            target_path: text(pod.target),
            volume_capability: Some(self.capability(volume)),
            readonly: pod.read_only,
            secrets: pod.secrets,
            volume_context: pod.attributes,
        };
        client::node::<_, Empty>(&self.socket, "NodePublishVolume", &request).await.map(drop)
    }
}

pub(super) async fn unpublish(socket: &Path, handle: &str, target: &Path) -> Result<(), CsiError> {
    let request = NodeUnpublishVolumeRequest { volume_id: handle.to_owned(), target_path: text(target) };
    client::node::<_, Empty>(socket, "NodeUnpublishVolume", &request).await.map(drop)
}

pub(super) async fn unstage(socket: &Path, handle: &str, path: &Path) -> Result<(), CsiError> {
    let request = NodeUnstageVolumeRequest { volume_id: handle.to_owned(), staging_target_path: text(path) };
    client::node::<_, Empty>(socket, "NodeUnstageVolume", &request).await.map(drop)
}

pub(super) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// CSI's word for an access mode. Some drivers know that several of one node may write.
fn mode(access: &str, several: bool) -> Mode {
    match (access, several) {
        ("ReadWriteOnce", true) => Mode::SingleNodeMultiWriter,
        ("ReadWriteOncePod", true) => Mode::SingleNodeSingleWriter,
        ("ReadWriteOnce" | "ReadWriteOncePod", false) => Mode::SingleNodeWriter,
        ("ReadOnlyMany", _) => Mode::MultiNodeReaderOnly,
        ("ReadWriteMany", _) => Mode::MultiNodeMultiWriter,
        _ => Mode::Unknown,
    }
}
