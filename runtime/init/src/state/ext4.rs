//! Just enough of ext4's superblock to tell whether one is there and how large its file system is.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::{Error, Result};

const SUPERBLOCK: u64 = 1024;
const MAGIC: [u8; 2] = [0x53, 0xef];
/// Blocks in a group of a file system with 4 KiB blocks.
const GROUP: u64 = 32_768 * 4096;
/// Groups that hold a copy of the superblock (sparse_super).
const COPIES: [u64; 6] = [1, 3, 5, 7, 9, 25];
/// Growing for less than this is not worth the writes.
const WORTHWHILE: u64 = 16 << 20;

/// Whether the partition has, or had, an ext4 file system. mke2fs writes the copies and then the first superblock at
/// its very end, so a format that a power cut stopped leaves neither; a superblock that was damaged later leaves copies,
/// from which e2fsck restores it. Only what has none of them was never formatted.
pub(super) fn is_there(partition: &Path) -> Result<bool> {
    let file = File::open(partition).map_err(|e| Error::io("open", partition, e))?;
    any_superblock(|at, buffer| file.read_exact_at(buffer, at)).map_err(|e| Error::io("read", partition, e))
}

fn any_superblock(read: impl Fn(u64, &mut [u8]) -> std::io::Result<()>) -> std::io::Result<bool> {
    let mut head = [0u8; 128];
    read(SUPERBLOCK, &mut head)?;
    if head[56..58] == MAGIC {
        return Ok(true);
    }
    Ok(COPIES.iter().any(|group| {
        let mut copy = [0u8; 128];
        // Beyond the end of a small partition there is no copy.
        read(group * GROUP, &mut copy).is_ok()
            && copy[56..58] == MAGIC
            && u64::from(u16::from_le_bytes([copy[90], copy[91]])) == *group
    }))
}

/// Whether the file system leaves a worthwhile part of its partition unused.
pub(super) fn is_smaller_than(partition: &Path) -> Result<bool> {
    let mut file = File::open(partition).map_err(|e| Error::io("open", partition, e))?;
    let size = file.seek(SeekFrom::End(0)).map_err(|e| Error::io("measure", partition, e))?;
    let mut head = [0u8; 512];
    file.read_exact_at(&mut head, SUPERBLOCK).map_err(|e| Error::io("read", partition, e))?;
    Ok(extent(&head).saturating_add(WORTHWHILE) < size)
}

/// Size of the file system in bytes.
fn extent(superblock: &[u8; 512]) -> u64 {
    let word =
        |at: usize| u32::from_le_bytes([superblock[at], superblock[at + 1], superblock[at + 2], superblock[at + 3]]);
    // The upper half counts only with the 64bit feature; otherwise it is zero.
    let blocks = u64::from(word(4)) | u64::from(word(0x150)) << 32;
    let block_size = 1024u64.checked_shl(word(24)).unwrap_or(0);
    blocks.saturating_mul(block_size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(at: &[(u64, u16)]) -> impl Fn(u64, &mut [u8]) -> std::io::Result<()> {
        let superblocks = at.to_vec();
        move |offset, buffer| {
            buffer.fill(0);
            if let Some((_, group)) = superblocks.iter().find(|(at, _)| *at == offset) {
                buffer[56..58].copy_from_slice(&MAGIC);
                buffer[90..92].copy_from_slice(&group.to_le_bytes());
            }
            Ok(())
        }
    }

    #[test]
    fn a_blank_partition_was_never_formatted() {
        assert!(!any_superblock(disk(&[])).expect("read"));
    }

    #[test]
    fn a_damaged_first_superblock_does_not_mean_new() {
        assert!(any_superblock(disk(&[(SUPERBLOCK, 0)])).expect("read"));
        assert!(any_superblock(disk(&[(3 * GROUP, 3)])).expect("read"));
        assert!(!any_superblock(disk(&[(3 * GROUP, 1)])).expect("read"), "a stray magic number is no copy");
    }

    #[test]
    fn the_size_comes_from_blocks_and_block_size() {
        let mut superblock = [0u8; 512];
        superblock[4..8].copy_from_slice(&1000u32.to_le_bytes());
        superblock[24..28].copy_from_slice(&2u32.to_le_bytes());
        assert_eq!(extent(&superblock), 4_096_000);
    }
}
