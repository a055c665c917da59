//! The kubelet's own HTTP service: what the API server and monitoring ask a node for.
//!
//! One service, two ways in. Through the API server's tunnel, or in its process, come requests that it vouches for
//! ([`kiln_tunnel::Node`]); on the node's port ([`Server::listen`], 10250) comes anyone, and each request is authenticated and
//! authorised against the API (`access`). Out go logs (`logs`), streams of the container runtime (`streams`), the pods, and
//! figures ([`crate::stats`]). The server looks at pods through [`Host`] and changes nothing.

mod access;
mod answer;
mod files;
mod host;
mod listen;
mod logs;
mod pods;
mod routes;
mod streams;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use kiln_client::{Client, Clock};
use kiln_tunnel::{BoxFuture, Connection, Node};
use tokio_util::sync::CancellationToken;

use self::access::{Access, Who};
use crate::cri::Runtime;
use crate::machine::Facts;
use crate::metrics::Metrics;
use crate::stats::Disks;

pub use self::host::{ContainerView, Host, PodView, ProbeCount};

/// The port of the node that it is served at.
pub const PORT: u16 = 10250;

/// What the server needs to know.
pub struct Config {
    /// The pods of this node.
    pub host: Arc<dyn Host>,
    /// The container runtime.
    pub runtime: Runtime,
    /// What the kubelet counts of its work.
    pub metrics: Metrics,
    /// Asks the API who someone is and what he may.
    pub client: Client,
    /// The Node's name.
    pub node_name: String,
    /// The kubelet's folder, whose disk is the node's.
    pub root: PathBuf,
    /// Where pods' logs lie.
    pub logs: PathBuf,
    /// The time of day.
    pub clock: Clock,
    /// Ends streams that would go on.
    pub shutdown: CancellationToken,
}

/// The service. A clone is another handle of the same.
#[derive(Clone)]
pub struct Server(Arc<Shared>);

struct Shared {
    host: Arc<dyn Host>,
    runtime: Runtime,
    node_name: String,
    disks: Disks,
    facts: Facts,
    clock: Clock,
    shutdown: CancellationToken,
    access: Access,
    metrics: Metrics,
}

impl Server {
    /// Makes the service; it listens nowhere yet.
    pub fn new(config: Config) -> Self {
        let Config { host, runtime, metrics, client, node_name, root, logs, clock, shutdown } = config;
        let disks = Disks::new(runtime.clone(), &root, &logs);
        // What is not known of the machine is shown as nothing. The kubelet's folder may not be there yet, and its size is not asked.
        let facts = Facts::read(Path::new("/"), Path::new("/")).unwrap_or_default();
        let access = Access::new(client, node_name.clone());
        Self(Arc::new(Shared { host, runtime, node_name, disks, facts, clock, shutdown, access, metrics }))
    }
}

impl Node for Server {
    fn serve(&self, connection: Connection) -> BoxFuture<'static, ()> {
        let server = self.clone();
        Box::pin(async move {
            let service = service_fn(move |request| {
                let server = server.clone();
                async move { Ok::<_, std::convert::Infallible>(server.answer(request, &Who::ApiServer).await) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(connection), service)
                .with_upgrades()
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "a connection of the API server");
            }
        })
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("node_name", &self.0.node_name).finish_non_exhaustive()
    }
}
