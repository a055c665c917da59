//! Load balancers' addresses on the node's network, with what this binary knows about the node.

use std::sync::Arc;

use kiln_controllers::service_lb::Pool;
use kiln_network::announce;

use super::Identity;
use super::cluster::ClusterSettings;
use super::parts::Parts;

/// Adds it to a node's parts. Where there is no pool it takes away what an earlier run left.
pub(super) fn add(parts: &mut Parts, identity: &Identity, cluster: &ClusterSettings) {
    let pool: Pool = cluster.load_balancer_pool.parse().unwrap_or_else(|error| {
        tracing::warn!("{error}");
        Pool::default()
    });
    let is_in_pool = Arc::new(move |address| pool.contains(address));
    let config = announce::Config { node: identity.name.clone(), is_in_pool };
    let announcing = announce::build(&mut parts.informers, config, parts.shutdown.clone());
    parts.add(announcing);
}
