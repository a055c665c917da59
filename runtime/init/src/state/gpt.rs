//! GPT: the last partition's entry, both headers with their checksums, and the backup's move to the new end.

use super::grow::{Geometry, Plan, Read, WORTHWHILE, aligned_last};
use crate::error::{Error, Result};

/// Offsets in a header.
const HEADER_SIZE: usize = 12;
const HEADER_CRC: usize = 16;
const MY_LBA: usize = 24;
const ALTERNATE_LBA: usize = 32;
const LAST_USABLE: usize = 48;
const ENTRIES_LBA: usize = 72;
const ENTRY_COUNT: usize = 80;
const ENTRY_SIZE: usize = 84;
const ENTRIES_CRC: usize = 88;
/// Offsets in an entry.
const FIRST_LBA: usize = 32;
const LAST_LBA: usize = 40;

/// Plans the growth of partition `number`. The new backup is written first, then MBR, header and entries at the disk's
/// start in one write: until then the old primary stays valid.
pub(super) fn plan(geometry: Geometry, read: Read<'_>, number: u32) -> Result<Option<Plan>> {
    let wrong = |why: &str| Error::malformed("GPT partition table", why);
    let sector = geometry.sector as usize;
    let load = |lba: u64, length: usize| -> Result<Vec<u8>> {
        let mut buffer = vec![0; length];
        read(lba * geometry.sector, &mut buffer).map_err(|e| Error::io("read", "the partition table", e))?;
        Ok(buffer)
    };
    let mut header = load(1, sector)?;
    if !is_header_valid(&header) {
        return Err(wrong("its header's checksum is wrong"));
    }
    let (count, size) = (word(&header, ENTRY_COUNT) as usize, word(&header, ENTRY_SIZE) as usize);
    if long(&header, ENTRIES_LBA) != 2 || !(4..=1024).contains(&count) || !(128..=4096).contains(&size) {
        return Err(wrong("is laid out in an unusual way"));
    }
    let table_sectors = (count * size).div_ceil(sector);
    let mut entries = load(2, table_sectors * sector)?;
    if crc32fast::hash(&entries[..count * size]) != word(&header, ENTRIES_CRC) {
        return Err(wrong("its entries' checksum is wrong"));
    }
    let index = number as usize - 1;
    let entry = index * size;
    if number == 0 || index >= count || entries[entry..entry + 16] == [0; 16] {
        return Err(wrong("its last partition is empty"));
    }
    let (first, old_last) = (long(&entries, entry + FIRST_LBA), long(&entries, entry + LAST_LBA));
    let behind =
        (0..count).any(|i| entries[i * size..i * size + 16] != [0; 16] && long(&entries, i * size + FIRST_LBA) > first);
    if behind {
        return Err(wrong("another partition lies behind STATE"));
    }
    let backup = geometry.sectors.saturating_sub(1);
    let backup_entries = backup.saturating_sub(table_sectors as u64);
    let usable = backup_entries.saturating_sub(1);
    let last = aligned_last(geometry.sector, first, usable);
    if last * geometry.sector < old_last * geometry.sector + WORTHWHILE {
        return Ok(None);
    }
    put_long(&mut entries, entry + LAST_LBA, last);
    put_long(&mut header, LAST_USABLE, usable);
    put_long(&mut header, ALTERNATE_LBA, backup);
    put_word(&mut header, ENTRIES_CRC, crc32fast::hash(&entries[..count * size]));
    seal(&mut header);
    let mut copy = header.clone();
    put_long(&mut copy, MY_LBA, backup);
    put_long(&mut copy, ALTERNATE_LBA, 1);
    put_long(&mut copy, ENTRIES_LBA, backup_entries);
    seal(&mut copy);
    let mut start = load(0, sector)?;
    protect(&mut start, geometry.sectors);
    start.extend_from_slice(&header);
    start.extend_from_slice(&entries);
    let writes = vec![(backup_entries * geometry.sector, [entries, copy].concat()), (0, start)];
    Ok(Some(Plan { writes, start: first * geometry.sector, length: (last + 1 - first) * geometry.sector }))
}

/// Lets the protective MBR's entry cover the whole disk.
fn protect(mbr: &mut [u8], sectors: u64) {
    if mbr[450] == 0xee {
        let size = u32::try_from(sectors - 1).unwrap_or(u32::MAX);
        put_word(mbr, 458, size);
    }
}

fn is_header_valid(header: &[u8]) -> bool {
    let size = word(header, HEADER_SIZE) as usize;
    header.starts_with(b"EFI PART")
        && (92..=header.len()).contains(&size)
        && checksum(header, size) == word(header, HEADER_CRC)
}

fn seal(header: &mut [u8]) {
    let size = word(header, HEADER_SIZE) as usize;
    let crc = checksum(header, size);
    put_word(header, HEADER_CRC, crc);
}

/// The header's CRC-32, taken with its own field as zero.
fn checksum(header: &[u8], size: usize) -> u32 {
    let mut bytes = header[..size].to_vec();
    put_word(&mut bytes, HEADER_CRC, 0);
    crc32fast::hash(&bytes)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32
}

fn put_word(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn put_long(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::grow::tests::grow_and_list;
    use super::*;

    #[test]
    fn sfdisk_agrees_with_a_grown_gpt() {
        if let Some(dump) = grow_and_list("gpt") {
            assert!(dump.contains("last-lba: 524254"), "{dump}");
            // 25 MiB to 255 MiB: the last whole mebibyte before the backup.
            assert!(dump.contains("4 : start=       51200, size=      471040"), "{dump}");
        }
    }

    #[test]
    fn a_header_with_a_wrong_checksum_is_left_alone() {
        let geometry = Geometry { sector: 512, sectors: 1 << 20 };
        let mut disk = vec![0u8; 64 * 512];
        disk[512..520].copy_from_slice(b"EFI PART");
        let read = |at: u64, buffer: &mut [u8]| {
            let at = at as usize;
            buffer.copy_from_slice(&disk[at..at + buffer.len()]);
            Ok(())
        };
        assert!(plan(geometry, &read, 4).expect_err("refused").to_string().contains("checksum"));
    }
}
