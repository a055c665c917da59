//! A mirror of one collection.
//!
//! `list -> follow -> (list | follow) ...`: the collection is listed once, then watched. A watch that ends is taken up at
//! the last revision seen; one whose revision has expired leads to a new list, of which only the differences are told.

mod mirror;
mod object;
mod shared;
mod store;

use std::sync::Arc;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub use object::{Object, readers, typed};
pub use shared::{Informers, collection, path};
pub use store::{ObjectRef, Store};

use self::mirror::{AnyChange, Mirror};
use self::object::{concrete, read};
use crate::client::{Client, ListParams};

/// Something that changed in the mirrored collection. The store has changed before it is told.
#[derive(Debug, Clone)]
pub enum Change<T = Value> {
    /// An object came or changed.
    Applied {
        /// Which.
        key: ObjectRef,
        /// As it is now.
        object: Arc<T>,
        /// As it was last seen.
        previous: Option<Arc<T>>,
    },
    /// An object is gone.
    Deleted {
        /// Which.
        key: ObjectRef,
        /// As it was last seen.
        object: Arc<T>,
    },
    /// The whole collection has been told once.
    Synced,
}

impl<T> Change<T> {
    /// The object that changed; none for [`Change::Synced`].
    pub fn key(&self) -> Option<&ObjectRef> {
        match self {
            Self::Applied { key, .. } | Self::Deleted { key, .. } => Some(key),
            Self::Synced => None,
        }
    }
}

/// Is told each change of a mirror.
type Handler<T> = Box<dyn FnMut(&Change<T>) + Send>;

/// Keeps a [`Store`] like a collection on the server. One mirror can serve any number of readers: those who
/// [`Informer::subscribe`] before it runs are told of each change, in that order.
pub struct Informer<T = Value> {
    client: Client,
    path: String,
    params: ListParams,
    store: Store<T>,
    trim: fn(&mut T),
    handlers: Vec<Handler<T>>,
}

impl<T: Object> Informer<T> {
    /// A mirror, empty yet, of the collection at a path.
    pub fn new(client: Client, path: impl Into<String>, params: ListParams) -> Self {
        Self { client, path: path.into(), params, store: Store::default(), trim: |_| {}, handlers: Vec::new() }
    }

    /// The mirror's contents, for any number of readers.
    pub fn store(&self) -> Store<T> {
        self.store.clone()
    }

    /// Adds an index: [`Store::by_index`] then finds objects by the keys that `keys` gives for each. An index of that name that
    /// is there already stays.
    pub fn index(&mut self, name: &'static str, keys: fn(&T) -> Vec<String>) {
        self.store.add_index(name, keys);
    }

    /// Drops from each object, before it is held or told, what none of the mirror's readers wants.
    pub fn trim(&mut self, trim: fn(&mut T)) {
        self.trim = trim;
    }

    /// Has each change told to one more.
    pub fn subscribe(&mut self, handler: impl FnMut(&Change<T>) + Send + 'static) {
        self.handlers.push(Box::new(handler));
    }

    /// Mirrors until the shutdown, telling each change. Failures are logged and tried again without end.
    pub async fn run(self, shutdown: CancellationToken, mut tell: impl FnMut(&Change<T>) + Send) {
        let mut handlers = self.handlers;
        let mut tell = |change: AnyChange| {
            let change = Change::from(change);
            handlers.iter_mut().for_each(|handler| handler(&change));
            tell(&change);
        };
        let trim = self.trim;
        let read = Box::new(move |json: &[u8]| read::<T>(json, trim));
        let mirror = Mirror::new(self.client, self.path, self.params, self.store.mirrored(), read);
        mirror.run(&shutdown, &mut tell).await;
    }
}

impl<T: Object> From<AnyChange> for Change<T> {
    fn from(change: AnyChange) -> Self {
        match change {
            AnyChange::Applied { key, object, previous } => {
                Self::Applied { key, object: concrete(object), previous: previous.map(concrete) }
            }
            AnyChange::Deleted { key, object } => Self::Deleted { key, object: concrete(object) },
            AnyChange::Synced => Self::Synced,
        }
    }
}

impl<T> std::fmt::Debug for Informer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Informer").field("path", &self.path).field("params", &self.params).finish_non_exhaustive()
    }
}
