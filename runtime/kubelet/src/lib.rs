//! The node's agent: registers the machine as a Node, shows its state, lets the cluster hear that it lives, and runs the pods
//! that are bound to it.
//!
//! In come the machine's facts and what changes about it ([`Machine`]), the Node and its pods as the API has them; out go writes
//! of the Node, its status and its Lease, calls of the container runtime ([`cri`]), and statuses of pods ([`pods`]). Nothing here
//! reads the store of a server: all goes through the client.

pub mod admission;
pub mod allocation;
pub mod cgroups;
mod claims;
pub mod containerd;
pub mod cri;
mod csi;
mod devices;
pub mod eviction;
mod health;
mod hooks;
mod images;
mod lease;
mod machine;
mod metrics;
pub mod network;
mod node;
mod pleg;
pub mod pods;
mod prepare;
mod probes;
mod register;
mod reserve;
pub mod resources;
mod runner;
pub mod server;
pub mod sources;
pub mod spec;
mod stats;
mod status;
pub mod users;
pub mod volumes;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use kiln_client::{BoxFuture, Change, Client, Clock, Informer, ListParams, Store};
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use images::Collection;
pub use machine::{Facts, Machine, MachineError, Pressure};
pub use metrics::Metrics;
pub use reserve::{Reserve, TooMuch};
pub use runner::{NodeSettings, PodConfig, RuntimeChoice};

use devices::Devices;
use health::Health;
use runner::Signals;

/// The version of Kubernetes that this kubelet is like, and of this build of it.
pub const KUBELET_VERSION: &str = "v1.36.0+kiln1";

/// How long the API may take to answer: less than the time after which a silent node is given up.
const TIMEOUT: Duration = Duration::from_secs(10);

const NODES: &str = "/api/v1/nodes";

/// What the kubelet is told about its node.
#[derive(Clone)]
pub struct Config {
    /// The Node's name.
    pub node_name: String,
    /// Labels beside those that every Node has.
    pub labels: BTreeMap<String, String>,
    /// Taints that the Node is made with; those of a Node that is there stay as they are.
    pub taints: Vec<Value>,
    /// The addresses to be reached at, in place of the machine's own.
    pub node_ips: Vec<IpAddr>,
    /// The board's name, if known: the Node's instance type.
    pub board: Option<String>,
    /// How it runs pods; a node that runs none is for tests.
    pub pods: Option<PodConfig>,
    /// The time of day.
    pub clock: Clock,
}

/// What the kubelet tells whoever runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The machine has no address yet to register with.
    WaitingForAddress,
    /// Registering failed and will be tried again; the text says why.
    Failing(String),
    /// The Node is there and is this machine.
    Registered,
}

/// Runs the kubelet until the shutdown. `client` speaks as `system:node:<node name>`.
pub fn run<'a>(
    client: Client,
    config: Config,
    machine: Machine,
    tell: Box<dyn Fn(Progress) + Send + Sync + 'a>,
    shutdown: CancellationToken,
) -> BoxFuture<'a, ()> {
    Box::pin(async move {
        let client = client.with_timeout(TIMEOUT);
        let (pods, facts) = (config.pods.clone(), machine.facts.clone());
        let devices = pods.as_ref().map(|pods| Devices::new(pods.pods.root.join(devices::FOLDER)));
        let signals = Signals::new(if pods.is_some() { Health::unknown() } else { Health::default() }, devices);
        let running = async {
            if let Some(pods) = pods {
                let (name, clock) = (config.node_name.clone(), config.clock.clone());
                runner::run(client.clone(), name, clock, &facts, pods, signals.clone(), shutdown.clone()).await;
            }
        };
        let kubelet =
            Kubelet { client: client.clone(), config: config.clone(), machine, tell, signals: signals.clone() };
        let living = async {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = kubelet.live() => {}
            }
        };
        tokio::join!(Box::pin(living), Box::pin(running));
    })
}

struct Kubelet<T> {
    client: Client,
    config: Config,
    machine: Machine,
    tell: T,
    signals: Signals,
}

impl<T: Fn(Progress) + Send + Sync> Kubelet<T> {
    /// Wait for an address, register, serve; and again, should the Node be deleted.
    async fn live(&self) {
        self.wait_for_address().await;
        loop {
            let uid = self.register().await;
            (self.tell)(Progress::Registered);
            self.serve(&uid).await;
            tracing::warn!(node = self.config.node_name, "the Node was deleted; registering it again");
        }
    }

    async fn wait_for_address(&self) {
        let mut addresses = self.machine.addresses.clone();
        if addresses.borrow().is_empty() {
            (self.tell)(Progress::WaitingForAddress);
        }
        if addresses.wait_for(|addresses| !addresses.is_empty()).await.is_err() {
            // Whoever watched the addresses is gone, so none will ever come.
            std::future::pending::<()>().await;
        }
    }

    /// Keeps status and Lease fresh until the Node is deleted.
    async fn serve(&self, uid: &str) {
        let only_this = format!("metadata.name={}", self.config.node_name);
        let params = ListParams { fields: only_this, ..ListParams::default() };
        let informer = Informer::new(self.client.clone(), NODES, params);
        let store = informer.store();
        let (changed, gone) = (Arc::new(Notify::new()), CancellationToken::new());
        let mirror = informer.run(gone.clone(), {
            let (changed, gone, store) = (changed.clone(), gone.clone(), store.clone());
            move |change| match change {
                Change::Applied { object, .. } => {
                    self.write_network(object);
                    self.show_node(object);
                    changed.notify_one();
                }
                Change::Deleted { .. } => gone.cancel(),
                // It was deleted before the mirror saw it.
                Change::Synced if store.list().is_empty() => gone.cancel(),
                Change::Synced => {}
            }
        });
        tokio::select! {
            () = mirror => {}
            () = self.keep_status(&store, &changed) => {}
            () = self.keep_lease(uid) => {}
            () = self.follow_packet_size(&store) => {}
        }
    }

    /// Shows the Node to those who run pods.
    fn show_node(&self, node: &Value) {
        match kiln_client::typed(node) {
            Ok(node) => _ = self.signals.node_sender.send_replace(Some(Arc::new(node))),
            Err(error) => tracing::warn!(%error, "the Node cannot be read"),
        }
    }

    /// Writes the network anew when the size of packets is known or changes.
    async fn follow_packet_size(&self, mirror: &Store) {
        let network = self.config.pods.as_ref().and_then(|pods| pods.network.as_ref());
        if let Some(mut mtu) = network.map(|network| network.mtu.clone()) {
            while mtu.changed().await.is_ok() {
                mirror.list().iter().for_each(|node| self.write_network(node));
            }
        }
        // There is none, or whoever tells it is gone.
        std::future::pending().await
    }

    /// Gives the runtime a network for the range of addresses that the Node has got.
    fn write_network(&self, node: &Value) {
        let Some(network) = self.config.pods.as_ref().and_then(|pods| pods.network.as_ref()) else { return };
        let ranges = kiln_apimachinery::meta::strings(kiln_apimachinery::meta::at(node, &["spec", "podCIDRs"]));
        let ranges: Vec<String> = ranges.into_iter().map(str::to_owned).collect();
        match network::write(network, &ranges) {
            Ok(()) => self.signals.poke.notify_one(),
            Err(error) => tracing::warn!("{}: {error}; pods have no network", network.folder.display()),
        }
    }
}
