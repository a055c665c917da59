//! What a directly booted machine is given, taken out of the image.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{RunError, fdt::Fdt, machine::Machine};
use crate::{image::reader::Part, inspect::card::Card};

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

/// The slot that `autoboot.txt` names, as the Raspberry Pi's firmware reads it; slot A where there is none.
pub(crate) fn active_slot(card: &Card) -> Result<Part, RunError> {
    let text = card.read_if_there(Part::Config, "autoboot.txt")?.unwrap_or_default();
    Ok(match boot_partition(&String::from_utf8_lossy(&text)) {
        Some(3) => Part::SlotB,
        _ => Part::SlotA,
    })
}

/// `boot_partition` in the section for a normal start.
fn boot_partition(text: &str) -> Option<u8> {
    let mut normal = true;
    let mut found = None;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            normal = line == "[all]";
        } else if let Some(("boot_partition", number)) = line.split_once('=')
            && normal
        {
            found = number.trim().parse().ok();
        }
    }
    found
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    fs::write(path, bytes).map_err(RunError::io("write", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_normal_start_takes_the_partition_for_all() {
        assert_eq!(boot_partition("[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n"), Some(2));
        assert_eq!(boot_partition("[tryboot]\nboot_partition=2\n[all]\nboot_partition=3\n"), Some(3));
        assert_eq!(boot_partition(""), None);
    }
}
