//! The service load balancer, in ServiceLB's place: a Service of the type LoadBalancer gets the addresses of nodes, at which each
//! node's service proxy leads its ports on. No pods and no further addresses are needed.
//!
//! Where a pool of addresses is given, a Service gets one of these for itself, and a node that is named by an annotation announces it on
//! its network. The name is that of a node that is ready, and has an endpoint if the Service keeps to those of the node.
//!
//! In come changes of Services, Nodes and EndpointSlices; out go writes of `status.loadBalancer`. One port of the nodes can be one
//! Service's only: the oldest has it, and the others are told so by an event.

mod nodes;
mod pool;

use std::collections::BTreeSet;
use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{LoadBalancerIngress, Node, Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kiln_client::{Change, Client, Informers, Object, ObjectRef, PatchKind, Store, WorkQueue, path};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::owned::is_going;
use crate::reconcile::{Failure, Next, to_value, work};
use crate::{Context, Recorder};

pub use pool::{Pool, PoolError};

/// The class of load balancers that is this one's; a Service without a class is too.
pub const CLASS: &str = "kiln.dev/servicelb";
/// The index of Services that get addresses here.
const BALANCED: &str = "balanced";
/// Names the node that announces a Service's addresses.
const ANNOUNCER: &str = "kiln.dev/announced-by";
/// Addresses of the pool that a Service wishes for.
const WISHES: &str = "kiln.dev/load-balancer-ips";
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What the controller is told.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Ports of TCP that nodes have for something else: no Service gets them.
    pub reserved: BTreeSet<u16>,
    /// Addresses that Services get in place of the nodes'.
    pub pool: Pool,
}

/// Adds the controller to the mirrors; what is returned runs it until the shutdown.
pub fn build(informers: &mut Informers, context: &Context, config: Config) -> impl Future<Output = ()> + Send + use<> {
    let shutdown = context.shutdown.clone();
    let queue = WorkQueue::<ObjectRef>::default();
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        services: informers.of::<Service>().store(),
        nodes: informers.of::<Node>().store(),
        slices: informers.of::<EndpointSlice>().store(),
        recorder: context.events.recorder("service-lb-controller"),
        config,
        given: Mutex::default(),
    });
    let again = {
        let (queue, services) = (queue.clone(), controller.services.clone());
        move || services.by_index(BALANCED, "").iter().for_each(|service| queue.add(service.key()))
    };
    let services = informers.of::<Service>();
    services.index(BALANCED, |service| if is_ours(service) { vec![String::new()] } else { Vec::new() });
    let has_pool = !controller.config.pool.is_empty();
    services.subscribe({
        let (queue, again) = (queue.clone(), again.clone());
        move |change| {
            let (now, before) = match change {
                Change::Applied { object, previous, .. } => (Some(object), previous.as_ref()),
                Change::Deleted { object, .. } => (None, Some(object)),
                Change::Synced => return,
            };
            if let (Change::Deleted { key, .. }, true) = (change, has_pool) {
                queue.add(key.clone());
            }
            if let Some(key) = change
                .key()
                .filter(|_| now.is_some_and(|now| is_ours(now) || has_ingress(now) || announcer(now).is_some()))
            {
                queue.add(key.clone());
            }
            // Its ports may be what another one waits for.
            if before.is_some_and(|before| is_ours(before)) && before.map(ports) != now.map(ports) {
                again();
            }
        }
    });
    informers.of::<Node>().subscribe({
        let again = again.clone();
        move |change| {
            if nodes::is_news(change) {
                again();
            }
        }
    });
    informers.of::<EndpointSlice>().subscribe({
        let (queue, services) = (queue.clone(), controller.services.clone());
        move |change| {
            let (Change::Applied { object, .. } | Change::Deleted { object, .. }) = change else { return };
            let Some(key) = service_of(object) else { return };
            if services.get(&key).is_some_and(|service| is_ours(&service) && is_local(&service)) {
                queue.add(key);
            }
        }
    });
    async move { work("service-lb", &queue, &shutdown, |key| controller.reconcile(key)).await }
}

/// Whether a Service gets its addresses here.
fn is_ours(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| {
        spec.type_.as_deref() == Some("LoadBalancer")
            && spec.load_balancer_class.as_deref().is_none_or(|class| class == CLASS)
    })
}

fn is_local(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.external_traffic_policy.as_deref()) == Some("Local")
}

fn ingress(service: &Service) -> &[LoadBalancerIngress] {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default()
}

fn vip(address: IpAddr) -> LoadBalancerIngress {
    LoadBalancerIngress {
        ip: Some(address.to_string()),
        ip_mode: Some("VIP".to_owned()),
        ..LoadBalancerIngress::default()
    }
}

/// The addresses that a Service has.
fn addresses(service: &Service) -> BTreeSet<IpAddr> {
    ingress(service).iter().filter_map(|entry| entry.ip.as_deref()?.parse().ok()).collect()
}

/// The node that announces a Service's addresses, as it says.
fn announcer(service: &Service) -> Option<&str> {
    service.metadata.annotations.as_ref()?.get(ANNOUNCER).map(String::as_str)
}

fn has_ingress(service: &Service) -> bool {
    !ingress(service).is_empty()
}

/// Protocol and number of each port of a Service that gets addresses here.
fn ports(service: &Arc<Service>) -> Vec<(String, i32)> {
    if !is_ours(service) {
        return Vec::new();
    }
    let port = |port: &ServicePort| (port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()), port.port);
    service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()).map(port).collect()
}

fn service_of(slice: &EndpointSlice) -> Option<ObjectRef> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some(ObjectRef::namespaced(slice.metadata.namespace.as_deref()?, name))
}

/// The place in the queue for ports.
fn age(service: &Service) -> (Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>, ObjectRef) {
    (service.metadata.creation_timestamp.as_ref(), service.key())
}

struct Controller {
    client: Client,
    services: Store<Service>,
    nodes: Store<Node>,
    slices: Store<EndpointSlice>,
    recorder: Recorder,
    config: Config,
    /// Who has which addresses of the pool.
    given: Mutex<pool::Given>,
}

impl Controller {
    async fn reconcile(&self, key: ObjectRef) -> Result<Next, Failure> {
        tokio::join!(self.services.synced(), self.nodes.synced(), self.slices.synced());
        let Some(service) = self.services.get(&key).filter(|service| !is_going(&**service)) else {
            self.give_back(&key);
            return Ok(Next::Settled);
        };
        let is_other = service.spec.as_ref().is_some_and(|spec| spec.type_.as_deref() == Some("LoadBalancer"));
        if !is_ours(&service) && is_other {
            return Ok(Next::Settled);
        }
        let wanted = match (is_ours(&service), self.config.pool.is_empty()) {
            (false, _) => {
                self.give_back(&key);
                Vec::new()
            }
            (true, true) => self.wanted(&service),
            (true, false) => self.of_pool(&service),
        };
        self.name_announcer(&service, &wanted).await?;
        if wanted == ingress(&service) {
            return Ok(Next::Settled);
        }
        let value = if wanted.is_empty() { Value::Null } else { to_value(&wanted)? };
        let patch = json!({
            "metadata": {"resourceVersion": service.resource_version(), "uid": service.uid()},
            "status": {"loadBalancer": {"ingress": value}},
        });
        let path = format!("{}/status", path::<Service>(&key.namespace, &key.name));
        match self.client.patch::<IgnoredAny>(&path, PatchKind::Merge, &patch).await {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
        if !wanted.is_empty() {
            let addresses: Vec<_> = wanted.iter().filter_map(|ingress| ingress.ip.as_deref()).collect();
            let text = format!("LoadBalancer Ingress IP addresses updated: {}", addresses.join(", "));
            self.recorder.normal(&*service, "UpdatedLoadBalancer", text);
        }
        Ok(Next::Settled)
    }

    /// What a Service had of the pool is free again, which may be what others wait for.
    fn give_back(&self, key: &ObjectRef) {
        self.given().take(key, BTreeSet::new());
    }

    fn given(&self) -> std::sync::MutexGuard<'_, pool::Given> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The addresses of the pool that a Service is to have.
    fn of_pool(&self, service: &Arc<Service>) -> Vec<LoadBalancerIngress> {
        let pool = &self.config.pool;
        let spec = service.spec.as_ref();
        let families = spec.and_then(|spec| spec.ip_families.as_deref()).unwrap_or_default();
        let mut families: Vec<bool> = families.iter().map(|family| family == "IPv4").collect();
        if families.is_empty() {
            families.push(true);
        }
        let annotation = service.metadata.annotations.as_ref().and_then(|all| all.get(WISHES));
        let wishes = annotation.or_else(|| spec.and_then(|spec| spec.load_balancer_ip.as_ref()));
        let wishes: Vec<_> =
            wishes.iter().flat_map(|text| text.split(',')).filter_map(|ip| ip.trim().parse().ok()).collect();
        let given = {
            let mut given = self.given();
            // What all have is known before anything is given away, at the first look too.
            for other in self.services.by_index(BALANCED, "") {
                given.note(&other.key(), || addresses(&other).into_iter().filter(|one| pool.contains(*one)).collect());
            }
            given.give(pool, &service.key(), &families, &wishes)
        };
        match given {
            Ok(addresses) => addresses.into_iter().map(vip).collect(),
            Err(why) => {
                self.recorder.warning(
                    &**service,
                    "SyncLoadBalancerFailed",
                    format!("Error syncing load balancer: {why}"),
                );
                Vec::new()
            }
        }
    }

    /// Says on the Service which node announces its addresses, if they are to be announced.
    async fn name_announcer(&self, service: &Arc<Service>, wanted: &[LoadBalancerIngress]) -> Result<(), Failure> {
        let current = announcer(service);
        let first = wanted.first().and_then(|entry| entry.ip.as_deref()?.parse().ok());
        let nodes = self.nodes.list();
        let chosen = match first.filter(|_| !self.config.pool.is_empty()) {
            Some(first) => {
                let on = is_local(service).then(|| self.nodes_with_endpoints(&service.key()));
                let names = nodes::chosen(&nodes).into_iter().filter_map(|node| node.metadata.name.as_deref());
                let names: Vec<&str> = names.filter(|name| on.as_ref().is_none_or(|on| on.contains(*name))).collect();
                pool::announcer(&names, first, current)
            }
            None => None,
        };
        if chosen == current {
            return Ok(());
        }
        let patch = json!({"metadata": {"uid": service.uid(), "annotations": {ANNOUNCER: chosen}}});
        let key = service.key();
        let path = path::<Service>(&key.namespace, &key.name);
        match self.client.patch::<IgnoredAny>(&path, PatchKind::Merge, &patch).await {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
        if let Some(node) = chosen {
            self.recorder.normal(&**service, "nodeAssigned", format!("announcing from node {node:?}"));
        }
        // What follows is written to the Service as it is now.
        Err(Failure::Stale)
    }

    /// The addresses that a Service is to have.
    fn wanted(&self, service: &Arc<Service>) -> Vec<LoadBalancerIngress> {
        if let Some(why) = self.conflict(service) {
            self.recorder.warning(&**service, "SyncLoadBalancerFailed", format!("Error syncing load balancer: {why}"));
            return Vec::new();
        }
        let families = service.spec.as_ref().and_then(|spec| spec.ip_families.as_deref()).unwrap_or_default();
        let on = is_local(service).then(|| self.nodes_with_endpoints(&service.key()));
        let nodes = self.nodes.list();
        let chosen = nodes::chosen(&nodes).into_iter().filter(|node| {
            let name = node.metadata.name.as_deref().unwrap_or_default();
            on.as_ref().is_none_or(|on| on.contains(name))
        });
        let addresses: BTreeSet<_> = chosen.flat_map(|node| nodes::addresses(node, families)).collect();
        addresses.into_iter().map(vip).collect()
    }

    /// Why the nodes' ports cannot be this Service's, if they can't.
    fn conflict(&self, service: &Arc<Service>) -> Option<String> {
        let own = ports(service);
        let taken = |(protocol, port): &&(String, i32)| {
            protocol == "TCP" && u16::try_from(*port).is_ok_and(|port| self.config.reserved.contains(&port))
        };
        if let Some((protocol, port)) = own.iter().find(taken) {
            return Some(format!("port {port}/{protocol} of the nodes is not for Services"));
        }
        let others = self.services.by_index(BALANCED, "");
        let older = others.iter().filter(|other| age(other) < age(service) && !is_going(&***other));
        older.into_iter().find_map(|other| {
            let theirs = ports(other);
            let (protocol, port) = own.iter().find(|port| theirs.contains(port))?;
            Some(format!("port {port}/{protocol} of the nodes is taken by service {}", other.key()))
        })
    }

    fn nodes_with_endpoints(&self, service: &ObjectRef) -> BTreeSet<String> {
        let slices = self.slices.in_namespace(&service.namespace);
        let own = slices.iter().filter(|slice| service_of(slice).as_ref() == Some(service));
        let ready = own
            .flat_map(|slice| slice.endpoints.iter().flatten())
            .filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true));
        ready.filter_map(|endpoint| endpoint.node_name.clone()).collect()
    }
}
