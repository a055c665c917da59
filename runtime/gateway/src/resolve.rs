//! What all objects together come to.

mod listeners;
mod references;
mod routes;

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_client::{Object as _, ObjectRef};

pub use references::backend;

use crate::mirrors::Stores;
use crate::objects::{Gateway, GatewayClass, HttpRoute, ParentRef, ReferenceGrant};

/// What else in the cluster the API's objects speak of.
pub trait World {
    /// Whether a Service has a port; none if there is no such Service.
    fn has_port(&self, service: &ObjectRef, port: u16) -> Option<bool>;
    /// Whether a Secret holds a certificate with its key.
    fn has_certificate(&self, secret: &ObjectRef) -> bool;
    /// Whether nodes can listen on a port for HTTP, or for HTTP over TLS.
    fn is_free(&self, port: u16, is_tls: bool) -> bool;
}

/// How something is: whether that is well, a reason in one word, and a text for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Its type.
    pub kind: &'static str,
    /// Whether it is so.
    pub is_true: bool,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
}

impl Condition {
    pub(crate) fn new(kind: &'static str, is_true: bool, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, is_true, reason, message: message.into() }
    }
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The Service.
    pub service: ObjectRef,
    /// The port.
    pub port: u16,
}

/// What all objects come to.
#[derive(Debug, Default)]
pub struct Resolved {
    /// The classes that are served here.
    pub classes: Vec<Arc<GatewayClass>>,
    /// The Gateways of these classes, the oldest first.
    pub gateways: Vec<GatewayOutcome>,
    /// The HTTPRoutes that name one of these Gateways, the oldest first.
    pub routes: Vec<RouteOutcome>,
}

/// What a Gateway comes to.
#[derive(Debug)]
pub struct GatewayOutcome {
    /// The Gateway.
    pub gateway: Arc<Gateway>,
    /// Its condition `Accepted`.
    pub accepted: Condition,
    /// Its listeners, in its order.
    pub listeners: Vec<ListenerOutcome>,
}

/// What a listener comes to.
#[derive(Debug)]
pub struct ListenerOutcome {
    /// Its name.
    pub name: String,
    /// Its port.
    pub port: u16,
    /// Whether it is for TLS.
    pub is_tls: bool,
    /// Its hostname in lower case; empty for all.
    pub hostname: String,
    /// The Secrets with its certificates, those that are of use.
    pub certificates: Vec<ObjectRef>,
    /// Whether it takes HTTPRoutes at all.
    pub takes_routes: bool,
    /// Whether it is served.
    pub is_programmed: bool,
    /// Its conditions.
    pub conditions: Vec<Condition>,
    /// How many routes are attached.
    pub attached: usize,
}

/// What an HTTPRoute comes to.
#[derive(Debug)]
pub struct RouteOutcome {
    /// The route.
    pub route: Arc<HttpRoute>,
    /// What becomes of it at each of the Gateways that it names and that are served here.
    pub parents: Vec<ParentOutcome>,
    /// Where it is attached.
    pub attached: Vec<Attached>,
}

/// That a route is attached to a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The Gateway, as its place in [`Resolved::gateways`].
    pub gateway: usize,
    /// The listener, as its place in the Gateway.
    pub listener: usize,
    /// The hosts for which it is: those of both; an empty one is all.
    pub hostnames: Vec<String>,
}

/// What becomes of a route at a Gateway.
#[derive(Debug)]
pub struct ParentOutcome {
    /// The Gateway or listener, as the route names it.
    pub parent: ParentRef,
    /// Whether it is attached there.
    pub accepted: Condition,
    /// Whether all that it refers to may be referred to and is there.
    pub resolved: Condition,
}

/// Everything at hand.
struct View<'a> {
    world: &'a dyn World,
    grants: Vec<Arc<ReferenceGrant>>,
    /// Labels of the namespaces.
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
}

/// Puts everything together.
pub fn resolve(stores: &Stores, world: &dyn World) -> Resolved {
    let mut classes = stores.classes.list();
    classes.retain(|class| class.is_ours());
    let mut gateways = stores.gateways.list();
    gateways.retain(|gateway| classes.iter().any(|class| class.metadata.name == gateway.spec.gateway_class_name));
    let age = |meta: &crate::Meta| (meta.creation_timestamp.clone(), meta.namespace.clone(), meta.name.clone());
    gateways.sort_by_cached_key(|gateway| age(&gateway.metadata));
    let mut routes = stores.routes.list();
    routes.sort_by_cached_key(|route| age(&route.metadata));
    let namespaces = stores.namespaces.list();
    let view = View {
        world,
        grants: stores.grants.list(),
        namespaces: namespaces.iter().map(|one| (one.key().name, one.metadata.labels.clone())).collect(),
    };
    let mut gateways = listeners::resolve(&view, gateways);
    let routes = routes::resolve(&view, &mut gateways, routes);
    Resolved { classes, gateways, routes }
}
