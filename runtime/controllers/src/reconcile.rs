//! The loop that all controllers share: take a key, reconcile it, and try again later if that failed.

use std::fmt::Display;
use std::future::Future;
use std::hash::Hash;
use std::time::Duration;

use kiln_client::{BoxFuture, Change, ClientError, ObjectRef, WorkQueue};
use kiln_pki::PkiError;
use tokio_util::sync::CancellationToken;

/// When to look at a key again, if nothing changes before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Not until it changes.
    Settled,
    /// After this long.
    After(Duration),
}

/// Why a key could not be reconciled now. It is tried again, later each time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A request failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A certificate could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// Something else must happen first.
    #[error("{0}")]
    Waiting(String),
    /// The mirror does not show yet what was written last.
    #[error("the mirror is out of date")]
    Stale,
}

/// An object as plain JSON.
pub(crate) fn to_value(object: &impl serde::Serialize) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(object).map_err(|error| Failure::Waiting(format!("an object that is no JSON: {error}")))
}

/// Whether a create failed since the namespace is being deleted.
pub(crate) fn is_namespace_going(error: &ClientError) -> bool {
    let causes = error.status().and_then(|status| status.details.as_ref()).map(|details| &details.causes);
    causes.into_iter().flatten().any(|cause| cause.reason == "NamespaceTerminating")
}

/// Puts the key of each object that comes, changes or goes into a queue.
pub(crate) fn keys_to<T>(queue: &WorkQueue<ObjectRef>) -> impl FnMut(&Change<T>) + Send + use<T> {
    let queue = queue.clone();
    move |change| {
        if let Some(key) = change.key() {
            queue.add(key.clone());
        }
    }
}

/// A controller's answer to a key.
type Reconcile<'a, K> = dyn Fn(K) -> BoxFuture<'a, Result<Next, Failure>> + Send + Sync + 'a;

/// Reconciles keys one after the other until the shutdown.
pub(crate) async fn work<'a, K, F, R>(
    name: &'a str,
    queue: &'a WorkQueue<K>,
    shutdown: &'a CancellationToken,
    reconcile: F,
) where
    K: Clone + Display + Eq + Hash + Send + Sync,
    F: Fn(K) -> R + Send + Sync + 'a,
    R: Future<Output = Result<Next, Failure>> + Send + 'a,
{
    let boxed: BoxFuture<'a, ()> =
        Box::pin(work_through(name, queue, shutdown, Box::new(move |key| Box::pin(reconcile(key)))));
    boxed.await;
}

/// The loop itself: the same code for all controllers with keys of one type.
async fn work_through<K>(
    name: &str,
    queue: &WorkQueue<K>,
    shutdown: &CancellationToken,
    reconcile: Box<Reconcile<'_, K>>,
) where
    K: Clone + Display + Eq + Hash + Send + Sync,
{
    loop {
        let item = tokio::select! {
            () = shutdown.cancelled() => return,
            item = queue.next() => match item {
                Some(item) => item,
                None => return,
            },
        };
        // One that waits for a mirror to fill would wait for ever: the mirrors end as well. A write under way is carried out all
        // the same, and what is left undone is found at the next start.
        let done = tokio::select! {
            () = shutdown.cancelled() => return,
            done = reconcile(item.clone()) => done,
        };
        match done {
            Ok(next) => {
                queue.forget(&item);
                if let Next::After(wait) = next {
                    queue.add_after(item.clone(), wait);
                }
            }
            Err(failure) => {
                match &failure {
                    // The mirror is behind the server: the next look will see what it saw.
                    Failure::Client(error) if error.is_conflict() => tracing::debug!(key = %*item, %failure, "{name}"),
                    Failure::Stale => tracing::debug!(key = %*item, "{name}: {failure}"),
                    Failure::Waiting(_) => tracing::info!(key = %*item, %failure, "{name}"),
                    _ => tracing::warn!(key = %*item, %failure, "{name}: will try again"),
                }
                queue.add_failed(item.clone());
            }
        }
    }
}
