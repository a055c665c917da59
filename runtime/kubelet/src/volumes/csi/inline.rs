//! Volumes that are a part of their pod (KEP-596): there is no claim, and nothing to attach or to stage.

use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{CSIVolumeSource, Pod, SecretReference, Volume};
use k8s_openapi::api::storage::v1::CSIDriver;

use super::super::{Mounted, Place, VolumeError, Volumes, mounts, namespace, set_up::group, uid};
use super::driver::{Asked, Driver, ForPod, Texts};
use super::places::{self, Data};
use super::set_up::{EPHEMERAL, PERSISTENT, give, policy, publish, republishes};
use super::unique_name;

impl Volumes {
    /// Sets up a volume that is a part of the pod.
    pub(in super::super) async fn set_up_inline(
        &self,
        pod: &Arc<Pod>,
        volume: &Volume,
        source: &CSIVolumeSource,
    ) -> Result<Mounted, VolumeError> {
        let failed = |why: String| VolumeError::SetUp { volume: volume.name.clone(), why };
        let handle = format!("csi-{}", places::hex(&format!("{}{}", uid(pod), volume.name)));
        let lock = self.0.csi.volume(&unique_name(&source.driver, &handle));
        let _alone = lock.lock().await;
        let folder = places::of_pod(self.dirs(), uid(pod), &volume.name);
        let target = folder.join("mount");
        let read_only = source.read_only == Some(true);
        let object = self.csi_driver(&source.driver).await.map_err(failed)?;
        let is_there = Data::load(&folder).ok().flatten().is_some()
            && mounts::at(&target).map_err(|error| failed(error.to_string()))?.is_some();
        let republishes = republishes(object.as_ref());
        if republishes {
            self.check_again(uid(pod));
        }
        if !is_there || republishes {
            self.publish_inline(pod, source, &handle, object, (&folder, &target)).await.map_err(failed)?;
        }
        Ok(Mounted { place: Place::Path(target), read_only, relabel: !read_only })
    }

    async fn publish_inline(
        &self,
        pod: &Arc<Pod>,
        source: &CSIVolumeSource,
        handle: &str,
        object: Option<CSIDriver>,
        (folder, target): (&Path, &Path),
    ) -> Result<(), String> {
        let socket = self.0.config.drivers.socket(&source.driver);
        let socket =
            socket.map_err(|why| format!("kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: {why}"))?;
        can_be_inline(&source.driver, object.as_ref()).map_err(|why| {
            format!("kubernetes.io/csi: mounter.SetupAt failed to check volume lifecycle mode: {why}")
        })?;
        let data = Data {
            volume: String::new(),
            volume_handle: handle.to_owned(),
            driver_name: source.driver.clone(),
            node_name: self.0.config.node_name.clone(),
            volume_lifecycle_mode: EPHEMERAL.to_owned(),
            attachment: String::new(),
        };
        let driver = Driver::at(socket).await.map_err(|error| error.to_string())?;
        let secret = source.node_publish_secret_ref.as_ref();
        let secret = secret.map(|secret| SecretReference {
            name: Some(secret.name.clone()),
            namespace: Some(namespace(pod).to_owned()),
        });
        let secrets = self.secret_of(secret.as_ref(), "NodePublishSecretRef").await?;
        let attributes = source.volume_attributes.clone().unwrap_or_default().into_iter().collect();
        let read_only = source.read_only == Some(true);
        let mut told = ForPod { staging: None, target, read_only, attributes, secrets };
        self.tell_of_pod(&mut told, pod, object.as_ref(), EPHEMERAL).await?;
        data.save(folder).map_err(|error| error.to_string())?;
        let context = Texts::new();
        let asked = Asked {
            handle,
            access: "ReadWriteOnce",
            is_block: false,
            fs_type: source.fs_type.as_deref().unwrap_or_default(),
            options: &[],
            group: group(pod).map(|group| group.id),
            context: &context,
        };
        publish(&driver, &asked, told).await.map_err(|error| error.to_string())?;
        let policy = policy(object.as_ref());
        if read_only || policy == "None" || (policy != "File" && asked.fs_type.is_empty()) {
            return Ok(());
        }
        give(&driver, target, group(pod)).await.map_err(|why| format!("applyFSGroup failed for vol {handle}: {why}"))
    }
}

fn can_be_inline(driver: &str, object: Option<&CSIDriver>) -> Result<(), String> {
    let Some(object) = object else {
        return Err(format!("volume mode \"Ephemeral\" not supported by driver {driver} (no CSIDriver object)"));
    };
    let modes = object.spec.volume_lifecycle_modes.clone().unwrap_or_else(|| vec![PERSISTENT.to_owned()]);
    if modes.iter().any(|mode| mode == EPHEMERAL) {
        return Ok(());
    }
    let shown = modes.iter().map(|mode| format!("{mode:?}")).collect::<Vec<_>>().join(" ");
    Err(format!("volume mode \"Ephemeral\" not supported by driver {driver} (only supports [{shown}])"))
}
