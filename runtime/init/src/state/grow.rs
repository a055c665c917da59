//! Growing the last partition to the disk's end: a plan made from the partition table's bytes, then its writes.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use super::{gpt, mbr};
use crate::console::say;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::sys::partition;

/// A partition ends on a multiple of this, so that no erase block is shared with a fraction.
pub(super) const ALIGN: u64 = 1 << 20;
/// Growing for less than this is not worth a write to the partition table.
pub(super) const WORTHWHILE: u64 = 16 << 20;

/// The disk's shape.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    /// Bytes in a logical sector.
    pub(super) sector: u64,
    /// Sectors on the disk.
    pub(super) sectors: u64,
}

/// What to write, in order, each synced before the next; and where the partition then lies, in bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Offset and content of each write.
    pub(super) writes: Vec<(u64, Vec<u8>)>,
    /// Start of the partition.
    pub(super) start: u64,
    /// Its new length.
    pub(super) length: u64,
}

/// Reads bytes of a disk.
pub(super) type Read<'a> = &'a dyn Fn(u64, &mut [u8]) -> std::io::Result<()>;

/// Plans the growth of partition `number`, whichever kind of table there is; `None`: nothing to gain.
pub(super) fn plan(geometry: Geometry, read: Read<'_>, number: u32) -> Result<Option<Plan>> {
    let mut head = vec![0; 2 * geometry.sector as usize];
    read(0, &mut head).map_err(|e| Error::io("read", "the partition table", e))?;
    if head.get(geometry.sector as usize..).is_some_and(|header| header.starts_with(b"EFI PART")) {
        gpt::plan(geometry, read, number)
    } else {
        mbr::plan(geometry, &head[..512], number)
    }
}

/// Grows partition `number` of the disk on the medium and in the kernel.
pub(super) fn to_end(disk: &Disk, number: u32) -> Result<()> {
    let path = disk.path();
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(|e| Error::io("open", &path, e))?;
    let sector = disk.sector_size();
    let geometry = Geometry { sector, sectors: disk.size() / sector };
    let Some(plan) = plan(geometry, &|at, buffer| file.read_exact_at(buffer, at), number)? else {
        return Ok(());
    };
    for (offset, bytes) in &plan.writes {
        file.write_all_at(bytes, *offset).map_err(|e| Error::io("write the partition table of", &path, e))?;
        file.sync_all().map_err(|e| Error::io("write the partition table of", &path, e))?;
    }
    partition::resize(&file, &path, number, plan.start, plan.length)?;
    say!("STATE grown to {} MiB", plan.length >> 20);
    Ok(())
}

/// The last sector (inclusive) of a partition from `first` that may use the disk up to `last`, inclusive.
pub(super) fn aligned_last(sector: u64, first: u64, last: u64) -> u64 {
    let end = (last + 1) * sector / ALIGN * ALIGN / sector;
    end.saturating_sub(1).max(first)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// Runs sfdisk on an image file; `None` when this machine has no sfdisk.
    pub(crate) fn sfdisk(image: &std::path::Path, arguments: &[&str], script: &str) -> Option<String> {
        use std::io::Write;
        let mut child = Command::new("sfdisk")
            .args(arguments)
            .arg(image)
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        child.stdin.take()?.write_all(script.as_bytes()).ok()?;
        let output = child.wait_with_output().ok()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Grows partition 4 of an image that sfdisk made, and lets sfdisk check and list the result.
    pub(crate) fn grow_and_list(label: &str) -> Option<String> {
        let directory = tempfile::tempdir().expect("a directory");
        let image = directory.path().join("disk.img");
        let file = std::fs::File::create_new(&image).expect("created");
        file.set_len(64 << 20).expect("sized");
        let script = format!("label: {label}\nsize=8M\nsize=8M\nsize=8M\nsize=4M\n");
        sfdisk(&image, &["-q"], &script)?;
        file.set_len(256 << 20).expect("a larger card");
        let file = OpenOptions::new().read(true).write(true).open(&image).expect("open");
        let geometry = Geometry { sector: 512, sectors: (256 << 20) / 512 };
        let grown = plan(geometry, &|at, buffer| file.read_exact_at(buffer, at), 4).expect("a table").expect("room");
        for (offset, bytes) in &grown.writes {
            file.write_all_at(bytes, *offset).expect("written");
        }
        assert_eq!(
            plan(geometry, &|at, buffer| file.read_exact_at(buffer, at), 4).expect("a table"),
            None,
            "once is enough"
        );
        sfdisk(&image, &["--verify"], "")?;
        sfdisk(&image, &["--dump"], "")
    }

    #[test]
    fn ends_are_aligned_to_a_mebibyte() {
        assert_eq!(aligned_last(512, 2048, 10_000), 8191);
        assert_eq!(aligned_last(4096, 256, 1023), 1023);
    }
}
