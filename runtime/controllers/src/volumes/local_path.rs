//! Volumes on a node's own disk: the class `local-path`, as K3s ships it, without a program of its own in the cluster.
//!
//! A claim of a class whose provisioner is `rancher.io/local-path` waits for its first Pod; once the scheduler chose a node, a
//! volume is made for it: a `hostPath` of type `DirectoryOrCreate`, `<folder>/pvc-<uid>_<namespace>_<claim>`, that only this node
//! has. `<folder>` is the class's parameter `nodePath`, else what the cluster is configured with.
//!
//! What the node does: its kubelet makes the folder when it mounts the volume. Each volume carries the finalizer [`FINALIZER`] and
//! the label [`NODE_LABEL`] with the node's name; the kubelet watches the volumes with its own name, and of one that is being
//! deleted it removes the folder (only if that lies in its storage folder and is called as above), then takes the finalizer off.
//! For that, nodes need the verbs `list`, `watch` and `patch` on volumes. The finalizer of a volume whose node is gone from the
//! cluster is taken off here.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, ObjectReference,
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec, VolumeNodeAffinity,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kiln_client::{Change, Client, Informers, Object as _, ObjectRef, PatchKind, Store, WorkQueue, path};
use serde::de::IgnoredAny;
use serde_json::json;

use super::{PROVISIONED_BY, PROVISIONER as PROVISIONER_ANNOTATION, SELECTED_NODE, annotation, class_of};
use crate::owned::{is_going, name, namespace};
use crate::reconcile::{Failure, Next, work};
use crate::status_patch::unless_gone;
use crate::{Context, Recorder};

/// The provisioner's name, as in K3s.
pub const PROVISIONER: &str = "rancher.io/local-path";
/// Holds a volume until its node has removed the folder.
pub const FINALIZER: &str = "kiln.dev/local-path";
/// The label with the node that a volume is on.
pub const NODE_LABEL: &str = "kiln.dev/local-path-node";
/// The class's name, as in K3s.
pub const CLASS: &str = "local-path";
const HOSTNAME: &str = "kubernetes.io/hostname";
/// How long a node may be gone before its volumes are given up.
const QUARANTINE: Duration = Duration::from_secs(40);

/// Adds the controller to the mirrors; what is returned runs it until the shutdown. `folder`: where nodes keep volumes.
pub fn build(informers: &mut Informers, context: &Context, folder: String) -> impl Future<Output = ()> + use<> {
    let queue = WorkQueue::<ObjectRef>::default();
    let claims = informers.of::<PersistentVolumeClaim>();
    claims.subscribe({
        let queue = queue.clone();
        move |change| {
            if let Change::Applied { key, object, .. } = change
                && annotation(&object.metadata, PROVISIONER_ANNOTATION) == Some(PROVISIONER)
            {
                queue.add(key.clone());
            }
        }
    });
    let claims = claims.store();
    informers.of::<PersistentVolume>().subscribe({
        let queue = queue.clone();
        move |change| {
            if let Change::Applied { key, object, .. } = change
                && is_going(&**object)
                && is_held(object)
            {
                queue.add(key.clone());
            }
        }
    });
    let volumes = informers.of::<PersistentVolume>().store();
    informers.of::<Node>().subscribe({
        let (queue, volumes) = (queue.clone(), volumes.clone());
        move |change| {
            if let Change::Deleted { key, .. } = change {
                let held = volumes.list().into_iter().filter(|volume| is_held(volume) && node_of(volume) == key.name);
                held.for_each(|volume| queue.add_after(volume.key(), QUARANTINE));
            }
        }
    });
    let controller = Provisioner {
        client: context.client.clone(),
        recorder: context.events.recorder("rancher.io/local-path"),
        claims,
        volumes,
        classes: informers.of::<StorageClass>().store(),
        nodes: informers.of::<Node>().store(),
        folder,
    };
    let shutdown = context.shutdown.clone();
    async move {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = controller.ensure_class() => {}
        }
        let controller = Arc::new(controller);
        work("local-path", &queue, &shutdown, |key| controller.reconcile(key)).await;
    }
}

fn is_held(volume: &PersistentVolume) -> bool {
    volume.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

fn node_of(volume: &PersistentVolume) -> &str {
    let labels = volume.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(NODE_LABEL)).map(String::as_str).unwrap_or_default()
}

struct Provisioner {
    client: Client,
    recorder: Recorder,
    claims: Store<PersistentVolumeClaim>,
    volumes: Store<PersistentVolume>,
    classes: Store<StorageClass>,
    nodes: Store<Node>,
    folder: String,
}

impl Provisioner {
    /// Makes the class, if there has never been one: a class that was removed comes back at the next start, one that was changed
    /// stays as it is.
    async fn ensure_class(&self) {
        self.classes.synced().await;
        if self.classes.get(&ObjectRef::cluster(CLASS)).is_some() {
            return;
        }
        let class = json!({
            "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": PROVISIONER,
            "volumeBindingMode": "WaitForFirstConsumer",
            "reclaimPolicy": "Delete",
        });
        match self.client.create::<IgnoredAny>(&path::<StorageClass>("", ""), &class).await {
            Err(error) if !error.is_already_exists() => tracing::warn!(%error, "cannot make the storage class {CLASS}"),
            _ => {}
        }
    }

    async fn reconcile(&self, key: ObjectRef) -> Result<Next, Failure> {
        tokio::join!(self.claims.synced(), self.volumes.synced(), self.nodes.synced());
        if key.namespace.is_empty() {
            return self.let_go(&key).await;
        }
        let Some(claim) = self.claims.get(&key).filter(|claim| !is_going(&**claim)) else { return Ok(Next::Settled) };
        let bound = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_ref()).is_some_and(|name| !name.is_empty());
        let volume_name = format!("pvc-{}", claim.uid());
        if bound || self.volumes.get(&ObjectRef::cluster(&*volume_name)).is_some() {
            return Ok(Next::Settled);
        }
        let Some(class) = self.classes.get(&ObjectRef::cluster(class_of(&claim))) else { return Ok(Next::Settled) };
        let Some(node) = annotation(&claim.metadata, SELECTED_NODE) else {
            let message = "configuration error, no node was specified";
            self.recorder.warning(&*claim, "ProvisioningFailed", message);
            return Ok(Next::Settled);
        };
        if claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()) == Some("Block") {
            let message = "the local path provisioner does not support block volumes";
            self.recorder.warning(&*claim, "ProvisioningFailed", message);
            return Ok(Next::Settled);
        }
        let volume = self.volume(&claim, &class, volume_name, node);
        match self.client.create::<PersistentVolume>(&path::<PersistentVolume>("", ""), &volume).await {
            Err(error) if error.is_already_exists() => {}
            Err(error) => return Err(error.into()),
            Ok(made) => {
                let message = format!("Successfully provisioned volume {}", name(&made));
                self.recorder.normal(&*claim, "ProvisioningSucceeded", message);
            }
        }
        Ok(Next::Settled)
    }

    fn volume(
        &self,
        claim: &PersistentVolumeClaim,
        class: &StorageClass,
        volume: String,
        node: &str,
    ) -> PersistentVolume {
        let folder =
            class.parameters.as_ref().and_then(|parameters| parameters.get("nodePath")).unwrap_or(&self.folder);
        let folder = format!("{}/{volume}_{}_{}", folder.trim_end_matches('/'), namespace(claim), name(claim));
        let hostname = self
            .nodes
            .get(&ObjectRef::cluster(node))
            .and_then(|node| node.metadata.labels.as_ref()?.get(HOSTNAME).cloned());
        let only_there = NodeSelectorRequirement {
            key: HOSTNAME.to_owned(),
            operator: "In".to_owned(),
            values: Some(vec![hostname.unwrap_or_else(|| node.to_owned())]),
        };
        let term = NodeSelectorTerm { match_expressions: Some(vec![only_there]), match_fields: None };
        let spec = claim.spec.as_ref();
        let size = spec.and_then(|spec| spec.resources.as_ref()?.requests.as_ref()?.get("storage").cloned());
        PersistentVolume {
            metadata: ObjectMeta {
                name: Some(volume),
                annotations: Some(BTreeMap::from([
                    (PROVISIONED_BY.to_owned(), PROVISIONER.to_owned()),
                    ("local.path.provisioner/selected-node".to_owned(), node.to_owned()),
                ])),
                labels: Some(BTreeMap::from([(NODE_LABEL.to_owned(), node.to_owned())])),
                finalizers: Some(vec![FINALIZER.to_owned()]),
                ..ObjectMeta::default()
            },
            spec: Some(PersistentVolumeSpec {
                access_modes: spec.and_then(|spec| spec.access_modes.clone()),
                capacity: size.map(|size| BTreeMap::from([("storage".to_owned(), size)])),
                claim_ref: Some(ObjectReference {
                    api_version: Some(PersistentVolumeClaim::API_VERSION.to_owned()),
                    kind: Some(PersistentVolumeClaim::KIND.to_owned()),
                    name: claim.metadata.name.clone(),
                    namespace: claim.metadata.namespace.clone(),
                    uid: claim.metadata.uid.clone(),
                    resource_version: claim.metadata.resource_version.clone(),
                    field_path: None,
                }),
                host_path: Some(HostPathVolumeSource { path: folder, type_: Some("DirectoryOrCreate".to_owned()) }),
                mount_options: class.mount_options.clone(),
                node_affinity: Some(VolumeNodeAffinity {
                    required: Some(NodeSelector { node_selector_terms: vec![term] }),
                }),
                persistent_volume_reclaim_policy: class.reclaim_policy.clone(),
                storage_class_name: class.metadata.name.clone(),
                volume_mode: Some("Filesystem".to_owned()),
                ..PersistentVolumeSpec::default()
            }),
            status: None,
        }
    }

    /// Takes the finalizer off a volume whose node is gone.
    async fn let_go(&self, key: &ObjectRef) -> Result<Next, Failure> {
        let Some(volume) = self.volumes.get(key).filter(|volume| is_going(&**volume) && is_held(volume)) else {
            return Ok(Next::Settled);
        };
        let node = node_of(&volume);
        let here = self.nodes.get(&ObjectRef::cluster(node)).is_some();
        if here || self.client.find::<IgnoredAny>(&path::<Node>("", node)).await?.is_some() {
            return Ok(Next::Settled);
        }
        let patch = json!({"metadata": {"uid": volume.uid(), "$deleteFromPrimitiveList/finalizers": [FINALIZER]}});
        let path = path::<PersistentVolume>("", &key.name);
        unless_gone(self.client.patch::<IgnoredAny>(&path, PatchKind::Strategic, &patch).await)?;
        Ok(Next::Settled)
    }
}
