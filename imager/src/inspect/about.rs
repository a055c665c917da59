//! Which board an image is for: `image.json`, which the build puts into the initramfs.

use serde::{Deserialize, Serialize};

use super::{Card, CardError, cpio};
use crate::image::reader::Part;

/// Where the initramfs is: in the slot, or on UEFI beside the boot loader.
const PLACES: [(Part, &str); 2] = [(Part::SlotA, "/initramfs.zst"), (Part::Config, "/kiln/a/initramfs.zst")];
const FILE: &str = "etc/kiln/image.json";
/// An unpacked initramfs is some tens of MiB; a stranger's may claim to be anything.
const LIMIT: u64 = 512 << 20;

/// What an image is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    /// Board name, as `boards/` has it.
    pub board: String,
    /// Architecture.
    pub arch: String,
    /// Version of Kiln.
    pub version: String,
    /// Seconds since 1970.
    pub build_time: i64,
    /// Kernel version.
    pub kernel: String,
    /// Debian suite.
    pub suite: String,
    /// Container runtime with its version.
    pub container_runtime: Option<String>,
}

/// Reads what an image is; `None` when it does not say.
///
/// # Errors
/// [`CardError`] when a partition cannot be read.
pub fn about(card: &Card) -> Result<Option<About>, CardError> {
    for (part, file) in PLACES {
        if let Some(packed) = card.read_if_there(part, file)? {
            return Ok(parse(&packed));
        }
    }
    Ok(None)
}

fn parse(packed: &[u8]) -> Option<About> {
    let mut archive = Vec::new();
    let decoder = zstd::Decoder::new(packed).ok()?;
    std::io::copy(&mut std::io::Read::take(decoder, LIMIT), &mut archive).ok()?;
    serde_json::from_slice(cpio::find(&archive, FILE)?).ok()
}
