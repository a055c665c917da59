//! The API server: Kubernetes' API over a [`kiln_storage::Storage`].
//!
//! A request flows `http` (connections, bodies, content types) -> `request_info` (what the URL means) -> `authn` (who) ->
//! `authz` (may they) -> `verbs` (get, list, watch, create, ...) which ask `admission` and a kind's strategy in `registry`
//! -> storage. What an APIService gives to another server goes to `aggregation` in place of `verbs`. Kinds are rows of a
//! table in `registry`: adding a row serves the kind. Stored bytes are final: a get or a list writes them out unparsed.
//! Controllers in the same process come in through [`ApiServer::call`], without sockets.
//!
#![doc = include_str!("conformance.md")]

mod admission;
mod aggregation;
mod allocate;
mod apiextensions;
mod audit;
mod authn;
mod authz;
mod backends;
mod basics;
mod bootstrap;
mod classes;
mod config;
mod dialer;
mod discovery;
mod flow;
mod follower;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod http;
mod metrics;
mod ownership;
mod pod_security;
mod policies;
mod quota;
mod registry;
mod request_info;
mod reviews;
mod server;
mod subresources;
mod usage;
mod user;
mod verbs;
mod warnings;
mod webhooks;

pub use admission::{Plugin, Plugins};
pub use audit::{AuditConfig, AuditError, AuditLog, PolicyError};
pub use authn::accounts::ServiceAccountConfig;
pub use authn::jwt::signer::KeyError;
pub use authn::oidc::{OidcConfig, OidcError, TrustError};
pub use config::{Clock, Config, FrontProxy, ProxyIdentity, Version, WriteMetrics};
pub use dialer::{BoxFuture, DialError, Dialer, Io, Stream, Target};
pub use http::body::{Body, BoxError};
pub use pod_security::{PodSecurityConfig, PodSecurityError};
pub use registry::{NODE_LEASE_PREFIX, volatile};
pub use server::{ApiServer, BuildError};
pub use user::UserInfo;
