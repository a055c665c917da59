//! Where the API server's objects live.
//!
//! What flows in: keys of the form `/registry/<group or "core">/<resource>/<namespace>/<name>` and values that are final
//! JSON bytes. What flows out: the same bytes, each with the revision that wrote it, and events in the order of their
//! revisions. One counter numbers every write of the store, as etcd does, so a revision names a state of the whole.
//!
//! [`memory`] keeps everything in RAM. [`sqlite`] serves reads and watches from the same in-memory [`engine`] and puts
//! each write on disk before it is answered. [`etcd`] writes to an etcd that several servers share, and keeps the engine
//! in step with it. This crate knows nothing of Kubernetes objects: it never parses a value.

mod engine;
pub mod etcd;
pub mod memory;
pub mod sqlite;
#[cfg(feature = "testing")]
pub mod testing;
mod types;

pub use engine::{Retention, Watch};
pub use types::{
    BoxFuture, Clock, Counters, Event, EventKind, ListOptions, NewValue, Page, Record, Revision, Storage, StorageError,
    Volatile,
};
