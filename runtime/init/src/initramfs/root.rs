//! The verified root: slot FAT -> loop device -> dm-verity -> squashfs on `/sysroot`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::mount::MsFlags;

use super::verity::{SUPERBLOCK, Superblock};
use crate::cmdline::BootParams;
use crate::config::status::Status;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::sys::mount::{attach, detach, is_mounted};
use crate::sys::{dm, loopdev};

/// Where the new root is built.
pub(crate) const SYSROOT: &str = "/sysroot";
const SLOT: &str = "/run/kiln/slot";
const MAPPED: &str = "kiln-root";

/// Mounts the slot's root, checked block by block against the command line's hash.
pub(super) fn mount(params: &BootParams, disk: &Disk) -> Result<()> {
    if is_mounted(SYSROOT) {
        return Ok(());
    }
    let number = params.slot.partition();
    let partition = disk.partition(number).ok_or_else(|| Error::Missing {
        what: format!("disk {} has no partition {number}", disk.name),
        help: "Flash the card anew.",
    })?;
    if !is_mounted(SLOT) {
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        attach(&partition.to_string_lossy(), SLOT, "vfat", flags, "")?;
    }
    let image = Path::new(SLOT).join("root.squashfs");
    let superblock = read_superblock(&image, params.hash_offset)?;
    // A failed earlier attempt may have left it behind.
    dm::remove(MAPPED);
    let device = loopdev::attach(&image)?;
    let table = superblock.table(&device.path.to_string_lossy(), params.hash_offset, &params.root_hash)?;
    let mapped = dm::create_read_only(MAPPED, "verity", superblock.data_sectors(), &table)?;
    attach(&mapped.to_string_lossy(), SYSROOT, "squashfs", MsFlags::MS_RDONLY | MsFlags::MS_NODEV, "").map_err(
        |error| match error {
            // Both are what a block that does not match its hash looks like from above.
            Error::Io { source, .. } if matches!(source.raw_os_error(), Some(libc::EIO | libc::EINVAL)) => {
                Error::malformed(
                    format!("{} on {}", image.display(), partition.display()),
                    format!("the root does not match its hash {} ({source})", params.root_hash),
                )
            }
            other => other,
        },
    )
}

fn read_superblock(image: &Path, offset: u64) -> Result<Superblock> {
    let file = File::open(image).map_err(|e| Error::io("open", image, e))?;
    let mut bytes = [0u8; SUPERBLOCK];
    file.read_exact_at(&mut bytes, offset).map_err(|e| Error::io("read the verity superblock of", image, e))?;
    Superblock::parse(&bytes)
}

/// Writes a failure to CONFIG while nothing else is mounted.
pub(super) fn write_status(partition: &Path, status: &Status) -> Result<()> {
    const TARGET: &str = "/run/kiln/config";
    attach(
        &partition.to_string_lossy(),
        TARGET,
        "vfat",
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        "",
    )?;
    let written = crate::files::replace(&Path::new(TARGET).join("join-status.txt"), status.render(None).as_bytes());
    detach(TARGET, false)?;
    written
}
