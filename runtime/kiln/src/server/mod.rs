//! `kiln server`: the API, the cluster's CA and data, the controllers, and the node it runs on.

mod advert;
mod authority;
mod certificate;
mod compose;
mod in_process;
mod own_name;
mod role_label;
mod tokens;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use kiln_node_config::{Cidr, Role, Server, validate};

use crate::cli::Common;
use crate::exit::Failure;
use crate::node::{Identity, NodeOptions};
use crate::service;

/// Shown with `--help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  kiln server                                     on any Linux, as root
  kiln server --config /config/node.toml          with a node's settings
  kiln server --data-dir /tmp/kiln --bind 127.0.0.1 --port 0 --no-mdns
                                                  to try it without root; prints its URL";

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    node: NodeOptions,
    /// Address to listen on; without it all, IPv6 and IPv4
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<IpAddr>,
    /// TCP port of the API; 0: any that is free
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Further name or address for the server's certificate; may be repeated
    #[arg(long = "tls-san", value_name = "NAME", value_parser = validate::san)]
    tls_sans: Vec<String>,
    /// Addresses of pods
    #[arg(long, value_name = "RANGE", value_parser = validate::cluster_range)]
    cluster_cidr: Option<Cidr>,
    /// Addresses of services
    #[arg(long, value_name = "RANGE", value_parser = validate::service_range)]
    service_cidr: Option<Cidr>,
    /// Don't be a node, only serve
    #[arg(long)]
    no_agent: bool,
    /// Don't advertise on the network
    #[arg(long)]
    no_mdns: bool,
}

/// What the server is to do, with flags, file and defaults resolved.
struct Settings {
    data_dir: PathBuf,
    cluster_dir: Option<PathBuf>,
    identity: Identity,
    bind: Option<IpAddr>,
    server: Server,
    agent: bool,
    mdns: bool,
}

/// Runs until it is told to end.
pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    service::run(async move |shutdown| compose::serve(options.resolve()?, shutdown).await)
}

impl Options {
    fn resolve(self) -> anyhow::Result<Settings> {
        let config = self.node.read_config(Role::Server)?;
        let identity = self.node.identity(config.as_ref())?;
        let mut server = config.and_then(|c| c.server).unwrap_or_default();
        server.port = self.port.unwrap_or(server.port);
        server.tls_sans.extend(self.tls_sans);
        server.cluster_cidr = self.cluster_cidr.unwrap_or(server.cluster_cidr);
        server.service_cidr = self.service_cidr.unwrap_or(server.service_cidr);
        if server.cluster_cidr.overlaps(server.service_cidr) {
            let text = format!(
                "pods' {} and services' {} overlap; choose two apart",
                server.cluster_cidr, server.service_cidr
            );
            return Err(Failure::Input(text).into());
        }
        Ok(Settings {
            data_dir: self.common.data_dir,
            cluster_dir: self.node.cluster_dir,
            identity,
            bind: self.bind,
            server,
            agent: !self.no_agent,
            mdns: !self.no_mdns,
        })
    }
}

/// The server's own folder in a data folder.
fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("server")
}

/// Where a server keeps the kubeconfig with all rights.
pub(crate) fn admin_kubeconfig(data_dir: &Path) -> PathBuf {
    folder(data_dir).join("admin.kubeconfig")
}

/// The server's folder, made if it is not there.
fn make_folder(data_dir: &Path) -> anyhow::Result<PathBuf> {
    let folder = folder(data_dir);
    kiln_pki::files::private_folder(&folder).context("making the server's folder")?;
    Ok(folder)
}
