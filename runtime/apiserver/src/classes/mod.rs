//! What an object is given by others that stand for many: the default classes of storage and ingress, priorities and
//! runtimes of pods, the limits of a namespace, the growth that a class allows, what keeps claims and volumes that are in
//! use, and what new nodes and pods have until the cluster knows them.

mod default_class;
mod extended;
mod growth;
mod limits;
mod node;
mod priority;
mod protection;
mod runtime;

pub(crate) use limits::total;

use kiln_apimachinery::{Status, meta};
use kiln_storage::ListOptions;
use serde_json::Value;

use crate::verbs::{Cx, errors};

/// Before a create; may change the object.
pub(crate) async fn create(cx: &Cx<'_>, object: &mut Value) -> Result<(), Status> {
    if !cx.info.subresource.is_empty() {
        return Ok(());
    }
    match (cx.resource.group.as_str(), cx.resource.plural.as_str()) {
        ("", "pods") => {
            limits::fill(cx, object).await?;
            priority::create(cx, object).await?;
            node::tolerate(object);
            extended::tolerate(cx, object);
            runtime::create(cx, object).await
        }
        ("", "persistentvolumeclaims") => {
            default_class::storage(cx, object).await?;
            protection::protect(object, protection::CLAIM);
            Ok(())
        }
        ("", "persistentvolumes") => {
            protection::protect(object, protection::VOLUME);
            Ok(())
        }
        ("storage.k8s.io", "volumeattributesclasses") => {
            protection::protect(object, protection::ATTRIBUTES);
            Ok(())
        }
        ("", "nodes") => {
            node::taint(object);
            Ok(())
        }
        ("networking.k8s.io", "ingresses") => default_class::ingress(cx, object).await,
        _ => Ok(()),
    }
}

/// Refuses a new object that is whole and valid.
pub(crate) async fn allow_create(cx: &Cx<'_>, object: &Value) -> Result<(), Status> {
    if !cx.info.subresource.is_empty() {
        return Ok(());
    }
    match (cx.resource.group.as_str(), cx.resource.plural.as_str()) {
        ("", "pods" | "persistentvolumeclaims") => limits::check(cx, object).await,
        ("scheduling.k8s.io", "priorityclasses") => priority::only_default(cx, object).await,
        _ => Ok(()),
    }
}

/// Before an update; may change the object.
pub(crate) async fn update(cx: &Cx<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
    let part = cx.info.subresource.as_str();
    match (cx.resource.group.as_str(), cx.resource.plural.as_str(), part) {
        ("", "pods", "") => {
            priority::update(new, old);
            // An update that brings tolerations of its own means no less patience than a create's.
            node::tolerate(new);
            extended::tolerate(cx, new);
            Ok(())
        }
        ("networking.k8s.io", "ingresses", "") => default_class::ingress(cx, new).await,
        _ => Ok(()),
    }
}

/// Refuses a change that is whole and valid.
pub(crate) async fn allow_update(cx: &Cx<'_>, new: &Value, old: &Value) -> Result<(), Status> {
    let part = cx.info.subresource.as_str();
    if (cx.resource.group.as_str(), cx.resource.plural.as_str(), part) == ("", "persistentvolumeclaims", "") {
        growth::check(cx, new, old).await?;
    }
    match (cx.resource.group.as_str(), cx.resource.plural.as_str(), part) {
        ("", "pods", "resize") | ("", "persistentvolumeclaims", "") if !meta::is_terminating(old) => {
            limits::check(cx, new).await
        }
        ("scheduling.k8s.io", "priorityclasses", "") => priority::only_default(cx, new).await,
        _ => Ok(()),
    }
}

/// 403 about the object.
fn refuse(cx: &Cx<'_>, object: &Value, why: &str) -> Status {
    Status::forbidden(&cx.resource.group_resource(), meta::name(object), why)
}

/// All objects whose keys begin with a prefix.
pub(crate) async fn all(cx: &Cx<'_>, prefix: &str) -> Result<Vec<Value>, Status> {
    let page = cx.server.storage().list(prefix, ListOptions::default()).await.map_err(errors::storage)?;
    Ok(page.records.iter().filter_map(|r| serde_json::from_slice(&r.value).ok()).collect())
}
