//! Every verb and flag. Help, completions and man pages are made of this table.

mod build;
mod image;

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueHint};

use super::{exit, output::Format};
pub(super) use build::{BuildArgs, BundleArgs, LockArgs, SettingsArgs, SourceArgs, UpdateLockArgs};
pub(super) use image::{ConfigSetArgs, ConfigVerb, FlashArgs, ImageArgs, RunArgs};

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
  imager build --board rpi4 --container-image till.tar --container-image docker.io/library/busybox:1.36
  imager build --board rpi4 --cluster home --role server --manifest till.yaml
  imager build --board rpi4 --dry-run -o json")]
    Build(Box<BuildArgs>),
    /// Make an installer: one file that makes a node of any Linux, without a network.
    #[command(after_help = "\
The file installs kiln with Debian's containerd, runc and CNI plugins, their libraries beside them, so that it runs on every
distribution: `sh FILE --help` tells how. `kiln-uninstall` removes all of it.

Examples:
  imager bundle --arch x86_64
  imager bundle --arch aarch64 --container-image till.tar --file installer.sh
  sh out/kiln-install-x86_64.sh server
  KILN_URL=https://10.0.0.1:6443 KILN_TOKEN=K10... sh out/kiln-install-x86_64.sh")]
    Bundle(Box<BundleArgs>),
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
    /// Show what the cache keeps, or remove what no build uses any more.
    Cache {
        #[command(subcommand)]
        verb: CacheVerb,
    },
    /// Write shell completions to stdout.
    #[command(after_help = "Examples:\n  imager completions bash > ~/.local/share/bash-completion/completions/imager")]
    Completions(CompletionsArgs),
    /// Write man pages.
    #[command(after_help = "Examples:\n  imager man | man -l -\n  imager man --out ~/.local/share/man/man1")]
    Man(ManArgs),
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

/// `imager cache …`.
#[derive(Debug, Subcommand)]
pub(super) enum CacheVerb {
    /// List what the cache keeps, by kind.
    #[command(after_help = "Examples:\n  imager cache list\n  imager cache list -o json")]
    List,
    /// Remove what no build has used for some time.
    #[command(after_help = "\
All of it can be made again, by fetching packages and compiling. Package indices stay: they tell when a mirror hides newer
packages.

Examples:
  imager cache prune
  imager cache prune --unused-for 7 --dry-run")]
    Prune(CachePruneArgs),
}

/// `imager cache prune`.
#[derive(Debug, Args)]
pub(super) struct CachePruneArgs {
    /// Days since the last use, at least one: a build that runs now keeps what it uses.
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) unused_for: u64,
    /// Say what would go and remove nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
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

/// `KEY=VALUE`.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE, such as node.name=pi-1".to_owned()),
    }
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
