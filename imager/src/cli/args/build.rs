//! Flags of what makes images and installers: `build`, `bundle` and `update-lock`.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use imager::{profile::Arch, toolchain::Choice};
use kiln_node_config::Role;

use super::pair;

/// `imager build`.
#[derive(Debug, Args)]
pub(in crate::cli) struct BuildArgs {
    /// The board; `imager boards` lists them.
    #[arg(short, long, value_name = "NAME")]
    pub(in crate::cli) board: String,
    /// Directory for the results.
    #[arg(long, value_name = "DIR", default_value = "out", value_hint = ValueHint::DirPath)]
    pub(in crate::cli) out: PathBuf,
    /// Name of the results, without extension [default: kiln-BOARD].
    #[arg(long, value_name = "NAME", value_parser = file_name)]
    pub(in crate::cli) image_name: Option<String>,
    /// Add an overlay (repeatable).
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) overlay: Vec<String>,
    /// Leave one of the board's overlays out (repeatable).
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) without_overlay: Vec<String>,
    /// Bring along this file of Kubernetes objects (YAML or JSON), which the server applies at first boot (repeatable).
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(in crate::cli) manifest: Vec<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) sources: SourceArgs,
    /// Print the resolved profile and build nothing.
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    /// Do not write the compressed image.
    #[arg(long)]
    pub(in crate::cli) no_compress: bool,
    #[command(flatten)]
    pub(in crate::cli) settings: SettingsArgs,
}

/// `imager bundle`.
#[derive(Debug, Args)]
pub(in crate::cli) struct BundleArgs {
    /// Architecture of the machines: aarch64, armv7 or x86_64.
    #[arg(short, long, value_name = "ARCH", value_parser = arch)]
    pub(in crate::cli) arch: Arch,
    /// The installer [default: out/kiln-install-ARCH.sh].
    #[arg(long = "file", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(in crate::cli) installer: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) sources: SourceArgs,
}

/// What the results are made of: container images, packages and the runtime.
#[derive(Debug, Args)]
pub(in crate::cli) struct SourceArgs {
    #[command(flatten)]
    pub(in crate::cli) images: PreloadArgs,
    #[command(flatten)]
    pub(in crate::cli) lock: LockArgs,
    /// Fail if the mirror would give other packages than the lock.
    #[arg(long)]
    pub(in crate::cli) locked: bool,
    /// Use what is in the cache and make no connection.
    #[arg(long)]
    pub(in crate::cli) offline: bool,
    /// Take this `kiln` and compile nothing.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(in crate::cli) runtime_binary: Option<PathBuf>,
    /// Tools that compile the runtime: auto, host, cross or debian.
    #[arg(long, value_name = "TOOLS", default_value_t, conflicts_with = "runtime_binary")]
    pub(in crate::cli) toolchain: Choice,
}

/// What goes onto the CONFIG partition.
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings of the node")]
pub(in crate::cli) struct SettingsArgs {
    /// Make the card part of this cluster (see `imager cluster init`).
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(in crate::cli) cluster: Option<PathBuf>,
    /// What the node is: server or agent.
    #[arg(long, value_name = "ROLE", value_parser = role)]
    pub(in crate::cli) role: Option<Role>,
    /// The node's name [default: from the board's serial number].
    #[arg(long, value_name = "NAME", requires = "role")]
    pub(in crate::cli) name: Option<String>,
    /// Agents: the server's URL, or `discover` to find it on the LAN [default: discover].
    #[arg(long, value_name = "URL", requires = "role")]
    pub(in crate::cli) server: Option<String>,
    /// Agents: a join token [default: the cluster's].
    #[arg(long, value_name = "TOKEN", requires = "role", env = "KILN_TOKEN", hide_env_values = true)]
    pub(in crate::cli) token: Option<String>,
    /// Take the settings from this file instead; --cluster adds its files and an agent's token.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["role", "name", "server", "token"], value_hint = ValueHint::FilePath)]
    pub(in crate::cli) config: Option<PathBuf>,
    /// Put this registries.toml, or registries.yaml of K3s, onto the card: mirrors and credentials of registries.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(in crate::cli) registries: Option<PathBuf>,
    /// Change a setting, such as time.servers=ntp.example.org (repeatable).
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(in crate::cli) set: Vec<(String, String)>,
}

/// Container images that come along.
#[derive(Debug, Args)]
pub(in crate::cli) struct PreloadArgs {
    /// Bring along the container images of this OCI archive, or the image of this name from its registry, so that pods start
    /// without one (repeatable).
    #[arg(long, value_name = "FILE|IMAGE", value_hint = ValueHint::FilePath)]
    pub(in crate::cli) container_image: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) auth: RegistryArgs,
}

/// Access to registries.
#[derive(Debug, Args)]
pub(in crate::cli) struct RegistryArgs {
    /// Credentials of registries, as Docker keeps them [default: config.json in $DOCKER_CONFIG or ~/.docker].
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(in crate::cli) registry_auth: Option<PathBuf>,
}

/// The lock file.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct LockArgs {
    /// The lock file [default: imager.lock of the checkout].
    #[arg(long = "lock", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(in crate::cli) file: Option<PathBuf>,
}

/// `imager update-lock`.
#[derive(Debug, Args)]
pub(in crate::cli) struct UpdateLockArgs {
    /// Only this board (repeatable) [default: all].
    #[arg(short, long, value_name = "NAME")]
    pub(in crate::cli) board: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) lock: LockArgs,
    #[command(flatten)]
    pub(in crate::cli) auth: RegistryArgs,
}

fn arch(text: &str) -> Result<Arch, String> {
    let named = Arch::ALL.into_iter().find(|arch| [arch.name(), arch.debian()].contains(&text));
    named.ok_or_else(|| format!("an architecture is one of {}", Arch::ALL.map(Arch::name).join(", ")))
}

fn role(text: &str) -> Result<Role, String> {
    match text {
        "server" => Ok(Role::Server),
        "agent" => Ok(Role::Agent),
        _ => Err("a role is `server` or `agent`".to_owned()),
    }
}

fn file_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with('.') || text.contains('/') {
        return Err("a name without slashes, not starting with a dot; the directory is --out's".to_owned());
    }
    Ok(text.to_owned())
}
