//! The ways between this node's pods and others', with what this binary knows about the node.

use std::net::IpAddr;
use std::path::Path;

use anyhow::Context as _;
use kiln_client::Clock;
use kiln_network::overlay::{self, Backend, PrivateKey};
use kiln_pki::files;
use kiln_pki::secret::random_bytes;
use tokio::sync::watch;

use super::Identity;
use super::cluster::{ClusterSettings, ranges};
use super::parts::Parts;

/// The node's end of WireGuard, in the data folder.
const KEY: &str = "agent/wireguard.key";

/// Adds the overlay to a node's parts. `mtu` is told how large pods' packets may be.
///
/// # Errors
/// When WireGuard's key cannot be read or made.
pub(super) fn add(
    parts: &mut Parts,
    identity: &Identity,
    cluster: &ClusterSettings,
    data_dir: &Path,
    addresses: watch::Receiver<Vec<IpAddr>>,
    mtu: watch::Sender<Option<u32>>,
) -> anyhow::Result<()> {
    let backend = cluster.backend();
    let config = overlay::Config {
        node_name: identity.name.clone(),
        backend,
        private_key: (backend == Backend::WireGuard).then(|| wireguard(data_dir)).transpose()?,
        addresses,
        pod_networks: ranges(&cluster.cluster_cidr),
        masquerade: cluster.disable_kube_proxy == "true",
        interface: identity.interface.clone(),
        mtu,
        clock: Clock::system(),
    };
    let overlay = overlay::build(&mut parts.informers, config, parts.shutdown.clone());
    parts.add(overlay);
    Ok(())
}

/// Readies what WireGuard needs beyond the other kinds: the kernel's module, and the node's key, made at the first start.
fn wireguard(data_dir: &Path) -> anyhow::Result<PrivateKey> {
    // Without it the overlay will say what is missing, where people look.
    if let Err(error) = kiln_init::load_module("wireguard") {
        tracing::warn!(%error, "WireGuard's module is not loaded");
    }
    let path = data_dir.join(KEY);
    if let Some(text) = files::read(&path)? {
        return text.parse().with_context(|| path.display().to_string());
    }
    let key = PrivateKey::new(random_bytes()?);
    files::write_private(&path, &(key.secret() + "\n"))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_key_of_wireguard_is_made_once_and_for_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("agent")).unwrap();
        let key = wireguard(folder.path()).unwrap();
        assert_eq!(wireguard(folder.path()).unwrap(), key);
        let path = folder.path().join(KEY);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "torn").unwrap();
        assert!(wireguard(folder.path()).unwrap_err().to_string().contains("wireguard.key"));
    }
}
