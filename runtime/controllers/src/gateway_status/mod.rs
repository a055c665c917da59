//! Statuses of the Gateway API's objects: what is served, where, and what is wrong with the rest.
//!
//! The nodes serve; here is only told what comes of the objects, by the same rules ([`kiln_gateway::resolve`]). Where the API is installed
//! a class is made, once. All is looked at whenever something changes, and what is other than it was is written.

mod status;

use std::collections::{BTreeSet, HashSet};
use std::future::Future;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use k8s_openapi::api::core::v1::{Node, Secret, Service};
use kiln_client::{Change, Client, Clock, Informers, Object, ObjectRef, PatchKind, Store, WorkQueue, collection, path};
use kiln_gateway::{CLASS, CONTROLLER, Gateway, GatewayClass, HttpRoute, Mirrors, Secrets, Stores, World};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::Context;
use crate::ingress_status;
use crate::reconcile::{Failure, Next, work};

/// Everything is one piece of work.
const ALL: &str = "all";

/// The ports of nodes.
#[derive(Debug, Clone, Default)]
pub struct Ports {
    /// That of Ingresses without TLS, which Gateways share.
    pub http: u16,
    /// That of Ingresses with TLS.
    pub https: u16,
    /// Those that serve something else.
    pub reserved: BTreeSet<u16>,
}

/// Adds the controller to the mirrors; what is returned runs it until the shutdown.
pub fn build(informers: &mut Informers, context: &Context, ports: Ports) -> impl Future<Output = ()> + use<> {
    let queue = WorkQueue::<&'static str>::default();
    let all = {
        let queue = queue.clone();
        move || queue.add(ALL)
    };
    let mirrors = Mirrors::new(context.client.clone(), all.clone());
    let services = informers.of::<Service>();
    services.subscribe({
        let (all, mirrors) = (all.clone(), mirrors.clone());
        move |change| {
            if !is_same(change) && mirrors.stores().is_some() {
                all();
            }
        }
    });
    let services = services.store();
    let nodes = informers.of::<Node>();
    nodes.subscribe({
        let (all, mirrors) = (all.clone(), mirrors.clone());
        move |change| {
            if ingress_status::changes_address(change) && mirrors.stores().is_some() {
                all();
            }
        }
    });
    let controller = Controller {
        client: context.client.clone(),
        clock: context.clock.clone(),
        secrets: Secrets::new(context.client.clone(), holds_certificate, all),
        mirrors: mirrors.clone(),
        services,
        nodes: nodes.store(),
        ports,
        has_class: AtomicBool::new(false),
    };
    let shutdown = context.shutdown.clone();
    async move {
        tokio::join!(
            mirrors.run(shutdown.clone()),
            work("gateway-status", &queue, &shutdown, |_| controller.reconcile())
        );
    }
}

/// Whether a Service has the ports that it had.
fn is_same(change: &Change<Service>) -> bool {
    let ports = |service: &Service| -> Vec<i32> {
        service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()).map(|port| port.port).collect()
    };
    match change {
        Change::Applied { object, previous: Some(previous), .. } => ports(object) == ports(previous),
        _ => false,
    }
}

/// Whether a Secret holds what looks like a certificate with a key.
fn holds_certificate(secret: Option<&Secret>) -> bool {
    let part = |name: &str| {
        let data = secret.and_then(|secret| secret.data.as_ref())?.get(name)?;
        std::str::from_utf8(&data.0).ok()
    };
    part("tls.crt").is_some_and(|pem| kiln_pki::certificates_der(pem).is_ok())
        && part("tls.key").is_some_and(|pem| kiln_pki::private_key_der(pem).is_ok())
}

struct Controller {
    client: Client,
    clock: Clock,
    mirrors: Mirrors,
    secrets: Secrets<bool>,
    services: Store<Service>,
    nodes: Store<Node>,
    ports: Ports,
    /// Whether the class was seen to, since the API was installed.
    has_class: AtomicBool,
}

impl World for Controller {
    fn has_port(&self, service: &ObjectRef, port: u16) -> Option<bool> {
        let service = self.services.get(service)?;
        let mut ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        Some(ports.any(|known| known.port == i32::from(port)))
    }

    fn has_certificate(&self, secret: &ObjectRef) -> bool {
        self.secrets.get(secret) == Some(true)
    }

    fn is_free(&self, port: u16, is_tls: bool) -> bool {
        let Ports { http, https, reserved } = &self.ports;
        match port {
            port if port == *http => !is_tls,
            port if port == *https => is_tls,
            port => !reserved.contains(&port),
        }
    }
}

impl Controller {
    async fn reconcile(&self) -> Result<Next, Failure> {
        tokio::join!(self.services.synced(), self.nodes.synced());
        let Some(stores) = self.mirrors.stores() else {
            self.has_class.store(false, Ordering::Relaxed);
            return Ok(Next::Settled);
        };
        self.make_class(&stores).await?;
        let wanted = secrets(&stores);
        self.secrets.want(wanted.clone());
        if wanted.iter().any(|secret| self.secrets.get(secret).is_none()) {
            // It is being fetched, and will be told.
            return Ok(Next::Settled);
        }
        let resolved = kiln_gateway::resolve(&stores, self);
        let addresses: BTreeSet<IpAddr> =
            self.nodes.list().iter().filter_map(|node| ingress_status::address(node)).collect();
        let now = self.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let mut failed = None;
        for class in &resolved.classes {
            let done = self.write(&**class, &class.status, status::of_class(class, &now)).await;
            failed = failed.or(done.err());
        }
        for outcome in &resolved.gateways {
            let gateway = &*outcome.gateway;
            let done = self.write(gateway, &gateway.status, status::of_gateway(outcome, &addresses, &now)).await;
            failed = failed.or(done.err());
        }
        for route in stores.routes.list() {
            let outcome = resolved.routes.iter().find(|outcome| outcome.route.metadata.uid == route.metadata.uid);
            let parents = outcome.map(|outcome| outcome.parents.as_slice()).unwrap_or_default();
            let Some(status) = status::of_route(&route, parents, &now) else { continue };
            let done = self.write(&*route, &route.status, status).await;
            failed = failed.or(done.err());
        }
        failed.map_or(Ok(Next::Settled), Err)
    }

    /// Makes the class, unless it is there, or was and somebody deleted it.
    async fn make_class(&self, stores: &Stores) -> Result<(), Failure> {
        if self.has_class.load(Ordering::Relaxed) {
            return Ok(());
        }
        if stores.classes.get(&ObjectRef::cluster(CLASS)).is_none() {
            let class = json!({
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "GatewayClass",
                "metadata": {"name": CLASS},
                "spec": {"controllerName": CONTROLLER, "description": "Gateways that every node serves"},
            });
            match self.client.create::<IgnoredAny>(&collection::<GatewayClass>(), &class).await {
                Err(error) if !error.is_already_exists() => return Err(error.into()),
                _ => {}
            }
        }
        self.has_class.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Writes a status, unless the object has it.
    async fn write<T: Object + k8s_openapi::Resource>(
        &self,
        object: &T,
        old: &Value,
        new: Value,
    ) -> Result<(), Failure> {
        if *old == new {
            return Ok(());
        }
        let key = object.key();
        let patch = json!({
            "metadata": {"resourceVersion": object.resource_version(), "uid": object.uid()},
            "status": new,
        });
        let path = format!("{}/status", path::<T>(&key.namespace, &key.name));
        match self.client.patch::<IgnoredAny>(&path, PatchKind::Merge, &patch).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// The Secrets that listeners name.
fn secrets(stores: &Stores) -> HashSet<ObjectRef> {
    let classes = stores.classes.list();
    let is_ours = |gateway: &Gateway| {
        let name = &gateway.spec.gateway_class_name;
        classes.iter().any(|class| class.is_ours() && class.metadata.name == *name)
    };
    let mut found = HashSet::new();
    for gateway in stores.gateways.list().iter().filter(|gateway| is_ours(gateway)) {
        let tls = gateway.spec.listeners.iter().filter_map(|listener| listener.tls.as_ref());
        for reference in tls.flat_map(|tls| &tls.certificate_refs) {
            let namespace = reference.namespace.as_ref().unwrap_or(&gateway.metadata.namespace);
            found.insert(ObjectRef::namespaced(namespace.as_str(), reference.name.as_str()));
        }
    }
    found
}

/// Whether a route's status speaks of our Gateways.
fn is_told(route: &HttpRoute) -> bool {
    let parents = route.status.get("parents").and_then(Value::as_array);
    parents.into_iter().flatten().any(|parent| parent["controllerName"] == CONTROLLER)
}
