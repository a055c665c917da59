//! What a directly booted machine is given, taken out of the image.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{RunError, fdt::Fdt, machine::Machine};
use crate::inspect::{Card, slots::active_slot};

/// Files for QEMU's own loader, in a directory of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assets {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
    /// The device tree with the board's edits; absent when the machine makes its own.
    pub dtb: Option<PathBuf>,
    /// The kernel command line.
    pub cmdline: String,
}

/// Takes kernel, initramfs, command line and device tree out of the slot that the board would start.
///
/// # Errors
/// [`RunError::Card`] when one is missing or the image is damaged, [`RunError::DeviceTree`], [`RunError::Io`].
pub fn extract(card: &Card, machine: &Machine, serial: &str, into: &Path) -> Result<Assets, RunError> {
    let slot = active_slot(card)?;
    let copy = |name: &str| -> Result<PathBuf, RunError> {
        let path = into.join(name);
        write(&path, &card.read(slot, name)?)?;
        Ok(path)
    };
    let cmdline = String::from_utf8_lossy(&card.read(slot, "cmdline.txt")?).trim().to_owned();
    let cmdline = if machine.append.is_empty() { cmdline } else { format!("{cmdline} {}", machine.append) };
    let dtb = match &machine.dtb {
        Some(name) => {
            let tree = device_tree(&card.read(slot, name)?, machine, serial)
                .map_err(|source| RunError::DeviceTree { file: name.clone(), source })?;
            let path = into.join("board.dtb");
            write(&path, &tree)?;
            Some(path)
        }
        None => None,
    };
    Ok(Assets { kernel: copy("vmlinuz")?, initramfs: copy("initramfs.zst")?, dtb, cmdline })
}

/// The board's device tree as QEMU's machine needs it, with the serial number that a real board's firmware puts in.
fn device_tree(bytes: &[u8], machine: &Machine, serial: &str) -> Result<Vec<u8>, super::fdt::FdtError> {
    let mut tree = Fdt::parse(bytes)?;
    tree.apply(&machine.dtb_edits);
    tree.set("/", "serial-number", format!("{serial}\0").as_bytes());
    Ok(tree.to_bytes())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    fs::write(path, bytes).map_err(RunError::io("write", path.display()))
}
