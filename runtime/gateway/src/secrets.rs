//! Secrets that are named somewhere, each watched by itself: a node may not read others.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Secret;
use kiln_client::{Change, Client, Informer, ListParams, ObjectRef, path};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What a Secret comes to; it may not be there.
type Read<T> = Arc<dyn Fn(Option<&Secret>) -> T + Send + Sync>;

/// The Secrets that are wanted, and what each comes to. Cloning it gives another handle of the same.
#[derive(Clone)]
pub struct Secrets<T> {
    client: Client,
    read: Read<T>,
    changed: Arc<dyn Fn() + Send + Sync>,
    all: Arc<Mutex<HashMap<ObjectRef, Watched<T>>>>,
}

/// A Secret that is watched for as long as this is kept.
struct Watched<T> {
    /// None until it was looked for.
    outcome: Option<T>,
    _stop: DropGuard,
}

impl<T: Clone + Send + 'static> Secrets<T> {
    /// None yet. `changed` is told when a Secret comes to something else.
    pub fn new(
        client: Client,
        read: impl Fn(Option<&Secret>) -> T + Send + Sync + 'static,
        changed: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self { client, read: Arc::new(read), changed: Arc::new(changed), all: Arc::default() }
    }

    /// What came of a Secret; none if that is not known yet.
    pub fn get(&self, key: &ObjectRef) -> Option<T> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).get(key)?.outcome.clone()
    }

    /// Watches these and no others from now on.
    pub fn want(&self, wanted: HashSet<ObjectRef>) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|key, _| wanted.contains(key));
        for key in wanted {
            all.entry(key).or_insert_with_key(|key| self.watch(key));
        }
    }

    fn watch(&self, key: &ObjectRef) -> Watched<T> {
        let stop = CancellationToken::new();
        let params = ListParams { fields: format!("metadata.name={}", key.name), ..ListParams::default() };
        let informer = Informer::<Secret>::new(self.client.clone(), path::<Secret>(&key.namespace, ""), params);
        let (all, read, changed, key) = (self.all.clone(), self.read.clone(), self.changed.clone(), key.clone());
        let mut latest = read(None);
        let mut is_known = false;
        let tell = move |change: &Change<Secret>| {
            match change {
                Change::Applied { object, .. } => latest = read(Some(object)),
                Change::Deleted { .. } => latest = read(None),
                Change::Synced => is_known = true,
            }
            if is_known {
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(watched) = all.get_mut(&key) {
                    watched.outcome = Some(latest.clone());
                }
                drop(all);
                changed();
            }
        };
        tokio::spawn(informer.run(stop.clone(), tell));
        Watched { outcome: None, _stop: stop.drop_guard() }
    }
}

impl<T> std::fmt::Debug for Secrets<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}
