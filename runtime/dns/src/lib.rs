//! The DNS service of a cluster, by the Kubernetes DNS specification 1.1.0, in CoreDNS' place. It runs on every node and answers
//! the node's own pods.
//!
//! In come the node's mirrors of Services, EndpointSlices and Namespaces, the ConfigMap `kube-system/coredns-custom`, and
//! questions over UDP and TCP; out go answers, and questions to other servers about names that are not the cluster's. The switch
//! and the addresses are the Service `kube-system/kube-dns` that [`addon`] keeps: where it bears the label of this service, each
//! node puts its addresses on its loopback interface and serves them there; no rule translates anything, and no node asks another.
//!
//! `message -> kept answer | (rewrite -> hosts -> cluster -> forward) -> answer`. The first is the hot path: one look into a table
//! and one copy. Only the client's API is known here, neither server nor kubelet.

pub mod addon;
mod address;
mod cache;
mod cluster;
mod corefile;
mod events;
mod forward;
mod listen;
pub mod probe;
mod resolver;
mod serve;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod wire;

use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kiln_client::{BoxFuture, Change, Client, Informer, Informers, ListParams, path};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::addon::NAMESPACE;
use crate::cluster::Cluster;
use crate::corefile::Corefile;
pub use crate::corefile::{CONFIG_MAP, Mistake, Place};
use crate::listen::Listener;
use crate::resolver::Resolver;
use crate::wire::Name;

/// Octets for answers that are kept, if nothing else is said: some five thousand of them.
pub const ROOM: usize = 2 << 20;

/// What the service is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// The cluster's domain, as `cluster.local`.
    pub domain: String,
    /// Octets for answers that are kept; [`ROOM`].
    pub room: usize,
}

/// The service can't be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DnsError {
    /// The cluster's domain is none: it is too long, or a part of it is empty.
    #[error("`{0}` is no DNS domain")]
    Domain(String),
}

/// The service of this node.
pub struct Dns {
    resolver: Arc<Resolver>,
    client: Client,
    listener: Listener,
}

impl Dns {
    /// A service that reads these mirrors, which somebody else runs.
    ///
    /// # Errors
    /// [`DnsError`].
    pub fn new(config: &Config, informers: &mut Informers) -> Result<Self, DnsError> {
        let domain = Name::parse(&config.domain).filter(|domain| domain.depth() > 0);
        let domain = domain.ok_or_else(|| DnsError::Domain(config.domain.clone()))?;
        let (client, listener) = (informers.client(), Listener::new(informers));
        let resolver = Arc::new(Resolver::new(Cluster::new(domain, informers), config.room));
        Ok(Self { resolver, client, listener })
    }

    /// Serves until the shutdown.
    pub fn run(self, shutdown: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let Self { resolver, client, listener } = self;
            tokio::join!(
                customise(client, Arc::clone(&resolver), shutdown.clone()),
                listener.run(resolver, shutdown.clone()),
            );
        })
    }
}

/// Follows the ConfigMap. One that can't be understood is told of, and what was said before still holds.
async fn customise(client: Client, resolver: Arc<Resolver>, shutdown: CancellationToken) {
    let by_name = ListParams { fields: format!("metadata.name={CONFIG_MAP}"), ..ListParams::default() };
    let informer = Informer::<ConfigMap>::new(client.clone(), path::<ConfigMap>(NAMESPACE, ""), by_name);
    let (mistakes, mut told) = tokio::sync::mpsc::unbounded_channel();
    let follow = informer.run(shutdown.clone(), |change| match change {
        Change::Applied { object, .. } => match Corefile::parse(object.data.as_ref().unwrap_or(&Default::default())) {
            Ok(corefile) => {
                tracing::info!("names are served as the ConfigMap {NAMESPACE}/{CONFIG_MAP} says");
                resolver.set_corefile(corefile);
            }
            Err(mistake) => {
                tracing::error!(%mistake, "the ConfigMap {NAMESPACE}/{CONFIG_MAP} is left aside, and what held before holds");
                // The receiver lives as long as this does.
                _ = mistakes.send((Arc::clone(object), mistake));
            }
        },
        Change::Deleted { .. } => resolver.set_corefile(Corefile::default()),
        Change::Synced => {}
    });
    let tell = async {
        while let Some((object, mistake)) = told.recv().await {
            events::tell(&client, &object, &mistake).await;
        }
    };
    tokio::select! {
        () = follow => {}
        () = tell => {}
    }
}

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dns").field("zone", self.resolver.cluster().zone()).finish_non_exhaustive()
    }
}
