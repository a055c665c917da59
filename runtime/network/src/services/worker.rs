//! The part of the proxy that speaks to the kernel: renders Services from the mirrors and applies what differs, in one transaction.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kiln_client::{ObjectRef, Store};

use super::conntrack::{self, Targets};
use super::health::Health;
use super::layout;
use super::model::{Endpoint, IpFamily, Protocol, ServicePort, endpoints, health_check_port, ports};
use super::render::{Here, Rendered};
use super::state::State;
use super::{Config, SLICES};
use crate::Cidr;
use crate::nft::{Batch, Element, NftError, Socket};

/// What changed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Work {
    /// These Services, or their endpoints.
    pub(crate) services: HashSet<ObjectRef>,
    /// A node: where pods are, or what this one is like.
    pub(crate) nodes: bool,
    /// Perhaps everything, and the kernel may hold anything.
    pub(crate) all: bool,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Done {
    /// Messages in the transaction.
    pub(crate) changes: usize,
    /// When to come again to remove what could not be yet.
    pub(crate) again: Option<Instant>,
}

/// Keeps the kernel's tables like the mirrors.
pub(crate) struct Worker {
    pub(crate) config: Config,
    pub(crate) services: Store<Service>,
    pub(crate) slices: Store<EndpointSlice>,
    pub(crate) nodes: Store<Node>,
    pub(crate) health: Arc<Health>,
    socket: Socket,
    /// Those that the kernel has.
    families: Vec<IpFamily>,
    state: State,
    here: Here,
    networks: Vec<Cidr>,
    /// A hash of who serves each Service that has ports for UDP.
    udp: HashMap<ObjectRef, Vec<(std::net::IpAddr, u16)>>,
}

/// A Service as it is now.
struct Seen {
    ports: Vec<(ServicePort, Vec<Endpoint>)>,
    health_check: Option<u16>,
}

impl Worker {
    pub(crate) fn new(
        config: Config,
        mirrors: (Store<Service>, Store<EndpointSlice>, Store<Node>),
        health: Arc<Health>,
    ) -> Result<Self, NftError> {
        let (services, slices, nodes) = mirrors;
        show_bridges();
        let mut socket = Socket::open()?;
        let families = families(&mut socket)?;
        Ok(Self {
            config,
            services,
            slices,
            nodes,
            health,
            socket,
            families,
            state: State::default(),
            here: Here::default(),
            networks: Vec::new(),
            udp: HashMap::new(),
        })
    }

    /// Does the work: afterwards the kernel is as the mirrors are. If it fails, the next work must be all.
    pub(crate) fn work(&mut self, mut work: Work) -> Result<Done, NftError> {
        if work.all {
            return self.all();
        }
        self.delete_stale()?;
        let mut batch = Batch::new();
        if work.nodes {
            let here = self.look_around();
            if here != self.here {
                self.here = here;
                work.services.extend(self.services.list().iter().map(|service| kiln_client::Object::key(&**service)));
            }
            self.change_networks(&mut batch);
        }
        let mut targets = Targets::default();
        for key in &work.services {
            let seen = self.see(key);
            self.note_udp(key, seen.as_ref(), &mut targets);
            self.note_health(key, seen.as_ref());
            let rendered = seen.map(|seen| self.render(key, &seen));
            self.state.change(&mut batch, key, rendered);
        }
        self.state.finish(&mut batch);
        self.socket.apply(&batch)?;
        self.clean(&targets);
        Ok(Done { changes: batch.len(), again: self.state.next_stale() })
    }

    /// Makes the tables anew, in one transaction: packets see the old ones or the new ones. What clients stick to is kept.
    fn all(&mut self) -> Result<Done, NftError> {
        self.state = State::default();
        self.udp.clear();
        self.here = self.look_around();
        let mut batch = Batch::new();
        for &family in &self.families {
            layout::add(&mut batch, family, &self.config);
        }
        self.networks.clear();
        self.change_networks(&mut batch);
        let base = batch.clone();
        let mut targets = Targets::default();
        let keys: BTreeSet<_> =
            self.services.list().iter().map(|service| kiln_client::Object::key(&**service)).collect();
        self.health.retain(&keys);
        for key in &keys {
            let seen = self.see(key);
            self.note_udp(key, seen.as_ref(), &mut targets);
            self.note_health(key, seen.as_ref());
            let rendered = seen.map(|seen| self.render(key, &seen));
            self.state.change(&mut batch, key, rendered);
        }
        self.state.finish(&mut batch);
        self.keep_sticky(&mut batch)?;
        match self.socket.apply(&batch) {
            Err(error @ NftError::Refused { .. }) => {
                tracing::error!(%error, "the Services could not be set up together; trying one by one");
                batch = base;
                self.one_by_one(&batch, &keys)?;
            }
            other => other?,
        }
        self.clean(&targets);
        Ok(Done { changes: batch.len(), again: self.state.next_stale() })
    }

    /// Sets up Services one after the other, leaving out those that the kernel refuses.
    fn one_by_one(&mut self, base: &Batch, keys: &BTreeSet<ObjectRef>) -> Result<(), NftError> {
        self.state = State::default();
        self.socket.apply(base)?;
        for key in keys {
            let rendered = self.see(key).map(|seen| self.render(key, &seen));
            let mut batch = Batch::new();
            self.state.change(&mut batch, key, rendered);
            self.state.finish(&mut batch);
            if let Err(error) = self.socket.apply(&batch) {
                tracing::error!(service = %key, %error, "the Service is not reachable from this node");
                self.state.forget(key);
            }
        }
        Ok(())
    }

    /// Removes chains that were left without rules.
    fn delete_stale(&mut self) -> Result<(), NftError> {
        let mut batch = Batch::new();
        self.state.delete_stale(&mut batch, Instant::now());
        self.socket.apply(&batch)
    }

    /// A Service with its endpoints; none if there is nothing to proxy.
    fn see(&self, key: &ObjectRef) -> Option<Seen> {
        let service = self.services.get(key)?;
        let ports = ports(&service);
        if ports.is_empty() {
            return None;
        }
        let slices = self.slices.by_index(SLICES, &key.to_string());
        let ports = ports.into_iter().filter(|port| self.families.contains(&port.family));
        let with = |port: ServicePort| {
            let found = endpoints(slices.iter().map(|slice| &**slice), &port, &self.config.node);
            (port, found)
        };
        Some(Seen { ports: ports.map(with).collect(), health_check: health_check_port(&service) })
    }

    fn render(&self, key: &ObjectRef, seen: &Seen) -> Rendered {
        let mut rendered = Rendered::default();
        for (port, endpoints) in &seen.ports {
            rendered.add(&key.namespace, &key.name, port, endpoints, &self.here);
        }
        rendered
    }

    /// Notes who serves UDP; if that changed, connections to others are to be cut.
    fn note_udp(&mut self, key: &ObjectRef, seen: Option<&Seen>, targets: &mut Targets) {
        let udp = || seen.iter().flat_map(|seen| &seen.ports).filter(|(port, _)| port.protocol == Protocol::Udp);
        if udp().next().is_none() {
            self.udp.remove(key);
            return;
        }
        let serving = udp().flat_map(|(_, endpoints)| endpoints).filter(|endpoint| endpoint.serving);
        let serving: Vec<_> = serving.map(|endpoint| (endpoint.address, endpoint.port)).collect();
        if self.udp.get(key) != Some(&serving) {
            self.udp.insert(key.clone(), serving);
            udp().for_each(|(port, endpoints)| targets.add(port, endpoints));
        }
    }

    /// Says how many endpoints this node has of a Service whose load balancer asks.
    fn note_health(&self, key: &ObjectRef, seen: Option<&Seen>) {
        let Some((seen, port)) = seen.and_then(|seen| Some((seen, seen.health_check?))) else {
            self.health.remove(key);
            return;
        };
        let own = seen.ports.iter().flat_map(|(_, endpoints)| endpoints);
        let own: HashSet<_> = own.filter(|e| e.local && e.ready).map(|endpoint| endpoint.address).collect();
        self.health.set(key, port, own.len());
    }

    /// Where this node is, and its addresses.
    fn look_around(&self) -> Here {
        let node = self.nodes.get(&ObjectRef::cluster(&self.config.node));
        let labels = node.as_ref().and_then(|node| node.metadata.labels.as_ref());
        let zone = labels.and_then(|labels| labels.get("topology.kubernetes.io/zone")).cloned().unwrap_or_default();
        let status = node.as_ref().and_then(|node| node.status.as_ref());
        let addresses = status.and_then(|status| status.addresses.as_ref()).into_iter().flatten();
        let addresses =
            addresses.filter(|address| address.type_ == "InternalIP").filter_map(|a| a.address.parse().ok());
        self.health.set_node(node.as_deref());
        Here { place: super::topology::Place { node: self.config.node.clone(), zone }, addresses: addresses.collect() }
    }

    /// Says where pods are, if that changed.
    fn change_networks(&mut self, batch: &mut Batch) {
        let mut networks = self.config.pod_networks.clone();
        for node in self.nodes.list() {
            networks.extend(pod_networks(&node));
        }
        networks.sort_unstable();
        networks.dedup();
        if networks != self.networks {
            for &family in &self.families {
                layout::set_pod_networks(batch, family, &networks);
            }
            self.networks = networks;
        }
    }

    /// Has the batch, which makes the tables anew, keep the clients that stick to endpoints that are still there.
    fn keep_sticky(&mut self, batch: &mut Batch) -> Result<(), NftError> {
        for sticky in self.state.sticky() {
            let table = layout::table(sticky.family);
            let held = self.socket.elements(&table, &sticky.name)?;
            let kept = held.into_iter().map(|held| Element { expires: held.expires, ..Element::new(held.key) });
            batch.add_elements(&table, &sticky.name, kept);
        }
        Ok(())
    }

    /// Cuts connections to those who are gone. That it fails is no reason to begin anew: the tables are right.
    fn clean(&mut self, targets: &Targets) {
        if targets.is_empty() {
            return;
        }
        match conntrack::clean(&mut self.socket, targets) {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "connections to endpoints that are gone were cut"),
            Err(error) => tracing::warn!(%error, "connections to endpoints that are gone could not be cut"),
        }
    }

    /// Whether the kernel still holds the tables. That it can't be asked is no sign that it does not.
    pub(crate) fn is_intact(&mut self) -> bool {
        self.families.iter().all(|family| self.socket.has_table(&layout::table(*family)).unwrap_or(true))
    }
}

/// The families that the kernel has.
fn families(socket: &mut Socket) -> Result<Vec<IpFamily>, NftError> {
    let mut found = Vec::new();
    for family in IpFamily::BOTH {
        let mut batch = Batch::new();
        batch.add_table(&layout::table(family));
        match socket.apply(&batch) {
            Ok(()) => found.push(family),
            Err(error @ NftError::Refused { .. }) => {
                tracing::warn!(%error, "the kernel proxies no Services of this family")
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Has the kernel show to netfilter what passes a bridge too: else the answer of a pod to another one on its bridge goes past the
/// translation of the Service's address.
fn show_bridges() {
    for name in ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"] {
        let path = format!("/proc/sys/net/bridge/{name}");
        match std::fs::read_to_string(&path) {
            Ok(value) if value.trim() == "1" => {}
            Ok(_) => {
                if let Err(error) = std::fs::write(&path, "1") {
                    tracing::warn!(path, %error, "pods do not reach pods of their own node through Services");
                }
            }
            Err(_) => {
                tracing::warn!(
                    "the module br_netfilter is not loaded: pods may not reach pods of their own node through Services"
                );
                return;
            }
        }
    }
}

/// The addresses of a node's pods.
pub(crate) fn pod_networks(node: &Node) -> Vec<Cidr> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let all = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr);
    all.filter_map(|text| text.parse().ok()).collect()
}
