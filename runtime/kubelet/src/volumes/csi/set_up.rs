//! Setting up: attached, staged, published, given to the pod's group.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    CSIPersistentVolumeSource, PersistentVolumeSpec, Pod, Secret, SecretReference, ServiceAccountTokenProjection,
};
use k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment};
use kiln_client::path;
use serde_json::{Map, Value, json};

use super::super::claims::{self, Claimed};
use super::super::ownership::{self, Group};
use super::super::tokens::Granted;
use super::super::{Mounted, Place, VolumeError, Volumes, blocking, mounts, name, namespace, set_up::group, uid};
use super::driver::{Asked, Driver, ForPod, Texts};
use super::places::{self, Data};
use super::unique_name;
use crate::csi::client::CsiError;
use crate::csi::messages::Capability;

const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";
pub(super) const PERSISTENT: &str = "Persistent";
pub(super) const EPHEMERAL: &str = "Ephemeral";

/// What is to be done for a claim, all in one place.
struct Wanted<'a> {
    pod: &'a Arc<Pod>,
    name: &'a str,
    spec: &'a PersistentVolumeSpec,
    source: &'a CSIPersistentVolumeSource,
    object: Option<CSIDriver>,
    read_only: bool,
}

impl Wanted<'_> {
    fn is_block(&self) -> bool {
        self.spec.volume_mode.as_deref() == Some("Block")
    }

    /// Without an object, drivers are taken to attach.
    fn attaches(&self) -> bool {
        self.object.as_ref().is_none_or(|object| object.spec.attach_required != Some(false))
    }

    fn asked<'b>(&'b self, context: &'b Texts) -> Asked<'b> {
        let modes = self.spec.access_modes.as_deref().unwrap_or_default();
        Asked {
            handle: &self.source.volume_handle,
            access: modes.first().map_or("ReadWriteOnce", String::as_str),
            is_block: self.is_block(),
            fs_type: self.source.fs_type.as_deref().unwrap_or_default(),
            options: self.spec.mount_options.as_deref().unwrap_or_default(),
            group: group(self.pod).map(|group| group.id),
            context,
        }
    }

    fn failed(&self, step: &'static str, why: impl ToString) -> VolumeError {
        VolumeError::Step { step, volume: self.name.to_owned(), why: why.to_string() }
    }

    /// What fails while the volume is made ready for all pods of the node.
    fn device_failed(&self, why: impl ToString) -> VolumeError {
        self.failed(if self.is_block() { "MapVolume.SetUpDevice" } else { "MountVolume.MountDevice" }, why)
    }

    /// What fails for this pod.
    fn pod_failed(&self, why: impl ToString) -> VolumeError {
        self.failed(if self.is_block() { "MapVolume.MapPodDevice" } else { "MountVolume.SetUp" }, why)
    }
}

impl Volumes {
    /// Sets up a claim's volume. Of one that is there only what must be kept fresh is done.
    pub(in super::super) async fn set_up_csi(
        &self,
        pod: &Arc<Pod>,
        claimed: &Claimed,
        spec: &PersistentVolumeSpec,
        source: &CSIPersistentVolumeSource,
    ) -> Result<Mounted, VolumeError> {
        let object = self.csi_driver(&source.driver).await;
        let failed = |why| VolumeError::SetUp { volume: claimed.name().to_owned(), why };
        let read_only = claimed.read_only;
        let object = object.map_err(failed)?;
        let wanted = Wanted { pod, name: claimed.name(), spec, source, object, read_only };
        claims::check_affinity(spec, &(self.0.config.labels)()).map_err(|why| wanted.device_failed(why))?;
        let unique = unique_name(&source.driver, &source.volume_handle);
        let volume = self.0.csi.volume(&unique);
        let mut staged = volume.lock().await;
        let (folder, target) = self.places(&wanted);
        let is_there = Data::load(&folder).ok().flatten().is_some()
            && mounts::at(&target).map_err(|error| wanted.pod_failed(error))?.is_some();
        let republishes = republishes(wanted.object.as_ref());
        if !is_there || republishes || claimed.is_to_grow() {
            self.ready(&wanted, claimed, &unique, &mut staged, (&folder, &target), is_there && !republishes).await?;
        }
        self.check_again(uid(pod));
        let place = if wanted.is_block() { Place::Device(target) } else { Place::Path(target) };
        Ok(Mounted { place, read_only, relabel: !read_only })
    }

    fn places(&self, wanted: &Wanted<'_>) -> (PathBuf, PathBuf) {
        let (dirs, uid) = (self.dirs(), uid(wanted.pod));
        if wanted.is_block() {
            (places::device_of_pod(dirs, uid, wanted.name), places::device(dirs, uid, wanted.name))
        } else {
            let folder = places::of_pod(dirs, uid, wanted.name);
            let target = folder.join("mount");
            (folder, target)
        }
    }

    async fn ready(
        &self,
        wanted: &Wanted<'_>,
        claimed: &Claimed,
        unique: &str,
        staged: &mut bool,
        (folder, target): (&Path, &Path),
        is_there: bool,
    ) -> Result<(), VolumeError> {
        let (source, node) = (wanted.source, &self.0.config.node_name);
        let attachment = format!("csi-{}", places::hex(&format!("{}{}{node}", source.volume_handle, source.driver)));
        let attachment = if wanted.attaches() { attachment } else { String::new() };
        let data = Data {
            volume: wanted.name.to_owned(),
            volume_handle: source.volume_handle.clone(),
            driver_name: source.driver.clone(),
            node_name: node.clone(),
            volume_lifecycle_mode: PERSISTENT.to_owned(),
            attachment,
        };
        let context = self.attached(wanted, unique, &data.attachment).await?;
        let socket = self.0.config.drivers.socket(&source.driver).map_err(|why| {
            wanted.device_failed(format!(
                "kubernetes.io/csi: attacher.MountDevice failed to create newCsiDriverClient: {why}"
            ))
        })?;
        let driver = Driver::at(socket).await.map_err(|error| wanted.device_failed(error))?;
        // From here on the pod has something of the volume, whatever becomes of this.
        data.save(folder).map_err(|error| wanted.pod_failed(error))?;
        let asked = wanted.asked(&context);
        let staging = self.stage(wanted, &driver, &asked, staged).await?;
        if !is_there {
            self.publish(wanted, &driver, &asked, staging.as_deref(), target).await?;
        }
        self.grow(claimed, &driver, &asked, staging.as_deref(), target).await
    }

    /// Waits for the attacher, and answers what it said.
    async fn attached(&self, wanted: &Wanted<'_>, unique: &str, attachment: &str) -> Result<Texts, VolumeError> {
        if attachment.is_empty() {
            return Ok(Texts::new());
        }
        // It is said that the volume is in use before it is used, so that it is not detached meanwhile.
        self.0.config.in_use.send_if_modified(|names| names.insert(unique.to_owned()));
        let is_attached = {
            let node = self.0.config.node.borrow();
            let status = node.as_ref().and_then(|node| node.status.as_ref());
            let says = status.is_some_and(|status| status.volumes_in_use.iter().flatten().any(|name| name == unique));
            let mut attached = status.into_iter().flat_map(|status| status.volumes_attached.iter().flatten());
            says && attached.any(|attached| attached.name == unique)
        };
        if !is_attached {
            return Err(VolumeError::NotAttached { volume: wanted.name.to_owned() });
        }
        let found: Result<VolumeAttachment, _> = self.0.client.get(&path::<VolumeAttachment>("", attachment)).await;
        let status = found.map_err(|error| wanted.device_failed(error))?.status;
        Ok(status.and_then(|status| status.attachment_metadata).unwrap_or_default().into_iter().collect())
    }

    /// Has the volume staged, if the driver does that, and answers where.
    async fn stage(
        &self,
        wanted: &Wanted<'_>,
        driver: &Driver,
        asked: &Asked<'_>,
        staged: &mut bool,
    ) -> Result<Option<PathBuf>, VolumeError> {
        let source = wanted.source;
        let shared = places::staged(self.dirs(), &source.driver, &source.volume_handle);
        let place = match wanted.is_block() {
            true => places::staged_device(self.dirs(), wanted.name),
            false => shared.join("globalmount"),
        };
        if !driver.can(Capability::StageUnstageVolume) {
            return Ok(None);
        }
        if *staged {
            return Ok(Some(place));
        }
        let secrets = self.secret_of(source.node_stage_secret_ref.as_ref(), "NodeStageSecretRef").await;
        let secrets = secrets.map_err(|why| wanted.device_failed(why))?;
        fs::create_dir_all(&place).map_err(|error| wanted.device_failed(error))?;
        if !wanted.is_block() {
            let data = Data {
                volume_handle: source.volume_handle.clone(),
                driver_name: source.driver.clone(),
                ..Data::default()
            };
            data.save(&shared).map_err(|error| wanted.device_failed(error))?;
        }
        let attributes = source.volume_attributes.clone().unwrap_or_default().into_iter().collect();
        match driver.stage(asked, &place, attributes, secrets).await {
            Ok(()) => {
                *staged = true;
                Ok(Some(place))
            }
            Err(error) => {
                if error.is_final() && !wanted.is_block() {
                    drop_failed(&shared, &place);
                }
                Err(wanted.device_failed(error))
            }
        }
    }

    async fn publish(
        &self,
        wanted: &Wanted<'_>,
        driver: &Driver,
        asked: &Asked<'_>,
        staging: Option<&Path>,
        target: &Path,
    ) -> Result<(), VolumeError> {
        let source = wanted.source;
        let secrets = self.secret_of(source.node_publish_secret_ref.as_ref(), "NodePublishSecretRef").await;
        let secrets = secrets.map_err(|why| wanted.pod_failed(why))?;
        let attributes = source.volume_attributes.clone().unwrap_or_default().into_iter().collect();
        let mut pod = ForPod { staging, target, read_only: wanted.read_only, attributes, secrets };
        let told = self.tell_of_pod(&mut pod, wanted.pod, wanted.object.as_ref(), PERSISTENT).await;
        told.map_err(|why| wanted.pod_failed(why))?;
        publish(driver, asked, pod).await.map_err(|error| wanted.pod_failed(error))?;
        if asked.is_block || wanted.read_only || !takes_group(wanted.object.as_ref(), asked.fs_type, wanted.spec) {
            return Ok(());
        }
        give(driver, target, group(wanted.pod))
            .await
            .map_err(|why| wanted.pod_failed(format!("applyFSGroup failed for vol {}: {why}", source.volume_handle)))
    }

    pub(super) async fn csi_driver(&self, name: &str) -> Result<Option<CSIDriver>, String> {
        self.0.client.find(&path::<CSIDriver>("", name)).await.map_err(|error| error.to_string())
    }

    pub(super) async fn secret_of(&self, reference: Option<&SecretReference>, field: &str) -> Result<Texts, String> {
        let Some(reference) = reference else { return Ok(Texts::new()) };
        let (namespace, name) =
            (reference.namespace.as_deref().unwrap_or_default(), reference.name.as_deref().unwrap_or_default());
        let secret: Result<Secret, _> = self.0.client.get(&path::<Secret>(namespace, name)).await;
        let secret = secret.map_err(|error| format!("fetching {field} {namespace}/{name} failed: {error}"))?;
        let data = secret.data.unwrap_or_default().into_iter();
        Ok(data.map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned())).collect())
    }

    /// Adds what the driver wants to know of the pod.
    pub(super) async fn tell_of_pod(
        &self,
        told: &mut ForPod<'_>,
        pod: &Arc<Pod>,
        object: Option<&CSIDriver>,
        mode: &str,
    ) -> Result<(), String> {
        let Some(object) = object else { return Ok(()) };
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or_default();
        if object.spec.pod_info_on_mount == Some(true) {
            let facts = [
                ("pod.name", name(pod)),
                ("pod.namespace", namespace(pod)),
                ("pod.uid", uid(pod)),
                ("serviceAccount.name", account),
                ("ephemeral", if mode == EPHEMERAL { "true" } else { "false" }),
            ];
            told.attributes.extend(facts.map(|(key, value)| (format!("csi.storage.k8s.io/{key}"), value.to_owned())));
        }
        let requests = object.spec.token_requests.as_deref().unwrap_or_default();
        if requests.is_empty() {
            return Ok(());
        }
        let mut tokens = Map::new();
        for request in requests {
            let source = ServiceAccountTokenProjection {
                audience: Some(request.audience.clone()),
                expiration_seconds: request.expiration_seconds,
                path: String::new(),
            };
            let Granted { token, expires, .. } = self.fetch_token(pod, &source).await?;
            let expires = kiln_apimachinery::time::rfc3339(expires);
            tokens.insert(request.audience.clone(), json!({"token": token, "expirationTimestamp": expires}));
        }
        let to = match object.spec.service_account_token_in_secrets {
            Some(true) => &mut told.secrets,
            _ => &mut told.attributes,
        };
        to.insert(TOKENS.to_owned(), Value::Object(tokens).to_string());
        Ok(())
    }
}

pub(super) async fn publish(driver: &Driver, asked: &Asked<'_>, pod: ForPod<'_>) -> Result<(), CsiError> {
    let target = pod.target.to_owned();
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).map_err(|error| CsiError::Unavailable(error.to_string()))?;
    }
    let published = driver.publish(asked, pod).await;
    if published.as_ref().is_err_and(CsiError::is_final) && mounts::at(&target).is_ok_and(|mount| mount.is_none()) {
        // A folder that the driver made and did not use; never what is in one.
        _ = fs::remove_dir(&target);
    }
    published
}

/// Gives what was published to the pod's group, unless the driver has.
pub(super) async fn give(driver: &Driver, target: &Path, group: Option<Group>) -> Result<(), String> {
    let Some(group) = group.filter(|_| !driver.can(Capability::VolumeMountGroup)) else { return Ok(()) };
    let target = target.to_owned();
    blocking(move || ownership::give(&target, group, false)).await
}

fn drop_failed(folder: &Path, point: &Path) {
    if let Err(error) = places::forget(folder, point) {
        tracing::warn!(folder = %folder.display(), %error, "what was made for a volume that could not be staged is left");
    }
}

pub(super) fn republishes(object: Option<&CSIDriver>) -> bool {
    object.is_some_and(|object| object.spec.requires_republish == Some(true))
}

pub(super) fn policy(object: Option<&CSIDriver>) -> &str {
    object.and_then(|object| object.spec.fs_group_policy.as_deref()).unwrap_or("ReadWriteOnceWithFSType")
}

/// Whether the kubelet gives a volume to the pod's group.
fn takes_group(object: Option<&CSIDriver>, fs_type: &str, spec: &PersistentVolumeSpec) -> bool {
    let once = |mode: &String| mode == "ReadWriteOnce" || mode == "ReadWriteOncePod";
    match policy(object) {
        "None" => false,
        "File" => true,
        _ => !fs_type.is_empty() && spec.access_modes.iter().flatten().any(once),
    }
}
