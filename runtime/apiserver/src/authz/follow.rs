//! A copy of part of the store in another form, brought up to date at each use: what a write changed holds from the moment
//! it was answered, and nothing is read twice.

use std::sync::Arc;

use futures_util::FutureExt as _;
use kiln_apimachinery::Status;
use kiln_storage::{Event, EventKind, ListOptions, Record, Watch};
use tokio::sync::Mutex;

use crate::server::ApiServer;
use crate::verbs::errors;

/// What is made of the objects.
pub(crate) trait View: Clone + Default {
    /// What the keys of its objects begin with.
    const PREFIXES: &'static [&'static str];

    /// Takes an object in, or its new state.
    fn put(&mut self, record: &Record);

    /// Forgets an object.
    fn remove(&mut self, record: &Record);
}

/// A view and the watches that keep it.
pub(crate) struct Followed<V> {
    state: Mutex<Option<(Arc<V>, Vec<Watch>)>>,
}

impl<V> Default for Followed<V> {
    fn default() -> Self {
        Self { state: Mutex::new(None) }
    }
}

impl<V: View> Followed<V> {
    /// The view as of now, to keep for a while.
    pub(crate) async fn current(&self, server: &ApiServer) -> Result<Arc<V>, Status> {
        let mut state = self.state.lock().await;
        Self::refresh(&mut state, server).await?;
        state.as_ref().map(|(view, _)| view.clone()).ok_or_else(|| Status::internal("no view"))
    }

    /// What `ask` finds in the view as of now. Nothing is copied for it, so it must be quick.
    pub(crate) async fn with<T>(&self, server: &ApiServer, ask: impl FnOnce(&V) -> T) -> Result<T, Status> {
        let mut state = self.state.lock().await;
        Self::refresh(&mut state, server).await?;
        state.as_ref().map(|(view, _)| ask(view)).ok_or_else(|| Status::internal("no view"))
    }

    async fn refresh(state: &mut Option<(Arc<V>, Vec<Watch>)>, server: &ApiServer) -> Result<(), Status> {
        if let Some((view, watches)) = state.as_mut()
            && let Some(events) = pending(watches)
        {
            if !events.is_empty() {
                let changed = Arc::make_mut(view);
                for event in events {
                    match event.kind {
                        EventKind::Put { .. } => changed.put(&event.record),
                        EventKind::Delete => changed.remove(&event.record),
                    }
                }
            }
            return Ok(());
        }
        // The first call, or a watch fell too far behind.
        let mut view = V::default();
        let mut watches = Vec::new();
        for prefix in V::PREFIXES {
            let page = server.storage().list(prefix, ListOptions::default()).await.map_err(errors::storage)?;
            page.records.iter().for_each(|r| view.put(r));
            watches.push(server.storage().watch(prefix, page.revision).map_err(errors::storage)?);
        }
        *state = Some((Arc::new(view), watches));
        Ok(())
    }
}

/// The events that wait; `None` if a watch has ended.
fn pending(watches: &mut [Watch]) -> Option<Vec<Event>> {
    let mut events = Vec::new();
    for watch in watches {
        // Unconstrained, since a spent task budget would look like "no event".
        while let Some(event) = tokio::task::unconstrained(watch.next()).now_or_never() {
            events.push(event?);
        }
    }
    Some(events)
}
