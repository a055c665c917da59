//! What server and agent need to know about the machine they are on.

mod announce;
pub(crate) mod cluster;
pub(crate) mod containers;
mod dns;
mod ingress;
pub(crate) mod kubelet;
mod kubelet_settings;
mod overlay;
mod parts;
mod policy;
pub(crate) mod reach;
mod sctp;
mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use kiln_node_config::validate::Taint;
use kiln_node_config::{NodeConfig, Role, default_name, flags, validate};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use sha2::{Digest as _, Sha256};

use crate::exit::Failure;

/// Their heading in `--help`.
const NODE: &str = "Node";

/// Flags that server and agent share.
#[derive(Debug, Clone, Args)]
pub(crate) struct NodeOptions {
    /// A file with the settings: a node's (node.toml), or flags by their names, as tls-san = ["kube.example.org"]. Flags and
    /// variables go before what it says
    #[arg(long, short = 'c', value_name = "FILE", env = "KILN_CONFIG_FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Folder with the cluster's files: ca.crt, and on a server ca.key and bootstrap-tokens.json
    #[arg(long, value_name = "DIR")]
    pub(crate) cluster_dir: Option<PathBuf>,
    /// The node's name
    #[arg(long, value_name = "NAME", value_parser = validate::node_name, env = "KILN_NODE_NAME", help_heading = NODE)]
    pub(crate) node_name: Option<String>,
    /// Label that the node registers with; may be repeated
    #[arg(long = "node-label", value_name = "KEY=VALUE", value_parser = validate::label, value_delimiter = ',', help_heading = NODE)]
    labels: Vec<(String, String)>,
    /// Taint that the node registers with, when it is new; may be repeated
    #[arg(long = "node-taint", value_name = "KEY=VALUE:EFFECT", value_parser = validate::taint, value_delimiter = ',', help_heading = NODE)]
    taints: Vec<Taint>,
    /// Address that the node is reached at, in place of those that its interfaces have; may be repeated
    #[arg(long = "node-ip", value_name = "ADDRESS", value_delimiter = ',', env = "KILN_NODE_IP", help_heading = NODE)]
    node_ips: Vec<IpAddr>,
    /// Setting of a kubelet by its name there: max-pods, system-reserved, eviction-hard, image-gc-high-threshold and others
    /// (a wrong name lists them), config=FILE for a KubeletConfiguration, or node-labels, register-with-taints and node-ip, which
    /// mean the flags above; may be repeated
    #[arg(long = "kubelet-arg", value_name = "NAME=VALUE", value_parser = kubelet_argument, help_heading = NODE)]
    kubelet_arguments: Vec<KubeletArgument>,
    /// Interface that leads to the other nodes, in place of the one with the node's address
    #[arg(long, value_name = "INTERFACE", help_heading = NODE)]
    flannel_iface: Option<String>,
    #[command(flatten)]
    ingress: ingress::IngressOptions,
    #[command(flatten)]
    pub(crate) containers: containers::ContainerOptions,
    /// What identifies this board; usually told by Kiln's init
    #[arg(long, value_name = "TEXT", env = "KILN_BOARD_ID", hide_env_values = true, help_heading = NODE)]
    board_id: Option<String>,
}

/// A `--kubelet-arg`.
#[derive(Debug, Clone)]
enum KubeletArgument {
    Labels(Vec<(String, String)>),
    Taints(Vec<Taint>),
    Addresses(Vec<IpAddr>),
    Containers(kubelet_settings::Setting),
    /// Those of a file.
    File(Vec<kubelet_settings::Setting>),
}

fn kubelet_argument(text: &str) -> Result<KubeletArgument, String> {
    fn each<T>(text: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
        text.split(',').map(read).collect()
    }
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    match name.trim_start_matches('-') {
        "node-labels" => each(value, validate::label).map(KubeletArgument::Labels),
        "register-with-taints" => each(value, validate::taint).map(KubeletArgument::Taints),
        "node-ip" => {
            let address = |text: &str| text.parse().map_err(|_| format!("`{text}` is no IP address"));
            each(value, address).map(KubeletArgument::Addresses)
        }
        "config" => kubelet_settings::file::read(value).map(KubeletArgument::File),
        other => match kubelet_settings::setting(other, value)? {
            Some(setting) => Ok(KubeletArgument::Containers(setting)),
            None => Err(format!(
                "the kubelet has no `{other}`; it has node-labels, register-with-taints, node-ip, {}",
                kubelet_settings::SETTINGS
            )),
        },
    }
}

/// The kubelet's settings in a `node.toml`.
fn written_arguments(config: Option<&NodeConfig>) -> anyhow::Result<Vec<KubeletArgument>> {
    let settings = config.iter().flat_map(|config| &config.node.kubelet);
    let read = |(name, value): (&String, &String)| {
        let argument = kubelet_argument(&format!("{name}={value}"));
        argument.map_err(|why| Failure::Input(format!("node.kubelet.{name}: {why}")).into())
    };
    settings.map(read).collect()
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
    /// Taints to register with.
    pub(crate) taints: Vec<Taint>,
    /// Addresses to be reached at, in place of the machine's own.
    pub(crate) addresses: Vec<IpAddr>,
    /// The interface that leads to the other nodes, if it was named.
    pub(crate) interface: Option<String>,
    /// How it serves Ingresses.
    pub(crate) ingress: ingress::IngressOptions,
    /// How its pods are run.
    pub(crate) containers: containers::ContainerOptions,
}

impl NodeOptions {
    /// The settings file, if one is given, which must be for this role.
    pub(crate) fn read_config(&self, role: Role) -> anyhow::Result<Option<NodeConfig>> {
        let Some(path) = &self.config else {
            return Ok(None);
        };
        let text = std::fs::read_to_string(path).map_err(|e| Failure::Input(format!("{}: {e}", path.display())))?;
        if !flags::is_node_config(&text) {
            // The flags that it holds are among the others already.
            return Ok(None);
        }
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
        let mut labels = config.map(|c| c.node.labels.clone()).unwrap_or_default();
        labels.extend(self.labels.iter().cloned());
        let mut taints = config.map(|c| c.node.taints.clone()).unwrap_or_default();
        taints.extend(self.taints.iter().cloned());
        // What was said at the start counts, not the file.
        let mut addresses = self.node_ips.clone();
        let mut containers = self.containers.clone();
        // Flags go before a file, wherever they stand.
        let written = written_arguments(config)?;
        let (files, flags): (Vec<_>, Vec<_>) =
            self.kubelet_arguments.iter().partition(|argument| matches!(argument, KubeletArgument::File(_)));
        for argument in written.iter().chain(files).chain(flags) {
            match argument {
                KubeletArgument::Labels(more) => labels.extend(more.iter().cloned()),
                KubeletArgument::Taints(more) => taints.extend(more.iter().cloned()),
                KubeletArgument::Addresses(more) => addresses.extend(more),
                KubeletArgument::Containers(setting) => containers.set(setting),
                KubeletArgument::File(settings) => settings.iter().for_each(|setting| containers.set(setting)),
            }
        }
        if let (true, Some(config)) = (addresses.is_empty(), config) {
            addresses.clone_from(&config.node.addresses);
        }
        let interface = self.flannel_iface.clone();
        let ingress = self.ingress.clone();
        Ok(Identity { name, board_id, labels, taints, addresses, interface, ingress, containers })
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

/// Interfaces that are there for pods: they come and go with these, and nobody reaches the node by them.
fn is_of_pods(interface: &str, address: IpAddr) -> bool {
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    interface.starts_with("cni") || interface.starts_with("kiln") || (link_local && interface.starts_with("veth"))
}

/// The addresses of this machine's interfaces that are up, without loopback and those that only pods have to do with.
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
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        let ip = v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())));
        found.extend(ip.filter(|ip| !is_of_pods(&interface.interface_name, *ip)));
    }
    Ok(found)
}
