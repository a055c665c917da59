//! Who owns what: controller references, and how a controller claims the objects that it selects.
//!
//! An object has at most one controller, named in its `ownerReferences`. A controller keeps what is its own and still selected,
//! adopts orphans that it selects, and releases what it selects no longer. Before it adopts, it asks the server whether it is
//! still there itself, since its mirror may be behind.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::{Metadata, Resource};
use kiln_client::{Client, ClientError, Informer, Object, PatchKind, Store, path};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::labels::Labels;
use crate::reconcile::Failure;

/// An object of a built-in kind, with metadata.
pub(crate) trait Owned: Object + Resource + Metadata<Ty = ObjectMeta> {}

impl<T: Object + Resource + Metadata<Ty = ObjectMeta>> Owned for T {}

/// The index of objects by their controller, see [`of_owner`].
const INDEX: &str = "controller";

/// The controller of an object.
pub(crate) fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Whether an object's controller is the object of this uid.
pub(crate) fn is_controlled_by(meta: &ObjectMeta, uid: &str) -> bool {
    controller(meta).is_some_and(|owner| owner.uid == uid)
}

/// The reference of what a controller makes to it.
pub(crate) fn reference<O: Owned>(owner: &O) -> OwnerReference {
    OwnerReference {
        api_version: O::API_VERSION.to_owned(),
        kind: O::KIND.to_owned(),
        name: name(owner).to_owned(),
        uid: owner.uid().to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// `metadata.name`.
pub(crate) fn name<T: Owned>(object: &T) -> &str {
    object.metadata().name.as_deref().unwrap_or_default()
}

/// `metadata.namespace`.
pub(crate) fn namespace<T: Owned>(object: &T) -> &str {
    object.metadata().namespace.as_deref().unwrap_or_default()
}

/// Whether an object is being deleted.
pub(crate) fn is_going<T: Owned>(object: &T) -> bool {
    object.metadata().deletion_timestamp.is_some()
}

/// Has a mirror find objects by their controller.
pub(crate) fn index<T: Owned>(informer: &mut Informer<T>) {
    informer.index(INDEX, |object| {
        let meta = object.metadata();
        vec![match controller(meta) {
            Some(owner) => owner.uid.clone(),
            None => orphans(meta.namespace.as_deref().unwrap_or_default()),
        }]
    });
}

/// Where the index has the objects of a namespace that no controller owns. No uid begins so.
fn orphans(namespace: &str) -> String {
    format!("/{namespace}")
}

/// What the controller of a uid has. The mirror must have been given the [`index`].
pub(crate) fn of_owner<T: Owned>(store: &Store<T>, uid: &str) -> Vec<Arc<T>> {
    store.by_index(INDEX, uid)
}

/// What a controller may have a claim to: its own, and the orphans of its namespace.
pub(crate) fn claimable<T: Owned, O: Owned>(store: &Store<T>, owner: &O) -> Vec<Arc<T>> {
    let mut found = of_owner(store, owner.uid());
    found.extend(store.by_index(INDEX, &orphans(namespace(owner))));
    found
}

/// Just what tells whether an object is still the same and is there to stay.
#[derive(Deserialize)]
struct Fresh {
    metadata: ObjectMeta,
}

/// Claims objects for `owner`: answers its own, having adopted and released. `selects` is told an object's labels, and the
/// object. `finalizers` are put on what is adopted and taken off what is released.
pub(crate) async fn claim<O: Owned, T: Owned>(
    client: &Client,
    owner: &O,
    objects: Vec<Arc<T>>,
    selects: impl Fn(Option<&Labels>, &T) -> bool,
    finalizers: &[&str],
) -> Result<Vec<Arc<T>>, Failure> {
    let (mut claimed, mut failure, mut may_adopt) = (Vec::new(), None, None);
    for object in objects {
        let meta = object.metadata();
        let selected = selects(meta.labels.as_ref(), &object);
        match controller(meta) {
            Some(controller) if controller.uid != owner.uid() => {}
            Some(_) if selected => claimed.push(object),
            Some(_) => {
                if !is_going(owner)
                    && let Err(error) = release(client, owner, &*object, finalizers).await
                {
                    failure.get_or_insert(Failure::Client(error));
                }
            }
            None if !selected || is_going(owner) || is_going(&*object) || namespace(&*object) != namespace(owner) => {}
            None => {
                if may_adopt.is_none() {
                    may_adopt = Some(recheck(client, owner).await);
                }
                let adopted = match &may_adopt {
                    Some(Err(why)) => Err(cannot_adopt(&*object, why)),
                    _ => adopt(client, owner, &*object, finalizers).await.map_err(Failure::Client),
                };
                match adopted {
                    Ok(true) => claimed.push(object),
                    Ok(false) => {}
                    Err(error) => _ = failure.get_or_insert(error),
                }
            }
        }
    }
    failure.map_or(Ok(claimed), Err)
}

fn cannot_adopt<T: Owned>(object: &T, why: &str) -> Failure {
    let (kind, uid) = (T::KIND, object.uid());
    Failure::Waiting(format!("can't adopt {kind} {}/{} ({uid}): {why}", namespace(object), name(object)))
}

/// Asks the server whether the owner is still there, and stays.
async fn recheck<O: Owned>(client: &Client, owner: &O) -> Result<(), String> {
    let fresh: Result<Fresh, ClientError> = client.get(&path::<O>(namespace(owner), name(owner))).await;
    let fresh = fresh.map_err(|error| format!("can't recheck DeletionTimestamp: {error}"))?.metadata;
    let place = format!("{}/{}", namespace(owner), name(owner));
    let uid = fresh.uid.unwrap_or_default();
    if uid != owner.uid() {
        let wanted = owner.uid();
        return Err(format!("original {} {place} is gone: got uid {uid}, wanted {wanted}", O::KIND));
    }
    match fresh.deletion_timestamp {
        Some(time) => Err(format!("{place} has just been deleted at {}", time.0)),
        None => Ok(()),
    }
}

/// Answers whether the object was there to be adopted.
async fn adopt<O: Owned, T: Owned>(
    client: &Client,
    owner: &O,
    object: &T,
    finalizers: &[&str],
) -> Result<bool, ClientError> {
    let mut patch = json!({"metadata": {"uid": object.uid(), "ownerReferences": [reference(owner)]}});
    if !finalizers.is_empty() {
        patch["metadata"]["finalizers"] = json!(finalizers);
    }
    let path = path::<T>(namespace(object), name(object));
    match client.patch::<IgnoredAny>(&path, PatchKind::Strategic, &patch).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes the reference to the owner off an object.
pub(crate) async fn release<O: Owned, T: Owned>(
    client: &Client,
    owner: &O,
    object: &T,
    finalizers: &[&str],
) -> Result<(), ClientError> {
    let mut patch = json!({"metadata": {
        "uid": object.uid(),
        "ownerReferences": [{"$patch": "delete", "uid": owner.uid()}],
    }});
    if !finalizers.is_empty() {
        patch["metadata"]["$deleteFromPrimitiveList/finalizers"] = Value::from(finalizers);
    }
    let path = path::<T>(namespace(object), name(object));
    match client.patch::<IgnoredAny>(&path, PatchKind::Strategic, &patch).await {
        Ok(_) => Ok(()),
        // It is gone, or is another of its name.
        Err(error) if error.is_not_found() || error.status().is_some_and(|status| status.code == 422) => Ok(()),
        Err(error) => Err(error),
    }
}
