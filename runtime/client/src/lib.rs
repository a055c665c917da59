//! How every part of the cluster but the API server itself speaks to the API.
//!
//! A [`Client`] sends requests through a [`Transport`]: [`https::Https`] from another machine, or a function that calls
//! the API server in the same process. On top stand what controllers are built of: an [`Informer`] that mirrors a
//! collection and tells what changed, a [`WorkQueue`] that hands each changed key to one worker at a time, and a
//! [`Clock`] that tests can move. Objects are `serde_json::Value`s or types of the caller. Nothing here knows what an
//! object means.

mod backoff;
mod client;
mod clock;
mod decode;
mod error;
pub mod https;
mod informer;
pub mod kubeconfig;
mod login;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod transport;
mod watch;
mod workqueue;

pub use backoff::{Backoff, exponential};
pub use client::{Client, List, ListParams, PatchKind, with_query};
pub use clock::Clock;
pub use error::ClientError;
pub use informer::{Change, Informer, Informers, Object, ObjectRef, Store, collection, path, readers, typed};
pub use login::registry_login;
pub use transport::{Body, BoxError, BoxFuture, Transport, full_body, read_body};
pub use watch::{WatchEvent, WatchStream};
pub use workqueue::{Item, RateLimit, WorkQueue};
