//! The STATE partition: grown to the disk's end and formatted at first boot, checked and mounted at every boot.
//!
//! Flows in: the boot disk. Flows out: `/state` (ext4, noatime), `/var` bound from it, the machine id.

mod ext4;
mod gpt;
mod grow;
mod mbr;

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;

use crate::console::say;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::sys::command;
use crate::sys::mount::{attach, bind, is_mounted};

/// Where STATE is mounted.
pub(crate) const MOUNT: &str = "/state";
const PARTITION: u32 = 4;
const MKE2FS: &str = "/usr/sbin/mke2fs";
const E2FSCK: &str = "/usr/sbin/e2fsck";
const RESIZE2FS: &str = "/usr/sbin/resize2fs";

/// Brings STATE up. Called again after a failure, it goes on with what is missing.
pub(crate) fn bring_up(disk: &Disk) -> Result<()> {
    let partition = disk.partition(PARTITION).ok_or_else(|| Error::Missing {
        what: format!("disk {} has no partition {PARTITION} (STATE)", disk.name),
        help: "Flash the card anew.",
    })?;
    if !is_mounted(MOUNT) {
        if let Err(error) = grow::to_end(disk, PARTITION) {
            // A small STATE is better than none.
            say!("STATE not grown: {error}");
        }
        prepare(&partition)?;
        let flags = MsFlags::MS_NOATIME | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        attach(&partition.to_string_lossy(), MOUNT, "ext4", flags, "")?;
    }
    fill_partition(&partition)?;
    let var = format!("{MOUNT}/var");
    for directory in [var.as_str(), &format!("{var}/lib"), &format!("{var}/lib/kiln"), &format!("{var}/log")] {
        fs::create_dir_all(directory).map_err(|e| Error::io("create", directory, e))?;
    }
    if !is_mounted("/var") {
        bind(&var, "/var")?;
    }
    machine_id()
}

/// A file system that can be mounted: checked if there is one, made if there never was one.
fn prepare(partition: &Path) -> Result<()> {
    let device = partition.to_string_lossy();
    if ext4::is_there(partition)? {
        return check(&device);
    }
    say!("STATE is new; formatting {device}");
    // lazy_itable_init and lazy_journal_init: the first boot does not write a card full of zeros. nodiscard: erasing the
    // whole of a card takes some of them minutes, and the node is to join first. 1 % reserved instead of 5: this is not a root file system. 4 KiB blocks whatever the size.
    let options = "lazy_itable_init=1,lazy_journal_init=1,nodiscard";
    let arguments = ["-t", "ext4", "-F", "-q", "-L", "STATE", "-m", "1", "-b", "4096", "-E", options, &device];
    match command::run(MKE2FS, &arguments)? {
        (0, _) => Ok(()),
        (code, output) => Err(failed(MKE2FS, code, output)),
    }
}

fn check(device: &str) -> Result<()> {
    // Bits of e2fsck's exit code: 1 and 2 mean repaired, 4 and up mean not repaired.
    let (code, output) = command::run(E2FSCK, &["-p", device])?;
    if code < 4 {
        if code > 0 {
            say!("STATE was repaired: {output}");
        }
        return Ok(());
    }
    say!("STATE needs a thorough repair: {output}");
    match command::run(E2FSCK, &["-f", "-y", device])? {
        (code, _) if code < 4 => Ok(()),
        (code, output) => Err(failed(E2FSCK, code, output)),
    }
}

/// Grows the mounted file system to its partition, after a card was copied to a larger one.
fn fill_partition(partition: &Path) -> Result<()> {
    if !ext4::is_smaller_than(partition)? {
        return Ok(());
    }
    let device = partition.to_string_lossy();
    match command::run(RESIZE2FS, &[&device])? {
        (0, _) => say!("STATE's file system was grown to its partition"),
        (code, output) => say!("{}", failed(RESIZE2FS, code, output)),
    }
    Ok(())
}

fn failed(program: &str, code: i32, output: String) -> Error {
    let lines: Vec<&str> = output.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(6)..).unwrap_or(&lines).join("; ");
    Error::Command { program: program.into(), status: format!("exit code {code}"), output: tail }
}

/// The machine id: made once, kept on STATE, shown at `/run/machine-id`.
fn machine_id() -> Result<()> {
    let kept = PathBuf::from(MOUNT).join("machine-id");
    let text = match fs::read_to_string(&kept) {
        Ok(text) if is_machine_id(text.trim()) => text,
        _ => {
            let mut bytes = [0u8; 16];
            crate::random::fill(&mut bytes);
            let id: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            let text = format!("{id}\n");
            crate::files::replace(&kept, text.as_bytes())?;
            text
        }
    };
    fs::write("/run/machine-id", text).map_err(|e| Error::io("write", "/run/machine-id", e))
}

fn is_machine_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
