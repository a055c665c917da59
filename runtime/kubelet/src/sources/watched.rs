//! Objects of one kind, each with its own mirror.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::Resource;
use kiln_client::{Change, Client, Informer, ListParams, Object, ObjectRef, Store, path};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{SYNC, SourceError, SourceKind, Tell};

/// A kind of object that pods take from.
pub(super) trait Source: Object + Resource {
    const SOURCE: SourceKind;
    const WORD: &'static str;

    fn is_immutable(&self) -> bool;
}

pub(super) struct Watched<T>(Arc<Shared<T>>);

struct Shared<T> {
    client: Client,
    tell: Tell,
    entries: Mutex<HashMap<ObjectRef, Entry<T>>>,
}

struct Entry<T> {
    store: Store<T>,
    /// The uids of the pods that name the object.
    pods: HashSet<String>,
    _mirror: DropGuard,
}

impl<T> Clone for Watched<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Source> Watched<T> {
    pub(super) fn new(client: Client, tell: Tell) -> Self {
        Self(Arc::new(Shared { client, tell, entries: Mutex::default() }))
    }

    pub(super) fn hold(&self, uid: &str, namespace: &str, names: &BTreeSet<String>) {
        let mut entries = self.0.entries();
        entries.retain(|key, entry| {
            if key.namespace != namespace || !names.contains(&key.name) {
                entry.pods.remove(uid);
            }
            !entry.pods.is_empty()
        });
        for name in names {
            let key = ObjectRef::namespaced(namespace, name.as_str());
            let entry = entries.entry(key).or_insert_with_key(|key| self.0.mirror(key));
            entry.pods.insert(uid.to_owned());
        }
    }

    pub(super) fn release(&self, uid: &str) {
        self.0.entries().retain(|_, entry| {
            entry.pods.remove(uid);
            !entry.pods.is_empty()
        });
    }

    pub(super) async fn get(&self, namespace: &str, name: &str) -> Result<Arc<T>, SourceError> {
        let key = ObjectRef::namespaced(namespace, name);
        let missing = || SourceError::NotFound { kind: T::WORD, name: name.to_owned() };
        let store = self.0.entries().get(&key).map(|entry| entry.store.clone()).ok_or_else(missing)?;
        let synced = tokio::time::timeout(SYNC, store.synced()).await;
        synced.map_err(|_| SourceError::Timeout { kind: T::WORD })?;
        store.get(&key).ok_or_else(missing)
    }
}

impl<T: Source> Shared<T> {
    /// No code panics while it holds the lock, so a poisoned lock still guards a whole map.
    fn entries(&self) -> MutexGuard<'_, HashMap<ObjectRef, Entry<T>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mirror(self: &Arc<Self>, key: &ObjectRef) -> Entry<T> {
        let only_this = format!("metadata.name={}", key.name);
        let params = ListParams { fields: only_this, ..ListParams::default() };
        let informer = Informer::<T>::new(self.client.clone(), path::<T>(&key.namespace, ""), params);
        let store = informer.store();
        let (stop, shared) = (CancellationToken::new(), Arc::downgrade(self));
        let mirror = informer.run(stop.clone(), {
            let stop = stop.clone();
            move |change| {
                if let Change::Applied { object, .. } = change
                    && object.is_immutable()
                {
                    stop.cancel();
                }
                if let (Some(key), Some(shared)) = (change.key(), shared.upgrade()) {
                    shared.told(key);
                }
            }
        });
        tokio::spawn(mirror);
        Entry { store, pods: HashSet::new(), _mirror: stop.drop_guard() }
    }

    fn told(&self, key: &ObjectRef) {
        let pods = self.entries().get(key).map(|entry| entry.pods.clone());
        if let Some(pods) = pods {
            (self.tell)(T::SOURCE, key, &pods);
        }
    }
}
