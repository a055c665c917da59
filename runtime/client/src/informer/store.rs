//! What a mirror holds: written by its informer alone, read by anyone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use kiln_apimachinery::meta;
use serde_json::Value;
use tokio::sync::watch;

use super::{Change, Object};

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
pub struct Store<T = Value> {
    contents: Arc<RwLock<Contents<T>>>,
    synced: Arc<watch::Sender<bool>>,
    revision: Arc<watch::Sender<u64>>,
}

struct Contents<T> {
    objects: BTreeMap<ObjectRef, Arc<T>>,
    indices: Vec<Index<T>>,
}

/// Finds objects by something else than their names.
struct Index<T> {
    name: &'static str,
    keys: fn(&T) -> Vec<String>,
    entries: HashMap<String, BTreeSet<ObjectRef>>,
}

impl<T> Clone for Store<T> {
    fn clone(&self) -> Self {
        Self { contents: self.contents.clone(), synced: self.synced.clone(), revision: self.revision.clone() }
    }
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        let contents = Contents { objects: BTreeMap::new(), indices: Vec::new() };
        Self {
            contents: Arc::new(RwLock::new(contents)),
            synced: Arc::new(watch::Sender::new(false)),
            revision: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl<T> Store<T> {
    /// No code panics while it holds the lock, so a poisoned lock still guards a whole map.
    fn read(&self) -> RwLockReadGuard<'_, Contents<T>> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Contents<T>> {
        self.contents.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// One object as it was last seen.
    pub fn get(&self, key: &ObjectRef) -> Option<Arc<T>> {
        self.read().objects.get(key).cloned()
    }

    /// All objects, in the order of their namespaces and names.
    pub fn list(&self) -> Vec<Arc<T>> {
        self.read().objects.values().cloned().collect()
    }

    /// The objects of one namespace, in the order of their names.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<T>> {
        let contents = self.read();
        let from = contents.objects.range(ObjectRef::namespaced(namespace, "")..);
        from.take_while(|(key, _)| key.namespace == namespace).map(|(_, object)| object.clone()).collect()
    }

    /// The objects that an index has under a key, in the order of their namespaces and names.
    ///
    /// # Panics
    /// If the mirror was made without that index.
    pub fn by_index(&self, name: &str, key: &str) -> Vec<Arc<T>> {
        let contents = self.read();
        let index = contents.indices.iter().find(|index| index.name == name);
        #[allow(clippy::expect_used, reason = "a name that is not there is a slip of the code, seen at its first use")]
        let index = index.expect("the mirror has no such index");
        let found = index.entries.get(key).into_iter().flatten();
        found.filter_map(|key| contents.objects.get(key).cloned()).collect()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.read().objects.len()
    }

    /// Whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the collection has been listed.
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Waits until the collection has been listed for the first time.
    pub async fn synced(&self) {
        // The sender lives as long as this store, so the wait cannot fail.
        _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// The newest revision that the mirror has seen: what was written at it or before shows in the store. Revisions are numbers
    /// that grow (KEP-5504); a server whose revisions are something else shows as 0.
    pub fn revision(&self) -> u64 {
        *self.revision.borrow()
    }

    /// Waits until the mirror has seen a revision.
    pub async fn reaches(&self, revision: u64) {
        // The sender lives as long as this store, so the wait cannot fail.
        _ = self.revision.subscribe().wait_for(|seen| *seen >= revision).await;
    }

    /// Notes that all changes up to a revision are in.
    pub(super) fn reached(&self, revision: &str) {
        let seen = revision.parse().unwrap_or(0);
        self.revision.send_if_modified(|newest| {
            let newer = seen > *newest;
            *newest = seen.max(*newest);
            newer
        });
    }

    /// Answers whether this was the first list.
    pub(super) fn set_synced(&self) -> bool {
        !self.synced.send_replace(true)
    }

    pub(super) fn add_index(&self, name: &'static str, keys: fn(&T) -> Vec<String>) {
        let mut contents = self.write();
        if contents.indices.iter().all(|index| index.name != name) {
            contents.indices.push(Index { name, keys, entries: HashMap::new() });
        }
    }
}

impl<T: Object> Store<T> {
    /// Takes in an object; nothing changes if this state of it is known.
    pub(super) fn apply(&self, mut object: T) -> Option<Change<T>> {
        let key = object.key();
        let mut contents = self.write();
        if contents.objects.get(&key).is_some_and(|known| is_same(&**known, &object)) {
            return None;
        }
        object.prune();
        let object = Arc::new(object);
        let previous = contents.insert(&key, object.clone());
        Some(Change::Applied { key, object, previous })
    }

    pub(super) fn remove(&self, mut object: T) -> Option<Change<T>> {
        let key = object.key();
        self.write().remove(&key)?;
        object.prune();
        Some(Change::Deleted { key, object: Arc::new(object) })
    }

    /// Takes in a whole collection; answers what is different from before.
    pub(super) fn replace(&self, items: Vec<T>) -> Vec<Change<T>> {
        let mut gone: BTreeMap<ObjectRef, Arc<T>> = self.read().objects.clone();
        let mut changes = Vec::new();
        for item in items {
            gone.remove(&item.key());
            changes.extend(self.apply(item));
        }
        let mut contents = self.write();
        for (key, object) in gone {
            contents.remove(&key);
            changes.push(Change::Deleted { key, object });
        }
        changes
    }
}

impl<T> Contents<T> {
    fn insert(&mut self, key: &ObjectRef, object: Arc<T>) -> Option<Arc<T>> {
        let previous = self.remove(key);
        for index in &mut self.indices {
            for entry in (index.keys)(&object) {
                index.entries.entry(entry).or_default().insert(key.clone());
            }
        }
        self.objects.insert(key.clone(), object);
        previous
    }

    fn remove(&mut self, key: &ObjectRef) -> Option<Arc<T>> {
        let object = self.objects.remove(key)?;
        for index in &mut self.indices {
            for entry in (index.keys)(&object) {
                if let Some(keys) = index.entries.get_mut(&entry) {
                    keys.remove(key);
                    if keys.is_empty() {
                        index.entries.remove(&entry);
                    }
                }
            }
        }
        Some(object)
    }
}

impl<T> fmt::Debug for Store<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("objects", &self.len()).finish_non_exhaustive()
    }
}

/// Whether two states are one: the uid too, since an object may have been deleted and made again.
fn is_same<T: Object>(known: &T, object: &T) -> bool {
    let revision = object.resource_version();
    !revision.is_empty() && known.resource_version() == revision && known.uid() == object.uid()
}
