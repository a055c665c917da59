//! Keeps claims that Pods use, volumes that claims have, and classes of attributes that either has: what is deleted meanwhile
//! waits for its finalizer.

use std::future::Future;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use kiln_client::{Change, Client, Informers, Object as _, ObjectRef, PatchKind, Store, WorkQueue, path};
use serde::de::IgnoredAny;
use serde_json::json;

use super::claim_of;
use crate::Context;
use crate::owned::{Owned, is_controlled_by, is_going, name, namespace};
use crate::pods::node_name;
use crate::reconcile::{Failure, Next, work};
use crate::status_patch::unless_gone;

const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";
const ATTRIBUTES: &str = "kubernetes.io/vac-protection";

/// Adds the keeper of claims to the mirrors; what is returned runs it until the shutdown.
pub fn claims(informers: &mut Informers, context: &Context) -> impl Future<Output = ()> + use<> {
    let queue = WorkQueue::<ObjectRef>::default();
    let claims = informers.of::<PersistentVolumeClaim>();
    claims.subscribe(keep(&queue, CLAIM));
    let claims = claims.store();
    let pods = informers.of::<Pod>();
    pods.subscribe({
        let (queue, claims) = (queue.clone(), claims.clone());
        move |change| {
            let pod = match change {
                Change::Deleted { object, .. } => object,
                Change::Applied { object, .. } if is_going(&**object) => object,
                _ => return,
            };
            for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
                let key = claim_of(pod, volume).map(|claim| ObjectRef::namespaced(namespace(&**pod), claim));
                if let Some(key) = key.filter(|key| claims.get(key).is_some_and(|claim| is_going(&*claim))) {
                    queue.add(key);
                }
            }
        }
    });
    let pods = pods.store();
    let (client, shutdown) = (context.client.clone(), context.shutdown.clone());
    async move {
        work("pvc-protection", &queue, &shutdown, |key| claim(&client, &claims, &pods, key)).await;
    }
}

/// Adds the keeper of volumes to the mirrors; what is returned runs it until the shutdown.
pub fn volumes(informers: &mut Informers, context: &Context) -> impl Future<Output = ()> + use<> {
    let queue = WorkQueue::<ObjectRef>::default();
    let volumes = informers.of::<PersistentVolume>();
    volumes.subscribe(keep(&queue, VOLUME));
    let volumes = volumes.store();
    let (client, shutdown) = (context.client.clone(), context.shutdown.clone());
    async move {
        work("pv-protection", &queue, &shutdown, |key| volume(&client, &volumes, key)).await;
    }
}

/// Adds the keeper of classes of attributes to the mirrors; what is returned runs it until the shutdown.
pub fn attributes(informers: &mut Informers, context: &Context) -> impl Future<Output = ()> + use<> {
    let queue = WorkQueue::<ObjectRef>::default();
    let classes = informers.of::<VolumeAttributesClass>();
    classes.subscribe(keep(&queue, ATTRIBUTES));
    let classes = classes.store();
    let claims = informers.of::<PersistentVolumeClaim>();
    claims.subscribe(let_go(&queue, classes_of));
    let claims = claims.store();
    let volumes = informers.of::<PersistentVolume>();
    volumes.subscribe(let_go(&queue, class_of_attributes));
    let volumes = volumes.store();
    let (client, shutdown) = (context.client.clone(), context.shutdown.clone());
    async move {
        work("vac-protection", &queue, &shutdown, |key| class(&client, &classes, &claims, &volumes, key)).await;
    }
}

/// Looks at each object that needs a finalizer or is held by it.
fn keep<T: Owned>(queue: &WorkQueue<ObjectRef>, finalizer: &'static str) -> impl Fn(&Change<T>) + use<T> {
    let queue = queue.clone();
    move |change| {
        if let Change::Applied { key, object, .. } = change
            && needs_look(&**object, finalizer)
        {
            queue.add(key.clone());
        }
    }
}

/// Looks at each class that an object had and has no more.
fn let_go<T>(queue: &WorkQueue<ObjectRef>, names: fn(&T) -> Vec<&str>) -> impl Fn(&Change<T>) + use<T> {
    let queue = queue.clone();
    move |change| {
        let (before, now) = match change {
            Change::Applied { object, previous: Some(previous), .. } => (names(previous), names(object)),
            Change::Deleted { object, .. } => (names(object), Vec::new()),
            _ => return,
        };
        for name in before.into_iter().filter(|name| !now.contains(name)) {
            queue.add(ObjectRef::cluster(name));
        }
    }
}

/// The classes of attributes that a claim has, had until its volume is changed, or is to have.
fn classes_of(claim: &PersistentVolumeClaim) -> Vec<&str> {
    let wanted = claim.spec.iter().filter_map(|spec| spec.volume_attributes_class_name.as_deref());
    let status = claim.status.as_ref();
    let current = status.and_then(|status| status.current_volume_attributes_class_name.as_deref());
    let next =
        status.and_then(|status| status.modify_volume_status.as_ref()?.target_volume_attributes_class_name.as_deref());
    wanted.chain(current).chain(next).collect()
}

/// The class of attributes of a volume, if it has one.
fn class_of_attributes(volume: &PersistentVolume) -> Vec<&str> {
    volume.spec.iter().filter_map(|spec| spec.volume_attributes_class_name.as_deref()).collect()
}

fn has(object: &impl Owned, finalizer: &str) -> bool {
    object.metadata().finalizers.iter().flatten().any(|known| known == finalizer)
}

/// Whether the finalizer is there and may go, or is not and should.
fn needs_look(object: &impl Owned, finalizer: &str) -> bool {
    is_going(object) == has(object, finalizer)
}

/// Whether a Pod needs a claim: one that is on a node, and whose containers may still run.
fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let meta = &pod.metadata;
    let shut_down = meta.deletion_timestamp.is_some() && meta.deletion_grace_period_seconds == Some(0);
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let mut used = volumes.filter(|volume| claim_of(pod, volume).as_deref() == Some(name(claim)));
    !node_name(pod).is_empty()
        && used.any(|volume| volume.ephemeral.is_none() || (!shut_down && is_controlled_by(&claim.metadata, pod.uid())))
}

async fn claim(
    client: &Client,
    claims: &Store<PersistentVolumeClaim>,
    pods: &Store<Pod>,
    key: ObjectRef,
) -> Result<Next, Failure> {
    pods.synced().await;
    let Some(claim) = claims.get(&key).filter(|claim| needs_look(&**claim, CLAIM)) else { return Ok(Next::Settled) };
    if is_going(&*claim) {
        if pods.in_namespace(&key.namespace).iter().any(|pod| uses(pod, &claim)) {
            return Ok(Next::Settled);
        }
        // A Pod that the mirror does not show yet may use it.
        let fresh = client.list::<Pod>(&path::<Pod>(&key.namespace, ""), &kiln_client::ListParams::default()).await?;
        if fresh.items.iter().any(|pod| uses(pod, &claim)) {
            return Ok(Next::Settled);
        }
    }
    put_right(client, &*claim, CLAIM).await
}

async fn volume(client: &Client, volumes: &Store<PersistentVolume>, key: ObjectRef) -> Result<Next, Failure> {
    let Some(volume) = volumes.get(&key).filter(|volume| needs_look(&**volume, VOLUME)) else {
        return Ok(Next::Settled);
    };
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    if is_going(&*volume) && phase == Some("Bound") {
        return Ok(Next::Settled);
    }
    put_right(client, &*volume, VOLUME).await
}

async fn class(
    client: &Client,
    classes: &Store<VolumeAttributesClass>,
    claims: &Store<PersistentVolumeClaim>,
    volumes: &Store<PersistentVolume>,
    key: ObjectRef,
) -> Result<Next, Failure> {
    claims.synced().await;
    volumes.synced().await;
    let Some(class) = classes.get(&key).filter(|class| needs_look(&**class, ATTRIBUTES)) else {
        return Ok(Next::Settled);
    };
    let name = name(&*class);
    let is_used = || {
        claims.list().iter().any(|claim| classes_of(claim).contains(&name))
            || volumes.list().iter().any(|volume| class_of_attributes(volume).contains(&name))
    };
    if is_going(&*class) && is_used() {
        return Ok(Next::Settled);
    }
    put_right(client, &*class, ATTRIBUTES).await
}

/// Takes the finalizer off what is going, and puts it on what is not.
async fn put_right(client: &Client, object: &impl Owned, finalizer: &str) -> Result<Next, Failure> {
    let path = path_of(object);
    let patch = if is_going(object) {
        json!({"metadata": {"uid": object.uid(), "$deleteFromPrimitiveList/finalizers": [finalizer]}})
    } else {
        json!({"metadata": {"uid": object.uid(), "finalizers": [finalizer]}})
    };
    unless_gone(client.patch::<IgnoredAny>(&path, PatchKind::Strategic, &patch).await)?;
    Ok(Next::Settled)
}

fn path_of<T: Owned>(object: &T) -> String {
    path::<T>(namespace(object), name(object))
}
