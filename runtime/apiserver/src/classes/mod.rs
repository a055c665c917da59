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

use crate::admission::Plugin;
use crate::verbs::{Cx, errors};

/// Before a create; may change the object.
pub(crate) async fn create(cx: &Cx<'_>, object: &mut Value) -> Result<(), Status> {
    if !cx.info.subresource.is_empty() {
        return Ok(());
    }
    let protected = match (cx.resource.group.as_str(), cx.resource.plural.as_str()) {
        ("", "pods") => return pod(cx, object).await,
        ("", "persistentvolumeclaims") => {
            if cx.runs(Plugin::DefaultStorageClass) {
                default_class::storage(cx, object).await?;
            }
            protection::CLAIM
        }
        ("", "persistentvolumes") => protection::VOLUME,
        ("storage.k8s.io", "volumeattributesclasses") => protection::ATTRIBUTES,
        ("", "nodes") => {
            if cx.runs(Plugin::TaintNodesByCondition) {
                node::taint(object);
            }
            return Ok(());
        }
        ("networking.k8s.io", "ingresses") => return ingress(cx, object).await,
        _ => return Ok(()),
    };
    if cx.runs(Plugin::StorageObjectInUseProtection) {
        protection::protect(object, protected);
    }
    Ok(())
}

/// What a new pod is given.
async fn pod(cx: &Cx<'_>, pod: &mut Value) -> Result<(), Status> {
    if cx.runs(Plugin::LimitRanger) {
        limits::fill(cx, pod).await?;
    }
    if cx.runs(Plugin::Priority) {
        priority::create(cx, pod).await?;
    }
    tolerate(cx, pod);
    if cx.runs(Plugin::RuntimeClass) {
        runtime::create(cx, pod).await?;
    }
    Ok(())
}

/// The taints that a pod bears without saying so.
fn tolerate(cx: &Cx<'_>, pod: &mut Value) {
    if cx.runs(Plugin::DefaultTolerationSeconds) {
        node::tolerate(pod);
    }
    if cx.runs(Plugin::ExtendedResourceToleration) {
        extended::tolerate(pod);
    }
}

async fn ingress(cx: &Cx<'_>, ingress: &mut Value) -> Result<(), Status> {
    if cx.runs(Plugin::DefaultIngressClass) {
        default_class::ingress(cx, ingress).await?;
    }
    Ok(())
}

/// Refuses a new object that is whole and valid.
pub(crate) async fn allow_create(cx: &Cx<'_>, object: &Value) -> Result<(), Status> {
    if !cx.info.subresource.is_empty() {
        return Ok(());
    }
    match (cx.resource.group.as_str(), cx.resource.plural.as_str()) {
        ("", "pods" | "persistentvolumeclaims") if cx.runs(Plugin::LimitRanger) => limits::check(cx, object).await,
        ("scheduling.k8s.io", "priorityclasses") if cx.runs(Plugin::Priority) => {
            priority::only_default(cx, object).await
        }
        _ => Ok(()),
    }
}

/// Before an update; may change the object.
pub(crate) async fn update(cx: &Cx<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
    let part = cx.info.subresource.as_str();
    match (cx.resource.group.as_str(), cx.resource.plural.as_str(), part) {
        ("", "pods", "") => {
            if cx.runs(Plugin::Priority) {
                priority::update(new, old);
            }
            // An update that brings tolerations of its own means no less patience than a create's.
            tolerate(cx, new);
            Ok(())
        }
        ("networking.k8s.io", "ingresses", "") => ingress(cx, new).await,
        _ => Ok(()),
    }
}

/// Refuses a change that is whole and valid.
pub(crate) async fn allow_update(cx: &Cx<'_>, new: &Value, old: &Value) -> Result<(), Status> {
    let part = cx.info.subresource.as_str();
    let is_claim =
        (cx.resource.group.as_str(), cx.resource.plural.as_str(), part) == ("", "persistentvolumeclaims", "");
    if is_claim && cx.runs(Plugin::PersistentVolumeClaimResize) {
        growth::check(cx, new, old).await?;
    }
    match (cx.resource.group.as_str(), cx.resource.plural.as_str(), part) {
        ("", "pods", "resize") | ("", "persistentvolumeclaims", "")
            if cx.runs(Plugin::LimitRanger) && !meta::is_terminating(old) =>
        {
            limits::check(cx, new).await
        }
        ("scheduling.k8s.io", "priorityclasses", "") if cx.runs(Plugin::Priority) => {
            priority::only_default(cx, new).await
        }
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
