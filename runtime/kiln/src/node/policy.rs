//! Network policies, with what this binary knows about the node.

use kiln_network::policy;

use super::Identity;
use super::cluster::ClusterSettings;
use super::parts::Parts;

/// Adds them to a node's parts, unless the cluster leaves them to somebody else.
pub(super) fn add(parts: &mut Parts, identity: &Identity, cluster: &ClusterSettings) {
    if cluster.disable_network_policy == "true" {
        return;
    }
    let told = |changes| tracing::debug!(changes, "network policies are in force");
    let policies = policy::build(&mut parts.informers, identity.name.clone(), parts.shutdown.clone(), Box::new(told));
    parts.add(policies);
}
