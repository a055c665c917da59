//! What Services are given out of ranges: addresses and node ports. Each that is taken has a key of its own in the store,
//! whose creation either succeeds or finds it taken, so that two writers (or two servers on one store) can't have the
//! same one and nothing is kept in memory. What a write took is given back if the write fails.

mod families;
mod ips;
mod node_ports;
mod service;

use kiln_apimachinery::{Status, meta};
use kiln_storage::StorageError;
use serde_json::Value;

use crate::admission::Plugin;
use crate::quota;
use crate::server::ApiServer;
use crate::verbs::{Cx, errors};

/// What a write takes (addresses, ports, parts of quotas), and what it leaves once it is stored. What it took is given back if it is dropped before it is
/// finished, as when a client hangs up.
#[derive(Default)]
#[must_use = "what was taken is given back if the write fails"]
pub(crate) struct Change {
    server: Option<ApiServer>,
    taken: Vec<String>,
    freed: Vec<String>,
    /// The namespace whose quotas are counted anew if the write is stored, or if it is not.
    count: (Option<String>, Option<String>),
}

impl Change {
    /// The write is stored, and what it left is free; or it is not, and what it took is.
    pub(crate) async fn finish(mut self, stored: bool) {
        let (taken, freed) = (std::mem::take(&mut self.taken), std::mem::take(&mut self.freed));
        if let Some(server) = self.server.take() {
            free(&server, if stored { freed } else { taken }).await;
            let (after, failed) = std::mem::take(&mut self.count);
            if let Some(namespace) = if stored { after } else { failed } {
                quota::count(&server, &namespace).await;
            }
        }
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        if let (Some(server), false, Ok(runtime)) =
            (self.server.take(), taken.is_empty(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(async move { free(&server, taken).await });
        }
    }
}

/// Removes keys. A key that stays behind is taken over by whoever asks for it later, so a failure is only told.
async fn free(server: &ApiServer, keys: Vec<String>) {
    for key in keys {
        match server.storage().delete(key.clone(), None).await {
            Ok(_) | Err(StorageError::NotFound) => {}
            Err(error) => tracing::warn!(key, %error, "an allocation could not be given back"),
        }
    }
}

fn is_service(cx: &Cx<'_>) -> bool {
    cx.resource.group.is_empty() && cx.resource.plural == "services"
}

/// Before the validation of a new object: fills in what decides about the allocations.
pub(crate) async fn prepare_create(cx: &Cx<'_>, object: &mut Value) -> Result<(), Status> {
    if is_service(cx) { service::prepare(cx, object, None).await } else { Ok(()) }
}

/// The same before an update.
pub(crate) async fn prepare_update(cx: &Cx<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
    if is_service(cx) && cx.info.subresource.is_empty() { service::prepare(cx, new, Some(old)).await } else { Ok(()) }
}

/// After the validation of a new object: takes what it needs.
pub(crate) async fn create(cx: &Cx<'_>, object: &mut Value) -> Result<Change, Status> {
    let mut change = if is_service(cx) { service::allocate(cx, object, None).await? } else { Change::default() };
    of_quotas(cx, &mut change, object, None).await.map(|()| change)
}

/// The same for an update.
pub(crate) async fn update(cx: &Cx<'_>, new: &mut Value, old: &Value) -> Result<Change, Status> {
    let mut change = if is_service(cx) && cx.info.subresource.is_empty() {
        service::allocate(cx, new, Some(old)).await?
    } else {
        Change::default()
    };
    of_quotas(cx, &mut change, new, Some(old)).await.map(|()| change)
}

/// Takes the object's part of the namespace's quotas. If that fails, what was taken before goes back with the change.
async fn of_quotas(cx: &Cx<'_>, change: &mut Change, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    if !cx.runs(Plugin::ResourceQuota) {
        return Ok(());
    }
    let taken = match quota::take(cx, new, old).await {
        Ok(taken) => taken,
        Err(status) => {
            std::mem::take(change).finish(false).await;
            return Err(status);
        }
    };
    let namespace = || Some(cx.namespace().to_owned());
    let after = if quota::concerns(cx, new, old) { namespace() } else { None };
    if !cx.dry_run && (taken || after.is_some()) {
        change.server = Some(cx.server.clone());
        change.count = (after, if taken { namespace() } else { None });
    }
    Ok(())
}

/// After an object has gone: what it had is free.
pub(crate) async fn gone(cx: &Cx<'_>, object: &Value) {
    if is_service(cx) {
        free(cx.server, service::all(object)).await;
    }
    if cx.resource.namespaced {
        quota::count(cx.server, meta::namespace(object)).await;
    }
}

/// The key if it is there, with its value.
async fn read(server: &ApiServer, key: &str) -> Result<Option<(Value, i64)>, Status> {
    let record = server.storage().get(key).await.map_err(errors::storage)?;
    Ok(record.map(|r| (serde_json::from_slice(&r.value).unwrap_or_default(), r.mod_revision)))
}

/// At the start: every stored Service has the keys of what it holds.
pub(crate) async fn start(server: &ApiServer) -> Result<(), Status> {
    service::adopt_all(server).await
}
