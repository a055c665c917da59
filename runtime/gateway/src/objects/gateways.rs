//! Gateways and their classes.

use serde::Deserialize;
use serde_json::Value;

use super::{Meta, or_default};

fields! {
    /// Who serves Gateways of a class.
    pub struct GatewayClass {
        /// Its metadata.
        metadata: Meta,
        /// What is wanted.
        spec: GatewayClassSpec,
        /// What was told about it.
        status: Value,
    }

    /// The specification of a GatewayClass.
    pub struct GatewayClassSpec {
        /// The controller that serves it.
        controller_name: String,
        /// Further settings, of which none are known here.
        parameters_ref: Option<Value>,
    }

    /// Listeners that are served together.
    pub struct Gateway {
        /// Its metadata.
        metadata: Meta,
        /// What is wanted.
        spec: GatewaySpec,
        /// What was told about it.
        status: Value,
    }

    /// The specification of a Gateway.
    pub struct GatewaySpec {
        /// Its class.
        gateway_class_name: String,
        /// Where it listens.
        listeners: Vec<Listener>,
        /// Addresses that it is to have.
        addresses: Vec<Value>,
        /// Settings of what serves it.
        infrastructure: Option<Infrastructure>,
    }

    /// Settings of what serves a Gateway.
    pub struct Infrastructure {
        /// Further settings, of which none are known here.
        parameters_ref: Option<Value>,
    }

    /// A port and hostname that is listened for.
    pub struct Listener {
        /// Its name in its Gateway.
        name: String,
        /// Which hosts it is for; all if there is none.
        hostname: Option<String>,
        /// The TCP port.
        port: u16,
        /// `HTTP`, `HTTPS`, or one that is not served here.
        protocol: String,
        /// Its certificates.
        tls: Option<ListenerTls>,
        /// Which routes may be attached.
        allowed_routes: AllowedRoutes,
    }

    /// TLS of a listener.
    pub struct ListenerTls {
        /// `Terminate`, or one that is not served here.
        mode: Option<String>,
        /// Secrets with certificates.
        certificate_refs: Vec<SecretRef>,
    }

    /// Names a Secret.
    pub struct SecretRef {
        /// The group of its kind.
        group: Option<String>,
        /// Its kind.
        kind: Option<String>,
        /// Its name.
        name: String,
        /// Its namespace, if it is another.
        namespace: Option<String>,
    }

    /// Which routes may be attached to a listener.
    pub struct AllowedRoutes {
        /// From which namespaces.
        namespaces: RouteNamespaces,
        /// Of which kinds; those of the protocol if there are none.
        kinds: Vec<RouteKind>,
    }

    /// Namespaces of routes.
    pub struct RouteNamespaces {
        /// `Same`, `All`, `Selector` or `None`.
        from: Option<String>,
        /// Which, if it is `Selector`.
        selector: Option<Value>,
    }

    /// A kind of routes.
    pub struct RouteKind {
        /// Its group.
        group: Option<String>,
        /// Its name.
        kind: String,
    }
}

impl GatewayClass {
    /// Whether it is one of those that are served here.
    pub fn is_ours(&self) -> bool {
        self.spec.controller_name == crate::CONTROLLER
    }
}
