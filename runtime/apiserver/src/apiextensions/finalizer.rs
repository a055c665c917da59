//! A definition that is deleted takes its objects with it: they are deleted like by a client, and once the last one is
//! gone, so is the definition.

use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use kiln_apimachinery::{Status, meta};
use kiln_storage::{ListOptions, StorageError};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::definition::{is_true, set_condition};
use super::{DEFINITIONS, GROUP};
use crate::server::{ApiServer, Inner};
use crate::user::UserInfo;
use crate::verbs::errors;
use crate::verbs::store::Stored;

/// The finalizer.
pub(crate) const NAME: &str = "customresourcecleanup.apiextensions.k8s.io";
/// How long until a failed attempt is made again.
const AGAIN: Duration = Duration::from_secs(5);

/// Marks a definition that a client deletes.
pub(crate) fn mark(definition: &mut Value, now: jiff::Timestamp) {
    let why = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    set_condition(definition, "Terminating", "True", "InstanceDeletionPending", why, now);
}

/// Cleans up in the background.
pub(super) fn start(server: Weak<Inner>, name: String, stop: CancellationToken) {
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = run(&server, &name) => {}
        }
    });
}

async fn run(server: &Weak<Inner>, name: &str) {
    loop {
        let Some(strong) = server.upgrade().map(ApiServer::of) else { return };
        match clean(&strong, name).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(status) => tracing::warn!(definition = name, error = status.message, "objects can't be deleted"),
        }
        drop(strong);
        tokio::time::sleep(AGAIN).await;
    }
}

async fn read(server: &ApiServer, name: &str) -> Result<Option<Stored>, Status> {
    let found = server.store().read(GROUP, DEFINITIONS, "", name).await?;
    Ok(found.filter(|d| meta::is_terminating(&d.object) && meta::finalizers(&d.object).contains(&NAME)))
}

/// Tells how far the deletion is.
async fn tell(server: &ApiServer, name: &str, status: &str, reason: &str, why: &str) -> Result<(), Status> {
    let Some(stored) = read(server, name).await? else { return Ok(()) };
    let mut new = stored.object.clone();
    set_condition(&mut new, "Terminating", status, reason, why, server.now());
    if new == stored.object {
        return Ok(());
    }
    match server.store().replace(GROUP, DEFINITIONS, &stored, &new).await {
        Err(status) if status.code == 409 => Ok(()),
        done => done,
    }
}

/// One attempt; true once nothing is left to do.
async fn clean(server: &ApiServer, name: &str) -> Result<bool, Status> {
    let Some(stored) = read(server, name).await? else { return Ok(true) };
    let (group, plural) =
        (meta::text(&stored.object, &["spec", "group"]), meta::text(&stored.object, &["spec", "names", "plural"]));
    let ours = !server.registry().builtin_has(group, plural);
    let mut last = ("False", "NeverEstablished", "resource was never established");
    if ours && is_true(&stored.object, "Established") {
        let why = "CustomResource deletion is in progress";
        tell(server, name, "True", "InstanceDeletionInProgress", why).await?;
        let prefix = format!("/registry/{group}/{plural}/");
        let page = server.storage().list(&prefix, ListOptions::default()).await.map_err(errors::storage)?;
        // What comes until the last one is gone is an event of the watch.
        let mut watch = server.storage().watch(&prefix, page.revision).map_err(errors::storage)?;
        let mut left = page.records.len();
        for record in page.records {
            let rest = record.key.strip_prefix(&prefix).unwrap_or_default();
            let (namespace, object) = rest.rsplit_once('/').unwrap_or(("", rest));
            delete(server, (group, plural), namespace, object).await?;
        }
        let gone = async {
            while left > 0 {
                let page = server.storage().list(&prefix, ListOptions { limit: 1, ..ListOptions::default() }).await;
                left = page.map(|p| p.records.len()).map_err(errors::storage)?;
                if left > 0 && watch.next().await.is_none() {
                    break;
                }
            }
            Ok::<_, Status>(())
        };
        if tokio::time::timeout(Duration::from_secs(60), gone).await.is_err() || left > 0 {
            let why = "could not confirm zero CustomResources remaining: timed out waiting for the condition";
            tell(server, name, "True", "InstanceDeletionCheck", why).await?;
            return Ok(false);
        }
        last = ("False", "InstanceDeletionCompleted", "removed all instances");
    } else if !ours {
        last = ("False", "OverlappingBuiltInResource", "instances overlap with built-in resources in storage");
    }
    release(server, name, last).await
}

/// Deletes one object as a client would.
async fn delete(server: &ApiServer, (group, plural): (&str, &str), namespace: &str, name: &str) -> Result<(), Status> {
    let Some(row) = server.registry().any_version(group, plural) else { return Ok(()) };
    let base = format!("/apis/{group}/{}", row.version);
    let path = match namespace {
        "" => format!("{base}/{plural}/{name}"),
        namespace => format!("{base}/namespaces/{namespace}/{plural}/{name}"),
    };
    let request = ::http::Request::delete(path).body(Bytes::new()).map_err(Status::internal)?;
    let response = Box::pin(server.call(UserInfo::system("system:apiserver"), request)).await;
    match response.status().as_u16() {
        200..=299 | 404 => Ok(()),
        code => Err(Status::internal(format!("could not issue all deletes: {name}: status {code}"))),
    }
}

/// Takes the finalizer off, and with the last one the definition goes.
async fn release(server: &ApiServer, name: &str, (status, reason, why): (&str, &str, &str)) -> Result<bool, Status> {
    let Some(stored) = read(server, name).await? else { return Ok(true) };
    let mut new = stored.object.clone();
    set_condition(&mut new, "Terminating", status, reason, why, server.now());
    let left: Vec<&str> = meta::finalizers(&stored.object).into_iter().filter(|f| *f != NAME).collect();
    let done = if left.is_empty() {
        let (key, revision) = (stored.record.key.to_string(), stored.record.mod_revision);
        match server.storage().delete(key, Some(revision)).await {
            Ok(_) => return Ok(true),
            Err(StorageError::Conflict { .. }) => return Ok(false),
            Err(error) => Err(errors::storage(error)),
        }
    } else {
        meta::metadata_mut(&mut new).insert("finalizers".into(), left.into());
        server.store().replace(GROUP, DEFINITIONS, &stored, &new).await
    };
    match done {
        Err(status) if status.code == 409 => Ok(false),
        done => done.map(|()| true),
    }
}
