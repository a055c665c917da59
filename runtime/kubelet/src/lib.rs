//! The node's agent: registers the machine as a Node, shows its state, and lets the cluster hear that it lives.
//!
//! In come the machine's facts and what changes about it ([`Machine`]) and the Node as the API has it; out go writes of
//! the Node, its status and its Lease. Nothing here runs a container yet, and nothing here reads the store of a server:
//! all goes through the client.

mod lease;
mod machine;
mod node;
mod register;
mod status;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use kiln_client::{Change, Client, Clock, Informer, ListParams};
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use machine::{Facts, Machine, MachineError, Pressure};

/// The version of Kubernetes that this kubelet is like, and of this build of it.
pub const KUBELET_VERSION: &str = "v1.36.0+kiln1";

/// How long the API may take to answer: less than the time after which a silent node is given up.
const TIMEOUT: Duration = Duration::from_secs(10);

const NODES: &str = "/api/v1/nodes";

/// What the kubelet is told about its node.
#[derive(Debug, Clone)]
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
    /// Name and version of the container runtime, as `containerd://1.7.24`; empty if there is none.
    pub container_runtime_version: String,
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
pub async fn run(
    client: Client,
    config: Config,
    machine: Machine,
    tell: impl Fn(Progress) + Send + Sync,
    shutdown: CancellationToken,
) {
    let kubelet = Kubelet { client: client.with_timeout(TIMEOUT), config, machine, tell };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = kubelet.live() => {}
    }
}

struct Kubelet<T> {
    client: Client,
    config: Config,
    machine: Machine,
    tell: T,
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
                Change::Applied { .. } => changed.notify_one(),
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
        }
    }
}
