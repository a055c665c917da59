//! What a mirror holds: written by its informer alone, read by anyone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use kiln_apimachinery::meta;
use serde_json::Value;
use tokio::sync::watch;

use super::mirror::AnyChange;
use super::object::{Held, Object, Placed, borrowed, concrete};

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
    mirrored: Arc<Mirrored>,
    item: PhantomData<fn() -> T>,
}

/// What is mirrored: the part of a store that is the same for objects of every type.
pub(super) struct Mirrored {
    contents: RwLock<Contents>,
    synced: watch::Sender<bool>,
    revision: watch::Sender<u64>,
}

#[derive(Default)]
struct Contents {
    objects: BTreeMap<ObjectRef, Held>,
    indices: Vec<Index>,
}

/// The keys under which an index has an object.
type Keys = Box<dyn Fn(&Held) -> Vec<String> + Send + Sync>;

/// Finds objects by something else than their names.
struct Index {
    name: &'static str,
    keys: Keys,
    entries: HashMap<String, BTreeSet<ObjectRef>>,
}

impl<T> Clone for Store<T> {
    fn clone(&self) -> Self {
        Self { mirrored: self.mirrored.clone(), item: PhantomData }
    }
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        let mirrored = Mirrored {
            contents: RwLock::default(),
            synced: watch::Sender::new(false),
            revision: watch::Sender::new(0),
        };
        Self { mirrored: Arc::new(mirrored), item: PhantomData }
    }
}

impl<T> Store<T> {
    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.mirrored.read().objects.len()
    }

    /// Whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the collection has been listed.
    pub fn is_synced(&self) -> bool {
        *self.mirrored.synced.borrow()
    }

    /// Waits until the collection has been listed for the first time.
    pub async fn synced(&self) {
        self.mirrored.synced().await;
    }

    /// The newest revision that the mirror has seen: what was written at it or before shows in the store. Revisions are numbers
    /// that grow (KEP-5504); a server whose revisions are something else shows as 0.
    pub fn revision(&self) -> u64 {
        *self.mirrored.revision.borrow()
    }

    /// Waits until the mirror has seen a revision.
    pub async fn reaches(&self, revision: u64) {
        self.mirrored.reaches(revision).await;
    }

    pub(super) fn mirrored(&self) -> Arc<Mirrored> {
        self.mirrored.clone()
    }
}

impl<T: Object> Store<T> {
    /// One object as it was last seen.
    pub fn get(&self, key: &ObjectRef) -> Option<Arc<T>> {
        self.mirrored.get(key).map(concrete)
    }

    /// All objects, in the order of their namespaces and names.
    pub fn list(&self) -> Vec<Arc<T>> {
        typed(self.mirrored.list())
    }

    /// The objects of one namespace, in the order of their names.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<T>> {
        typed(self.mirrored.in_namespace(namespace))
    }

    /// The objects that an index has under a key, in the order of their namespaces and names.
    ///
    /// # Panics
    /// If the mirror was made without that index.
    pub fn by_index(&self, name: &str, key: &str) -> Vec<Arc<T>> {
        typed(self.mirrored.by_index(name, key))
    }

    pub(super) fn add_index(&self, name: &'static str, keys: fn(&T) -> Vec<String>) {
        self.mirrored.add_index(name, Box::new(move |held| keys(borrowed(held))));
    }
}

fn typed<T: Object>(held: Vec<Held>) -> Vec<Arc<T>> {
    held.into_iter().map(concrete).collect()
}

impl Mirrored {
    /// No code panics while it holds the lock, so a poisoned lock still guards a whole map.
    fn read(&self) -> RwLockReadGuard<'_, Contents> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Contents> {
        self.contents.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: &ObjectRef) -> Option<Held> {
        self.read().objects.get(key).cloned()
    }

    fn list(&self) -> Vec<Held> {
        self.read().objects.values().cloned().collect()
    }

    fn in_namespace(&self, namespace: &str) -> Vec<Held> {
        let contents = self.read();
        let from = contents.objects.range(ObjectRef::namespaced(namespace, "")..);
        from.take_while(|(key, _)| key.namespace == namespace).map(|(_, object)| object.clone()).collect()
    }

    fn by_index(&self, name: &str, key: &str) -> Vec<Held> {
        let contents = self.read();
        let index = contents.indices.iter().find(|index| index.name == name);
        #[allow(clippy::expect_used, reason = "a name that is not there is a slip of the code, seen at its first use")]
        let index = index.expect("the mirror has no such index");
        let found = index.entries.get(key).into_iter().flatten();
        found.filter_map(|key| contents.objects.get(key).cloned()).collect()
    }

    async fn synced(&self) {
        // The sender lives as long as this, so the wait cannot fail.
        _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    async fn reaches(&self, revision: u64) {
        // The sender lives as long as this, so the wait cannot fail.
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

    fn add_index(&self, name: &'static str, keys: Keys) {
        let mut contents = self.write();
        if contents.indices.iter().all(|index| index.name != name) {
            contents.indices.push(Index { name, keys, entries: HashMap::new() });
        }
    }

    /// Takes in an object; nothing changes if this state of it is known.
    pub(super) fn apply(&self, (key, object): Placed) -> Option<AnyChange> {
        let mut contents = self.write();
        if contents.objects.get(&key).is_some_and(|known| is_same(known, &object)) {
            return None;
        }
        let previous = contents.insert(&key, object.clone());
        Some(AnyChange::Applied { key, object, previous })
    }

    pub(super) fn remove(&self, (key, object): Placed) -> Option<AnyChange> {
        self.write().remove(&key)?;
        Some(AnyChange::Deleted { key, object })
    }

    /// Takes in a whole collection; answers what is different from before.
    pub(super) fn replace(&self, items: Vec<Placed>) -> Vec<AnyChange> {
        let mut gone: BTreeMap<ObjectRef, Held> = self.read().objects.clone();
        let mut changes = Vec::new();
        for item in items {
            gone.remove(&item.0);
            changes.extend(self.apply(item));
        }
        let mut contents = self.write();
        for (key, object) in gone {
            contents.remove(&key);
            changes.push(AnyChange::Deleted { key, object });
        }
        changes
    }
}

impl Contents {
    fn insert(&mut self, key: &ObjectRef, object: Held) -> Option<Held> {
        let previous = self.remove(key);
        for index in &mut self.indices {
            for entry in (index.keys)(&object) {
                index.entries.entry(entry).or_default().insert(key.clone());
            }
        }
        self.objects.insert(key.clone(), object);
        previous
    }

    fn remove(&mut self, key: &ObjectRef) -> Option<Held> {
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
fn is_same(known: &Held, object: &Held) -> bool {
    let (_, revision) = object.state();
    !revision.is_empty() && known.state() == object.state()
}
