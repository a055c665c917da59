//! The CONFIG partition: the node's settings come in from it, `join-status.txt` goes out to it.
//!
//! It is mounted read-only; [`writer`] alone makes it writable, for the moment of a write.

pub(crate) mod medium;
mod mend;
pub(crate) mod scrub;
pub(crate) mod status;
pub(crate) mod writer;

use std::fs;
use std::io::ErrorKind;

use kiln_node_config::NodeConfig;
use nix::mount::MsFlags;

use crate::console::say;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::sys::mount::{attach, detach, is_mounted};

/// Where CONFIG is mounted.
pub(crate) const MOUNT: &str = "/config";
/// The node's settings.
pub(crate) const NODE_TOML: &str = "/config/node.toml";
/// The cluster's files that the imager put there.
pub(crate) const CLUSTER: &str = "/config/cluster";
/// What mounts of CONFIG always have.
pub(crate) const FLAGS: MsFlags =
    MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC).union(MsFlags::MS_NOATIME);

/// Mounts CONFIG (anew, if an earlier attempt did not like what it saw).
pub(crate) fn mount(disk: &Disk) -> Result<()> {
    let partition = disk.partition(1).ok_or_else(|| Error::Missing {
        what: format!("disk {} has no partition 1 (CONFIG)", disk.name),
        help: "Flash the card anew.",
    })?;
    if is_mounted(MOUNT) {
        detach(MOUNT, false)?;
    }
    match mend::mend(&partition) {
        Ok(true) => say!("CONFIG was being written when the power went; its tables were mended"),
        Ok(false) => {}
        // A card whose lock switch is set can still be read.
        Err(error) => say!("{error}"),
    }
    let device = partition.to_string_lossy();
    let flags = FLAGS | MsFlags::MS_RDONLY;
    attach(&device, MOUNT, "vfat", flags, "umask=0077,tz=UTC").map_err(|error| match error {
        Error::Io { source, .. } if source.raw_os_error() == Some(libc::EINVAL) => Error::Missing {
            what: format!("the CONFIG partition ({device}) holds no FAT file system"),
            help: "Flash the card anew: the board keeps its name.",
        },
        other => other,
    })
}

/// Reads and checks node.toml.
pub(crate) fn load() -> Result<NodeConfig> {
    let text = fs::read_to_string(NODE_TOML).map_err(|e| match e.kind() {
        ErrorKind::NotFound => Error::Missing {
            what: "the CONFIG partition has no node.toml".into(),
            help: "Put the card into a computer and write node.toml to the CONFIG partition (or run `imager config set` on the card).",
        },
        ErrorKind::InvalidData => Error::Config("node.toml is not UTF-8 text".into()),
        _ => Error::io("read", NODE_TOML, e),
    })?;
    NodeConfig::parse(&text, "node.toml").map_err(|e| Error::Config(e.to_string()))
}
