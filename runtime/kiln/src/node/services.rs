//! The service proxy, with what this binary knows about the node.

use std::net::{Ipv4Addr, SocketAddr};

use kiln_client::Clock;
use kiln_network::overlay::Backend;
use kiln_network::services::{self, HEALTH_PORT};

use super::Identity;
use super::cluster::{ClusterSettings, ranges};
use super::parts::Parts;

/// Adds the proxy to a node's parts, unless the cluster has another one.
pub(super) fn add(parts: &mut Parts, identity: &Identity, cluster: &ClusterSettings) {
    if cluster.disable_kube_proxy == "true" {
        parts.add(async {
            if let Ok(Err(error)) = tokio::task::spawn_blocking(services::remove).await {
                tracing::debug!(%error, "there may be rules of an earlier service proxy");
            }
        });
        return;
    }
    let config = services::Config {
        node: identity.name.clone(),
        pod_networks: ranges(&cluster.cluster_cidr),
        service_networks: ranges(&cluster.service_cidr),
        // Who brings a network of his own also says how pods leave it.
        masquerade: cluster.backend() != Backend::None,
        health: Some(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), HEALTH_PORT)),
    };
    let told = |changes| tracing::debug!(changes, "Services are programmed");
    let proxy = services::build(&mut parts.informers, config, Clock::system(), parts.shutdown.clone(), Box::new(told));
    parts.add(proxy);
}
