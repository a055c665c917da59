//! The ways between this node's pods and others', with what this binary knows about the node.

use std::net::IpAddr;

use kiln_client::Clock;
use kiln_network::overlay;
use tokio::sync::watch;

use super::Identity;
use super::cluster::{ClusterSettings, ranges};
use super::parts::Parts;

/// Adds the overlay to a node's parts. `mtu` is told how large pods' packets may be.
pub(super) fn add(
    parts: &mut Parts,
    identity: &Identity,
    cluster: &ClusterSettings,
    addresses: watch::Receiver<Vec<IpAddr>>,
    mtu: watch::Sender<Option<u32>>,
) {
    let config = overlay::Config {
        node_name: identity.name.clone(),
        backend: cluster.backend(),
        addresses,
        pod_networks: ranges(&cluster.cluster_cidr),
        masquerade: cluster.disable_kube_proxy == "true",
        interface: identity.interface.clone(),
        mtu,
        clock: Clock::system(),
    };
    let overlay = overlay::build(&mut parts.informers, config, parts.shutdown.clone());
    parts.add(overlay);
}
