//! What server and agent need to know about the machine they are on.

pub(crate) mod kubelet;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use kiln_node_config::{NodeConfig, Role, default_name, validate};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use sha2::{Digest as _, Sha256};

use crate::exit::Failure;

/// Flags that server and agent share.
#[derive(Debug, Clone, Args)]
pub(crate) struct NodeOptions {
    /// The node's settings; flags go before what they say
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Folder with the cluster's files: ca.crt, and on a server ca.key and bootstrap-tokens.json
    #[arg(long, value_name = "DIR")]
    pub(crate) cluster_dir: Option<PathBuf>,
    /// The node's name
    #[arg(long, value_name = "NAME", value_parser = validate::node_name)]
    pub(crate) node_name: Option<String>,
    /// What identifies this board; usually told by Kiln's init
    #[arg(long, value_name = "TEXT", env = "KILN_BOARD_ID", hide_env_values = true)]
    board_id: Option<String>,
}

/// Who this node is.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// Its name.
    pub(crate) name: String,
    /// What identifies its board.
    pub(crate) board_id: String,
    /// Labels to register with.
    pub(crate) labels: BTreeMap<String, String>,
}

impl NodeOptions {
    /// The settings file, if one is given, which must be for this role.
    pub(crate) fn read_config(&self, role: Role) -> anyhow::Result<Option<NodeConfig>> {
        let Some(path) = &self.config else {
            return Ok(None);
        };
        let text = std::fs::read_to_string(path).map_err(|e| Failure::Input(format!("{}: {e}", path.display())))?;
        let config = NodeConfig::parse(&text, &path.display().to_string())?;
        if config.node.role != role {
            let text = format!(
                "{}: `node.role` is \"{}\", and this is kiln {role}; start kiln {} with it",
                path.display(),
                config.node.role,
                config.node.role
            );
            return Err(Failure::Input(text).into());
        }
        Ok(Some(config))
    }

    /// Name and board, from the flags, the file, or the machine.
    pub(crate) fn identity(&self, config: Option<&NodeConfig>) -> anyhow::Result<Identity> {
        let board_id = match &self.board_id {
            Some(id) if !id.is_empty() => id.clone(),
            _ => machine_board_id()?,
        };
        let name = match (&self.node_name, config) {
            (Some(name), _) => name.clone(),
            (None, Some(config)) => config.node_name(&board_id),
            (None, None) => default_name(&board_id),
        };
        let labels = config.map(|c| c.node.labels.clone()).unwrap_or_default();
        Ok(Identity { name, board_id, labels })
    }
}

/// On a machine without Kiln's init: made from the machine id, which also is one per installation.
fn machine_board_id() -> anyhow::Result<String> {
    const PATH: &str = "/etc/machine-id";
    let text = std::fs::read_to_string(Path::new(PATH)).unwrap_or_default();
    let id = text.trim();
    if id.is_empty() {
        let text = format!("{PATH} is empty or not there, so this machine can't be told from others; give --board-id");
        return Err(Failure::Input(text).into());
    }
    Ok(kiln_pki::secret::hex(&Sha256::digest(format!("kiln-board\0machine-id\0{id}"))))
}

/// The addresses of this machine's interfaces that are up, without loopback.
pub(crate) fn addresses() -> anyhow::Result<BTreeSet<IpAddr>> {
    let interfaces = getifaddrs().context("reading the addresses of the network interfaces")?;
    let mut found = BTreeSet::new();
    for interface in interfaces {
        let Some(address) = interface.address else {
            continue;
        };
        if !interface.flags.contains(InterfaceFlags::IFF_UP) || interface.flags.contains(InterfaceFlags::IFF_LOOPBACK) {
            continue;
        }
        if let Some(v4) = address.as_sockaddr_in() {
            found.insert(IpAddr::V4(v4.ip()));
        } else if let Some(v6) = address.as_sockaddr_in6() {
            found.insert(IpAddr::V6(v6.ip()));
        }
    }
    Ok(found)
}
