//! Objects of one kind or group, followed while the server runs: in come records by the store's watch, from the state at the start on;
//! what a [`Follower`] makes of them is its own. Unlike [`crate::authz::follow`], which looks at events once it is asked, what
//! follows here acts by itself.

use std::collections::HashSet;
use std::sync::Weak;

use kiln_apimachinery::Status;
use kiln_storage::{EventKind, ListOptions, Page, Record, StorageError, Watch};

use crate::server::{ApiServer, Inner};
use crate::verbs::errors;

/// Who follows all objects of one kind, or of several under one prefix.
pub(crate) trait Follower: Send {
    /// What their keys begin with.
    const PREFIX: &'static str;
    /// What they are, in the plural.
    const WHAT: &'static str;

    /// The names that are known.
    fn names(&self) -> Vec<String>;

    /// An object is there, or has changed.
    fn put(&mut self, server: &ApiServer, record: Record) -> impl Future<Output = ()> + Send;

    /// The object of a name is gone.
    fn gone(&mut self, server: &ApiServer, name: &str) -> impl Future<Output = ()> + Send;

    /// All that happened up to now was told.
    fn settled(&mut self, _: &ApiServer) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// What is there now, and the watch that tells of all later.
pub(crate) async fn begin<F: Follower>(server: &ApiServer) -> Result<(Page, Watch), Status> {
    let page = server.storage().list(F::PREFIX, ListOptions::default()).await.map_err(errors::storage)?;
    let watch = server.storage().watch(F::PREFIX, page.revision).map_err(errors::storage)?;
    Ok((page, watch))
}

/// Tells a follower of all that the watch tells, until the server ends.
pub(crate) async fn run<F: Follower>(server: Weak<Inner>, follower: &mut F, mut watch: Watch) {
    loop {
        while let Some(event) = watch.next().await {
            let Some(server) = server.upgrade().map(ApiServer::of) else { return };
            match event.kind {
                EventKind::Put { .. } => follower.put(&server, event.record).await,
                EventKind::Delete => follower.gone(&server, name_of::<F>(&event.record)).await,
            }
            follower.settled(&server).await;
        }
        // Too far behind: what is there now counts.
        let Some(server) = server.upgrade().map(ApiServer::of) else { return };
        let page = match server.storage().list(F::PREFIX, ListOptions::default()).await {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(%error, "{} can't be read", F::WHAT);
                return;
            }
        };
        watch = match server.storage().watch(F::PREFIX, page.revision) {
            Ok(new) => new,
            // The server ends: to try again would never stop, nor let anything else run.
            Err(StorageError::Closed) => return,
            Err(_) => continue,
        };
        let there: HashSet<&str> = page.records.iter().map(name_of::<F>).collect();
        for name in follower.names().iter().filter(|name| !there.contains(name.as_str())) {
            follower.gone(&server, name).await;
        }
        for record in page.records {
            follower.put(&server, record).await;
        }
        follower.settled(&server).await;
    }
}

/// The name of a record's object: its key below the prefix.
pub(crate) fn name_of<F: Follower>(record: &Record) -> &str {
    record.key.strip_prefix(F::PREFIX).unwrap_or_default()
}
