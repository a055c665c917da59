//! The cluster's DNS on this node.

use kiln_dns::{Config, Dns, ROOM};

use super::cluster::ClusterSettings;
use super::parts::Parts;

/// Where nothing else is said.
const DOMAIN: &str = "cluster.local";

/// Adds the DNS to a node's parts. Whether and where it serves, the cluster says by a Service.
///
/// # Errors
/// When the cluster's domain is none.
pub(super) fn add(parts: &mut Parts, cluster: &ClusterSettings) -> anyhow::Result<()> {
    let domain = Some(cluster.cluster_domain.as_str()).filter(|domain| !domain.is_empty()).unwrap_or(DOMAIN);
    let dns = Dns::new(&Config { domain: domain.to_owned(), room: ROOM }, &mut parts.informers)?;
    let shutdown = parts.shutdown.clone();
    parts.add(dns.run(shutdown));
    Ok(())
}
