//! What a mirror holds: written by its informer alone, read by anyone.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use kiln_apimachinery::meta;
use serde_json::Value;
use tokio::sync::watch;

use super::Change;

/// An object's place in its collection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Its namespace; empty if it is in none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectRef {
    /// The place of an object in no namespace.
    pub fn cluster(name: impl Into<String>) -> Self {
        Self { namespace: String::new(), name: name.into() }
    }

    /// The place of an object in a namespace.
    pub fn namespaced(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The place of this object.
    pub fn of(object: &Value) -> Self {
        Self::namespaced(meta::namespace(object), meta::name(object))
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// The objects of a mirrored collection. Cloning it is cheap and shows the same objects.
#[derive(Clone)]
pub struct Store {
    objects: Arc<RwLock<BTreeMap<ObjectRef, Arc<Value>>>>,
    synced: Arc<watch::Sender<bool>>,
}

impl Default for Store {
    fn default() -> Self {
        Self { objects: Arc::default(), synced: Arc::new(watch::Sender::new(false)) }
    }
}

impl Store {
    /// No code panics while it holds the lock, so a poisoned lock still guards a whole map.
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<ObjectRef, Arc<Value>>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<ObjectRef, Arc<Value>>> {
        self.objects.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// One object as it was last seen.
    pub fn get(&self, key: &ObjectRef) -> Option<Arc<Value>> {
        self.read().get(key).cloned()
    }

    /// All objects, in the order of their namespaces and names.
    pub fn list(&self) -> Vec<Arc<Value>> {
        self.read().values().cloned().collect()
    }

    /// Waits until the collection has been listed for the first time.
    pub async fn synced(&self) {
        // The sender lives as long as this store, so the wait cannot fail.
        _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// Answers whether this was the first list.
    pub(super) fn set_synced(&self) -> bool {
        !self.synced.send_replace(true)
    }

    /// Takes in an object; nothing changes if this state of it is known.
    pub(super) fn apply(&self, object: Value) -> Option<Change> {
        let key = ObjectRef::of(&object);
        let mut objects = self.write();
        if objects.get(&key).is_some_and(|known| is_same(known, &object)) {
            return None;
        }
        let object = Arc::new(object);
        let previous = objects.insert(key.clone(), object.clone());
        Some(Change::Applied { key, object, previous })
    }

    pub(super) fn remove(&self, object: Value) -> Option<Change> {
        let key = ObjectRef::of(&object);
        self.write().remove(&key)?;
        Some(Change::Deleted { key, object: Arc::new(object) })
    }

    /// Takes in a whole collection; answers what is different from before.
    pub(super) fn replace(&self, items: Vec<Value>) -> Vec<Change> {
        let mut gone: BTreeMap<ObjectRef, Arc<Value>> = self.read().clone();
        let mut changes = Vec::new();
        for item in items {
            gone.remove(&ObjectRef::of(&item));
            changes.extend(self.apply(item));
        }
        let mut objects = self.write();
        for (key, object) in gone {
            objects.remove(&key);
            changes.push(Change::Deleted { key, object });
        }
        changes
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("objects", &self.read().len()).finish_non_exhaustive()
    }
}

/// Whether two states are one: the uid too, since an object may have been deleted and made again.
fn is_same(known: &Value, object: &Value) -> bool {
    let revision = meta::resource_version(object);
    !revision.is_empty() && meta::resource_version(known) == revision && meta::uid(known) == meta::uid(object)
}
