//! Setting up each kind of volume.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Volume};
use kiln_apimachinery::quantity::Quantity;

use super::atomic::Payload;
use super::claims::Claimed;
use super::dirs::Plugin;
use super::empty_dir::{self, Medium};
use super::ownership::Group;
use super::{
    Mounted, Place, VolumeError, Volumes, atomic, blocking, claims, gather, host_path, nested, ownership, uid,
};
use crate::resources::MEMORY;

impl Volumes {
    /// Sets up all of a pod's volumes, or tells of the first that fails.
    pub(super) async fn set_up(&self, pod: &Arc<Pod>) -> Result<BTreeMap<String, Mounted>, VolumeError> {
        let mut mounted = BTreeMap::new();
        let mut fault = None;
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            match self.set_up_one(pod, volume).await {
                Ok(done) => _ = mounted.insert(volume.name.clone(), done),
                // The others go on: what can be ready is ready when the last comes.
                Err(error) => fault = fault.or(Some(error)),
            }
        }
        fault.map_or(Ok(mounted), Err)
    }

    pub(super) async fn set_up_one(&self, pod: &Arc<Pod>, volume: &Volume) -> Result<Mounted, VolumeError> {
        let failed = |why: String| VolumeError::SetUp { volume: volume.name.clone(), why };
        if let Some(source) = &volume.empty_dir {
            let medium = empty_dir::medium(source, pod, self.memory()).map_err(failed)?;
            let dir = self.dirs().volume(uid(pod), Plugin::EmptyDir, &volume.name);
            let group = group(pod);
            blocking({
                let dir = dir.clone();
                move || empty_dir::set_up(&dir, &medium, group)
            })
            .await
            .map_err(failed)?;
            return Ok(writable(dir));
        }
        if let Some(source) = &volume.host_path {
            host_path::check(Path::new(&source.path), source.type_.as_deref().unwrap_or_default()).map_err(failed)?;
            return Ok(Mounted { place: Place::Path((&source.path).into()), read_only: false, relabel: false });
        }
        if let Some(source) = &volume.image {
            let place = Place::Image {
                reference: source.reference.clone().unwrap_or_default(),
                pull_policy: source.pull_policy.clone().unwrap_or_default(),
            };
            return Ok(Mounted { place, read_only: true, relabel: true });
        }
        if gather::plugin(volume).is_some() {
            return self.set_up_files(pod, volume).await;
        }
        if let Some((claim, read_only)) = claims::named(pod, volume) {
            let claimed = claims::find(&self.0.client, pod, volume, &claim, read_only).await?;
            let spec = claimed.volume.spec.as_ref();
            if let Some((spec, source)) = spec.and_then(|spec| Some((spec, spec.csi.as_ref()?))) {
                return self.set_up_csi(pod, &claimed, spec, source).await;
            }
            let failed = |why: String| VolumeError::SetUp { volume: claimed.name().to_owned(), why };
            return self.set_up_claimed(pod, &claimed).await.map_err(failed);
        }
        if let Some(source) = &volume.csi {
            return self.set_up_inline(pod, volume, source).await;
        }
        Err(failed("no volume plugin matched".to_owned()))
    }

    /// Sets up a volume of files whose contents come from the API, or brings it up to date.
    pub(super) async fn set_up_files(&self, pod: &Arc<Pod>, volume: &Volume) -> Result<Mounted, VolumeError> {
        let failed = |why: String| VolumeError::SetUp { volume: volume.name.clone(), why };
        let Some(plugin) = gather::plugin(volume) else { return Err(failed("no volume plugin matched".to_owned())) };
        let payload = self.gather(pod, volume).await.map_err(failed)?;
        // ConfigMaps lie on disk, as there is nothing secret in them; all else is gone with the power.
        let medium = match plugin {
            Plugin::ConfigMap => Medium::Disk,
            _ => Medium::Memory(empty_dir::memory_size(None, pod, self.memory())),
        };
        let dir = self.dirs().volume(uid(pod), plugin, &volume.name);
        let files = Files { pod: pod.clone(), name: volume.name.clone(), dir: dir.clone(), medium, payload };
        let now = self.0.config.clock.now();
        blocking(move || files.write(now)).await.map_err(failed)?;
        Ok(Mounted { place: Place::Path(dir), read_only: true, relabel: true })
    }

    async fn set_up_claimed(&self, pod: &Arc<Pod>, claimed: &Claimed) -> Result<Mounted, String> {
        let Some(spec) = &claimed.volume.spec else { return Err("no volume plugin matched".to_owned()) };
        claims::check_affinity(spec, &(self.0.config.labels)())?;
        let is_block = spec.volume_mode.as_deref() == Some("Block");
        if let Some(source) = &spec.host_path {
            let path = PathBuf::from(&source.path);
            if claimed.is_provisioned_here() {
                blocking({
                    let path = path.clone();
                    move || host_path::make_provisioned(&path)
                })
                .await?;
            } else {
                host_path::check(&path, source.type_.as_deref().unwrap_or_default())?;
            }
            return Ok(Mounted { place: Place::Path(path), read_only: claimed.read_only, relabel: false });
        }
        let Some(source) = &spec.local else { return Err("no volume plugin matched".to_owned()) };
        let path = PathBuf::from(&source.path);
        if is_block {
            return Ok(Mounted { place: Place::Device(path), read_only: claimed.read_only, relabel: false });
        }
        let dir = self.dirs().volume(uid(pod), Plugin::Local, claimed.name());
        let (provisioned, group) = (claimed.is_provisioned_here(), group(pod).filter(|_| !claimed.read_only));
        let to = dir.clone();
        blocking(move || {
            if provisioned {
                host_path::make_provisioned(&path)?;
            }
            claims::bind_local(&path, &to, group)
        })
        .await?;
        Ok(Mounted { place: Place::Path(dir), read_only: claimed.read_only, relabel: !claimed.read_only })
    }

    fn memory(&self) -> Quantity {
        (self.0.config.allocatable)().get(MEMORY).copied().unwrap_or(Quantity::ZERO)
    }
}

/// Files to be written.
struct Files {
    pod: Arc<Pod>,
    name: String,
    dir: PathBuf,
    medium: Medium,
    payload: Payload<'static>,
}

impl Files {
    fn write(&self, now: jiff::Timestamp) -> std::io::Result<()> {
        // The root's group is given with the files, since what is hidden from the pod needs no owner.
        empty_dir::set_up(&self.dir, &self.medium, None)?;
        nested::make_mount_points(&self.name, &self.dir, &self.pod)?;
        atomic::write(&self.dir, &self.payload, now, || match group(&self.pod) {
            Some(group) => ownership::give(&self.dir, Group { only_on_mismatch: false, ..group }, true),
            None => Ok(()),
        })
    }
}

/// The group of a pod's volumes.
pub(super) fn group(pod: &Pod) -> Option<Group> {
    let security = pod.spec.as_ref()?.security_context.as_ref()?;
    let id = u32::try_from(security.fs_group?).ok()?;
    Some(Group { id, only_on_mismatch: security.fs_group_change_policy.as_deref() == Some("OnRootMismatch") })
}

fn writable(dir: PathBuf) -> Mounted {
    Mounted { place: Place::Path(dir), read_only: false, relabel: true }
}
