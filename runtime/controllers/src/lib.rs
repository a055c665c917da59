//! The cluster's controllers: loops that make what is like what should be.
//!
//! Each mirrors the collections that it looks at, puts the key of what changed into a queue, and reconciles one key at a
//! time against the current state. Nothing is polled; what depends on the time of day is queued for its time. All speak
//! to the API through the client alone. One server runs one set of them.

pub mod account_tokens;
mod cidr;
pub mod cluster_roles;
pub mod csr;
pub mod garbage;
pub mod kubernetes_service;
pub mod namespace;
pub mod node_ipam;
pub mod node_lifecycle;
pub mod per_namespace;
mod reconcile;
pub mod token_cleaner;

use std::sync::Arc;

use kiln_client::{Client, Clock};
use kiln_pki::Authority;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use cidr::{CidrError, Ipv4Cidr};

/// What the controllers need to know.
#[derive(Clone)]
pub struct Config {
    /// Signs certificate requests.
    pub authority: Arc<Authority>,
    /// What no node may serve as.
    pub reserved: csr::Reserved,
    /// The addresses of all pods; each node gets a /24 of it.
    pub cluster_cidr: Ipv4Cidr,
    /// Where the API server is reached.
    pub server: kubernetes_service::Config,
    /// Fills Secrets that hold tokens.
    pub fill_token: account_tokens::Fill,
    /// The time of day.
    pub clock: Clock,
}

/// Runs all controllers until the shutdown.
pub async fn run(client: Client, config: Config, shutdown: CancellationToken) {
    let Config { authority, reserved, cluster_cidr, server, fill_token, clock } = config;
    let ca = authority.certificate_pem().to_owned();
    let mut running = JoinSet::new();
    running.spawn(csr::run(
        client.clone(),
        csr::Config { authority, reserved, clock: clock.clone() },
        shutdown.clone(),
    ));
    running.spawn(node_lifecycle::run(client.clone(), clock.clone(), shutdown.clone()));
    running.spawn(node_ipam::run(client.clone(), cluster_cidr, shutdown.clone()));
    running.spawn(token_cleaner::run(client.clone(), clock.clone(), shutdown.clone()));
    running.spawn(garbage::run(client.clone(), shutdown.clone()));
    running.spawn(per_namespace::default_service_accounts(client.clone(), shutdown.clone()));
    running.spawn(per_namespace::root_ca(client.clone(), ca.clone(), shutdown.clone()));
    running.spawn({
        let (client, shutdown) = (client.clone(), shutdown.clone());
        async move { account_tokens::run(client, fill_token, &ca, shutdown).await }
    });
    running.spawn(cluster_roles::run(client.clone(), shutdown.clone()));
    running.spawn(kubernetes_service::run(client.clone(), server, shutdown.clone()));
    running.spawn(namespace::run(client, clock, shutdown));
    while let Some(ended) = running.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a controller ended by a panic");
        }
    }
}
