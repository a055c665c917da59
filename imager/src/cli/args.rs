//! Every verb and flag. Help, completions and man pages are made of this table.

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueHint};
use imager::{
    qemu::{Forward, options},
    toolchain::Choice,
};
use kiln_node_config::Role;

use super::{exit, output::Format};

/// Builds, inspects, flashes and boots Kiln images.
///
/// Needs no root, no container and no loop device. Results go to stdout, progress and errors to stderr.
#[derive(Debug, Parser)]
#[command(name = "imager", version, propagate_version = true, max_term_width = 120)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) globals: Globals,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

/// Flags of every verb.
#[derive(Clone, Debug, Args)]
pub(super) struct Globals {
    /// Form of what is printed on stdout.
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) output: Format,
    /// Directory for all that can be made again [default: $XDG_CACHE_HOME/kiln or ~/.cache/kiln].
    #[arg(long, global = true, value_name = "DIR", env = "KILN_CACHE", hide_env = true, value_hint = ValueHint::DirPath)]
    pub(super) cache: Option<PathBuf>,
    /// Base URL of a Debian mirror, ending in /debian [default: the user's imager.toml, or the host's apt sources].
    #[arg(long, global = true, value_name = "URL", env = "KILN_MIRROR", value_hint = ValueHint::Url)]
    pub(super) mirror: Option<String>,
    /// The Kiln checkout [default: the nearest one above the current directory].
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(super) workspace: Option<PathBuf>,
    /// Show no progress.
    #[arg(short, long, global = true)]
    pub(super) quiet: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Build a board's image.
    #[command(after_help = "\
Examples:
  imager build --board rpi4
  imager build --board x86_64 --cluster home --role server --name kiln-1
  imager build --board rpi4 --cluster home --role agent --name pi-1 --server discover
  imager build --board rpi4 --dry-run -o json")]
    Build(Box<BuildArgs>),
    /// List the boards.
    #[command(after_help = "Examples:\n  imager boards\n  imager boards -o json")]
    Boards,
    /// Move the lock to the newest packages of the mirror.
    #[command(after_help = "Examples:\n  imager update-lock\n  imager update-lock --board rpi4 --board x86_64")]
    UpdateLock(UpdateLockArgs),
    /// Make a cluster on this machine, before any board boots.
    Cluster {
        #[command(subcommand)]
        verb: ClusterVerb,
    },
    /// Show or change the settings on an image or card, without root.
    Config {
        #[command(subcommand)]
        verb: ConfigVerb,
    },
    /// Boot an image in QEMU the way its board does.
    #[command(after_help = "\
The disk is grown to --disk-size first (sparsely), so that the node's own partition has room. The board's serial number
follows from the image's path unless --serial gives one: the same file is the same board every time.

Examples:
  imager run out/kiln-x86_64.img --forward 6443:6443 --lan home
  imager run out/kiln-rpi4.img --lan home --serial 10000000abcdef01
  imager run out/kiln-rpi4.img --snapshot --headless --serial-log rpi4.log")]
    Run(Box<RunArgs>),
    /// Write an image to a card or disk, and read it back.
    #[command(after_help = "\
Only the blocks that the image's .bmap names are written. A device that is mounted, not removable, or holds the running
system is refused without --force; one that is too small is refused in any case.

Examples:
  imager flash out/kiln-rpi4.img /dev/mmcblk0
  imager flash out/kiln-rpi4.img.zst /dev/sdb --yes")]
    Flash(FlashArgs),
    /// Tell what an image or card is: board, versions, slots, sizes, root hash, settings.
    #[command(after_help = "Examples:\n  imager inspect out/kiln-rpi4.img\n  imager inspect /dev/mmcblk0 -o json")]
    Inspect(ImageArgs),
    /// Check an image's hashes: the file, its manifest's files, and the root's verity hash.
    #[command(after_help = "Examples:\n  imager verify out/kiln-rpi4.img")]
    Verify(ImageArgs),
    /// Write shell completions to stdout.
    #[command(after_help = "Examples:\n  imager completions bash > ~/.local/share/bash-completion/completions/imager")]
    Completions(CompletionsArgs),
    /// Write man pages.
    #[command(after_help = "Examples:\n  imager man | man -l -\n  imager man --out ~/.local/share/man/man1")]
    Man(ManArgs),
}

/// `imager build`.
#[derive(Debug, Args)]
pub(super) struct BuildArgs {
    /// The board; `imager boards` lists them.
    #[arg(short, long, value_name = "NAME")]
    pub(super) board: String,
    /// Directory for the results.
    #[arg(long, value_name = "DIR", default_value = "out", value_hint = ValueHint::DirPath)]
    pub(super) out: PathBuf,
    /// Name of the results, without extension [default: kiln-BOARD].
    #[arg(long, value_name = "NAME", value_parser = file_name)]
    pub(super) image_name: Option<String>,
    /// Add an overlay (repeatable).
    #[arg(long, value_name = "NAME")]
    pub(super) overlay: Vec<String>,
    /// Leave one of the board's overlays out (repeatable).
    #[arg(long, value_name = "NAME")]
    pub(super) without_overlay: Vec<String>,
    #[command(flatten)]
    pub(super) lock: LockArgs,
    /// Fail if the mirror would give other packages than the lock.
    #[arg(long)]
    pub(super) locked: bool,
    /// Use what is in the cache and make no connection.
    #[arg(long)]
    pub(super) offline: bool,
    /// Print the resolved profile and build nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Do not write the compressed image.
    #[arg(long)]
    pub(super) no_compress: bool,
    /// Take this `kiln` and compile nothing.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) runtime_binary: Option<PathBuf>,
    /// Tools that compile the runtime: auto, host, cross or debian.
    #[arg(long, value_name = "TOOLS", default_value_t, conflicts_with = "runtime_binary")]
    pub(super) toolchain: Choice,
    #[command(flatten)]
    pub(super) settings: SettingsArgs,
}

/// What goes onto the CONFIG partition.
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings of the node")]
pub(super) struct SettingsArgs {
    /// Make the card part of this cluster (see `imager cluster init`).
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(super) cluster: Option<PathBuf>,
    /// What the node is: server or agent.
    #[arg(long, value_name = "ROLE", value_parser = role)]
    pub(super) role: Option<Role>,
    /// The node's name [default: from the board's serial number].
    #[arg(long, value_name = "NAME", requires = "role")]
    pub(super) name: Option<String>,
    /// Agents: the server's URL, or `discover` to find it on the LAN [default: discover].
    #[arg(long, value_name = "URL", requires = "role")]
    pub(super) server: Option<String>,
    /// Agents: a join token [default: the cluster's].
    #[arg(long, value_name = "TOKEN", requires = "role", env = "KILN_TOKEN", hide_env_values = true)]
    pub(super) token: Option<String>,
    /// Take the settings from this file instead; --cluster adds its files and an agent's token.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["role", "name", "server", "token"], value_hint = ValueHint::FilePath)]
    pub(super) config: Option<PathBuf>,
    /// Change a setting, such as time.servers=ntp.example.org (repeatable).
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(super) set: Vec<(String, String)>,
}

/// The lock file.
#[derive(Clone, Debug, Args)]
pub(super) struct LockArgs {
    /// The lock file [default: imager.lock of the checkout].
    #[arg(long = "lock", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) file: Option<PathBuf>,
}

/// `imager update-lock`.
#[derive(Debug, Args)]
pub(super) struct UpdateLockArgs {
    /// Only this board (repeatable) [default: all].
    #[arg(short, long, value_name = "NAME")]
    pub(super) board: Vec<String>,
    #[command(flatten)]
    pub(super) lock: LockArgs,
}

/// `imager cluster …`.
#[derive(Debug, Subcommand)]
pub(super) enum ClusterVerb {
    /// Make a cluster's CA, join token and admin kubeconfig in a new directory.
    #[command(after_help = "\
Keep the directory safe: who has its ca.key owns the cluster. Agents' cards get ca.crt and the token, servers' cards also
ca.key and the tokens' hashes.

Examples:
  imager cluster init home --server 192.168.1.10
  kubectl --kubeconfig home/admin.kubeconfig get nodes")]
    Init(ClusterInitArgs),
}

/// `imager cluster init`.
#[derive(Debug, Args)]
pub(super) struct ClusterInitArgs {
    /// Directory to make.
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(super) directory: PathBuf,
    /// Name in the kubeconfig [default: the directory's].
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
    /// Where kubectl will find the API: a name, an address or a URL.
    #[arg(long, value_name = "ADDR", default_value = "https://127.0.0.1:6443")]
    pub(super) server: String,
}

/// `imager config …`.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigVerb {
    /// Show node.toml, the token masked.
    #[command(after_help = "Examples:\n  imager config show out/kiln-rpi4.img")]
    Show(ImageArgs),
    /// Change settings in node.toml; its comments stay.
    #[command(after_help = "\
Lists are written with commas or as TOML. All changes are checked together before anything is written.

Examples:
  imager config set out/kiln-rpi4.img node.name=pi-2 cluster.server=https://192.168.1.10:6443
  imager config set /dev/mmcblk0 time.servers=ntp.example.org,pool.ntp.org")]
    Set(ConfigSetArgs),
}

/// `imager config set`.
#[derive(Debug, Args)]
pub(super) struct ConfigSetArgs {
    /// Image file or device.
    #[arg(value_name = "IMAGE", value_hint = ValueHint::FilePath)]
    pub(super) image: PathBuf,
    /// A key with its value.
    #[arg(value_name = "KEY=VALUE", value_parser = pair, required = true)]
    pub(super) pairs: Vec<(String, String)>,
}

/// A verb that takes an image.
#[derive(Debug, Args)]
pub(super) struct ImageArgs {
    /// Image file or device.
    #[arg(value_name = "IMAGE", value_hint = ValueHint::FilePath)]
    pub(super) image: PathBuf,
}

/// `imager run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Image file or device.
    #[arg(value_name = "IMAGE", value_hint = ValueHint::FilePath)]
    pub(super) image: PathBuf,
    /// The board [default: what the image says].
    #[arg(short, long, value_name = "NAME")]
    pub(super) board: Option<String>,
    /// Lead a TCP port of this machine to one of the guest's (repeatable).
    #[arg(short, long, value_name = "HOST:GUEST", conflicts_with = "no_net")]
    pub(super) forward: Vec<Forward>,
    /// Memory, such as 1G [default: the board's].
    #[arg(short, long, value_name = "SIZE", value_parser = memory)]
    pub(super) memory: Option<String>,
    /// Size that the disk has at least.
    #[arg(long, value_name = "SIZE", value_parser = options::parse_size, default_value = "4G")]
    pub(super) disk_size: u64,
    /// Add a network card on an Ethernet that all runs with this name share.
    #[arg(long, value_name = "NAME")]
    pub(super) lan: Option<String>,
    /// Give the board no network card to the world.
    #[arg(long)]
    pub(super) no_net: bool,
    /// The board's serial number; hardware addresses follow from it.
    #[arg(long, value_name = "SERIAL", value_parser = options::parse_serial)]
    pub(super) serial: Option<String>,
    /// Record the serial console in this file.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) serial_log: Option<PathBuf>,
    /// Show no console and read no keys.
    #[arg(long)]
    pub(super) headless: bool,
    /// Let this machine's processor run the guest, by KVM; the board must be of its architecture.
    #[arg(long)]
    pub(super) kvm: bool,
    /// Leave the image unchanged: writes are thrown away at the end.
    #[arg(long)]
    pub(super) snapshot: bool,
}

/// `imager flash`.
#[derive(Debug, Args)]
pub(super) struct FlashArgs {
    /// Image file, plain or packed (.zst).
    #[arg(value_name = "IMAGE", value_hint = ValueHint::FilePath)]
    pub(super) image: PathBuf,
    /// The card or disk, such as /dev/mmcblk0.
    #[arg(value_name = "DEVICE", value_hint = ValueHint::FilePath)]
    pub(super) device: PathBuf,
    /// Write to a mounted or fixed device, or a plain file, too.
    #[arg(long)]
    pub(super) force: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub(super) yes: bool,
    /// Write all of the image, whatever its .bmap says.
    #[arg(long)]
    pub(super) no_bmap: bool,
}

/// `imager completions`.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub(super) shell: clap_complete::Shell,
}

/// `imager man`.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Directory for one page per verb [default: the main page to stdout].
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(super) out: Option<PathBuf>,
}

/// The whole command, with the exit codes in the help of every verb.
pub(super) fn command() -> clap::Command {
    let command = Cli::command().after_help(
        "\
Examples:
  imager boards
  imager cluster init home --server 192.168.1.10
  imager build --board rpi4 --cluster home --role agent --name pi-1
  imager flash out/kiln-rpi4.img /dev/mmcblk0",
    );
    with_exit_codes(command)
}

fn with_exit_codes(command: clap::Command) -> clap::Command {
    let help = match command.get_after_help() {
        Some(examples) => format!("{examples}\n\n{}", exit::TABLE),
        None => exit::TABLE.to_owned(),
    };
    let verbs: Vec<String> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    verbs.into_iter().fold(command.after_long_help(help), |command, verb| command.mut_subcommand(verb, with_exit_codes))
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE, such as node.name=pi-1".to_owned()),
    }
}

fn role(text: &str) -> Result<Role, String> {
    match text {
        "server" => Ok(Role::Server),
        "agent" => Ok(Role::Agent),
        _ => Err("a role is `server` or `agent`".to_owned()),
    }
}

fn memory(text: &str) -> Result<String, String> {
    options::parse_size(text).map(|_| text.to_uppercase())
}

fn file_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with('.') || text.contains('/') {
        return Err("a name without slashes, not starting with a dot; the directory is --out's".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_arguments_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_verb_has_examples() {
        for verb in command().get_subcommands() {
            let leaves: Vec<_> = verb.get_subcommands().collect();
            for leaf in if leaves.is_empty() { vec![verb] } else { leaves } {
                let help = leaf.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Examples:\n  imager "), "{}", leaf.get_name());
            }
        }
    }

    #[test]
    fn a_pair_may_have_equals_signs_in_its_value() {
        assert_eq!(pair("node.labels.a=b=c"), Ok(("node.labels.a".to_owned(), "b=c".to_owned())));
        assert!(pair("node.name").is_err());
        assert!(pair("=x").is_err());
    }
}
