//! The Gateway API (gateway.networking.k8s.io/v1) as what it means: which HTTPRoute is attached to which listener of which Gateway, where
//! its rules lead, and what is wrong with any of it.
//!
//! Two parts of the cluster ask the same questions. Every node serves what is attached, and one controller tells it in the objects'
//! statuses; here both get the same answer from the same mirrors. In come GatewayClass, Gateway, HTTPRoute and ReferenceGrant objects by
//! [`Mirrors`], which are there once the user has installed the API's definitions and go when these go; out comes [`resolve`]'s
//! [`Resolved`]. Nothing is written here, and no request is seen.
//!
//! All Gateways of Kiln's classes are served at the same addresses, those of the nodes, so they are merged: of two listeners for one port
//! and hostname both lead to the routes of both.

mod hostname;
mod mirrors;
pub mod objects;
mod resolve;
mod secrets;

pub use hostname::intersection;
pub use mirrors::{Mirrors, Stores};
pub use objects::{
    BackendRef, Cors, Filter, Fraction, Gateway, GatewayClass, HeaderModifier, HttpRoute, Listener, Match, Meta,
    Mirror, NameValue, NamespaceView, ParentRef, PathMatch, PathModifier, Redirect, ReferenceGrant, Retry, Rule,
    Timeouts, UrlRewrite,
};
pub use resolve::{
    Attached, Condition, GatewayOutcome, ListenerOutcome, ParentOutcome, Resolved, RouteOutcome, Target, World,
    backend, resolve,
};
pub use secrets::Secrets;

/// The API's group.
pub const GROUP: &str = "gateway.networking.k8s.io";
/// The controller's name in GatewayClasses.
pub const CONTROLLER: &str = "kiln.dev/gateway";
/// The class that is made where the API is installed.
pub const CLASS: &str = "kiln";
