//! `kiln killall`: what goes on when `kiln` itself has ended is stopped and removed: pods with their shims, mounts, namespaces and
//! control groups, interfaces and rules of the network. Images and all other data stay.

mod leftovers;
mod processes;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use kiln_kubelet::cgroups::{Cgroups, root_of};
use nix::unistd::geteuid;

use super::{Common, Format, Output, output};
use crate::exit::Failure;
use crate::node::containers::ContainerOptions;
use crate::service::block_on;

/// Shown with `--help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  kiln killall                                    after `systemctl stop kiln`
  kiln killall --data-dir /srv/kiln -o json       of a node with another data folder";

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    /// Folder of containerd's sockets, if the node was given one
    #[arg(long, value_name = "DIR")]
    containerd_state_dir: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// Does it.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    if !geteuid().is_root() {
        return Err(Failure::Input("only root can stop pods".to_owned()).into());
    }
    let data = &options.common.data_dir;
    let usual = || ContainerOptions::usual_state(data);
    let state = options.containerd_state_dir.clone().unwrap_or_else(usual);
    if let Some(pid) = processes::service(data) {
        let text = format!("kiln runs as process {pid} and would start its pods again; stop it first");
        return Err(Failure::Input(text).into());
    }
    let killed = processes::kill(&state)?;
    let root = ContainerOptions::usual_root(data);
    let unmounted = leftovers::remove(data, &root, &state)?;
    let group = root_of(&root);
    if let Ok(groups) = Cgroups::here(&group) {
        block_on(async { Ok(groups.remove().await?) })?;
    }
    if Path::new("/proc/sys/net").exists() {
        kiln_network::remove(kiln_kubelet::network::BRIDGE).context("removing the network")?;
    }
    match options.output.format {
        Format::Json => output::json(&serde_json::json!({ "processes": killed, "mounts": unmounted })),
        Format::Text => {
            println!("{killed} processes were killed, {unmounted} mounts removed");
            Ok(())
        }
    }
}
