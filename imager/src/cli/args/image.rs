//! Flags of what takes an image: `config`, `run`, `flash`, `inspect`, `verify`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use imager::qemu::{Forward, options};

use super::pair;

/// `imager config …`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ConfigVerb {
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
pub(in crate::cli) struct ConfigSetArgs {
    /// Image file or device.
    #[arg(value_name = "IMAGE", value_hint = ValueHint::FilePath)]
    pub(in crate::cli) image: PathBuf,
    /// A key with its value.
    #[arg(value_name = "KEY=VALUE", value_parser = pair, required = true)]
    pub(in crate::cli) pairs: Vec<(String, String)>,
}

/// A verb that takes an image.
#[derive(Debug, Args)]
pub(in crate::cli) struct ImageArgs {
    /// Image file or device.
    #[arg(value_name = "IMAGE", value_hint = ValueHint::FilePath)]
    pub(in crate::cli) image: PathBuf,
}

/// `imager run`.
#[derive(Debug, Args)]
pub(in crate::cli) struct RunArgs {
    /// Image file or device.
    #[arg(value_name = "IMAGE", value_hint = ValueHint::FilePath)]
    pub(in crate::cli) image: PathBuf,
    /// The board [default: what the image says].
    #[arg(short, long, value_name = "NAME")]
    pub(in crate::cli) board: Option<String>,
    /// Lead a TCP port of this machine to one of the guest's (repeatable).
    #[arg(short, long, value_name = "HOST:GUEST", conflicts_with = "no_net")]
    pub(in crate::cli) forward: Vec<Forward>,
    /// Memory, such as 1G [default: the board's].
    #[arg(short, long, value_name = "SIZE", value_parser = memory)]
    pub(in crate::cli) memory: Option<String>,
    /// Size that the disk has at least.
    #[arg(long, value_name = "SIZE", value_parser = options::parse_size, default_value = "4G")]
    pub(in crate::cli) disk_size: u64,
    /// Add a network card on an Ethernet that all runs with this name share.
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) lan: Option<String>,
    /// Give the board no network card to the world.
    #[arg(long)]
    pub(in crate::cli) no_net: bool,
    /// The board's serial number; hardware addresses follow from it.
    #[arg(long, value_name = "SERIAL", value_parser = options::parse_serial)]
    pub(in crate::cli) serial: Option<String>,
    /// Record the serial console in this file.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(in crate::cli) serial_log: Option<PathBuf>,
    /// Offer QEMU's own monitor (QMP) on this socket, besides the one that ends the run.
    #[arg(long, value_name = "SOCKET", value_hint = ValueHint::FilePath)]
    pub(in crate::cli) monitor: Option<PathBuf>,
    /// Show no console and read no keys.
    #[arg(long)]
    pub(in crate::cli) headless: bool,
    /// Let this machine's processor run the guest, by KVM; the board must be of its architecture.
    #[arg(long)]
    pub(in crate::cli) kvm: bool,
    /// Leave the image unchanged: writes are thrown away at the end.
    #[arg(long)]
    pub(in crate::cli) snapshot: bool,
}

/// `imager flash`.
#[derive(Debug, Args)]
pub(in crate::cli) struct FlashArgs {
    /// Image file, plain or packed (.zst).
    #[arg(value_name = "IMAGE", value_hint = ValueHint::FilePath)]
    pub(in crate::cli) image: PathBuf,
    /// The card or disk, such as /dev/mmcblk0.
    #[arg(value_name = "DEVICE", value_hint = ValueHint::FilePath)]
    pub(in crate::cli) device: PathBuf,
    /// Write to a mounted or fixed device, or a plain file, too.
    #[arg(long)]
    pub(in crate::cli) force: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub(in crate::cli) yes: bool,
    /// Write all of the image, whatever its .bmap says.
    #[arg(long)]
    pub(in crate::cli) no_bmap: bool,
}

fn memory(text: &str) -> Result<String, String> {
    options::parse_size(text).map(|_| text.to_uppercase())
}
