//! MBR: one 16-byte entry in the first sector, so growing is a single sector's write.

use super::grow::{Geometry, Plan, WORTHWHILE, aligned_last};
use crate::error::{Error, Result};

const TABLE: usize = 446;
const ENTRY: usize = 16;
/// An end beyond the reach of cylinder, head and sector, as every partitioning tool writes it.
const CHS_BEYOND: [u8; 3] = [0xfe, 0xff, 0xff];

/// Plans the growth of primary partition `number`; `sector` is the disk's first 512 bytes.
pub(super) fn plan(geometry: Geometry, sector: &[u8], number: u32) -> Result<Option<Plan>> {
    let wrong = |why: &str| Error::malformed("MBR partition table", why);
    if sector.len() != 512 || sector[510..512] != [0x55, 0xaa] {
        return Err(wrong("has no signature"));
    }
    let entries: Vec<(u64, u64)> = (0..4).map(|index| extent(sector, index)).collect();
    let index = match number {
        1..=4 => number as usize - 1,
        _ => return Err(wrong("has four partitions at most")),
    };
    let (first, size) = entries[index];
    if size == 0 {
        return Err(wrong("its last partition is empty"));
    }
    if entries.iter().any(|(start, size)| *size > 0 && *start > first) {
        return Err(wrong("another partition lies behind STATE"));
    }
    // 32-bit start and size: 2 TiB with sectors of 512 bytes.
    let last = aligned_last(geometry.sector, first, geometry.sectors.saturating_sub(1).min(u64::from(u32::MAX)));
    let grown = (last + 1 - first).min(u64::from(u32::MAX));
    if grown * geometry.sector < size * geometry.sector + WORTHWHILE {
        return Ok(None);
    }
    let mut bytes = sector.to_vec();
    let at = TABLE + index * ENTRY;
    bytes[at + 5..at + 8].copy_from_slice(&CHS_BEYOND);
    bytes[at + 12..at + 16].copy_from_slice(&(grown as u32).to_le_bytes());
    Ok(Some(Plan { writes: vec![(0, bytes)], start: first * geometry.sector, length: grown * geometry.sector }))
}

/// Start and size of an entry in sectors.
fn extent(sector: &[u8], index: usize) -> (u64, u64) {
    let at = TABLE + index * ENTRY;
    let word = |at: usize| u64::from(u32::from_le_bytes([sector[at], sector[at + 1], sector[at + 2], sector[at + 3]]));
    (word(at + 8), word(at + 12))
}

#[cfg(test)]
mod tests {
    use super::super::grow::tests::grow_and_list;
    use super::*;

    fn table(entries: &[(u32, u32)]) -> Vec<u8> {
        let mut sector = vec![0u8; 512];
        sector[510..512].copy_from_slice(&[0x55, 0xaa]);
        for (index, (start, size)) in entries.iter().enumerate() {
            let at = TABLE + index * ENTRY;
            sector[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
            sector[at + 12..at + 16].copy_from_slice(&size.to_le_bytes());
        }
        sector
    }

    const DISK: Geometry = Geometry { sector: 512, sectors: 1 << 20 };

    #[test]
    fn only_the_last_partitions_size_changes() {
        let before = table(&[(2048, 2048), (4096, 2048), (6144, 2048), (8192, 2048)]);
        let plan = plan(DISK, &before, 4).expect("valid").expect("room");
        assert_eq!(plan.start, 8192 * 512);
        assert_eq!(plan.length, ((1 << 20) - 8192) * 512);
        let after = &plan.writes[0].1;
        let changed: Vec<usize> = (0..512).filter(|i| before[*i] != after[*i]).collect();
        assert!(changed.iter().all(|i| (494..512 - 2).contains(i)), "{changed:?}");
    }

    #[test]
    fn a_partition_behind_state_or_an_absent_one_is_an_error() {
        assert!(plan(DISK, &table(&[(2048, 1), (9000, 1), (0, 0), (8192, 1)]), 4).is_err());
        assert!(plan(DISK, &table(&[(2048, 1)]), 4).is_err());
        assert!(plan(DISK, &[0; 512], 4).is_err());
    }

    #[test]
    fn a_disk_beyond_two_tebibytes_is_used_as_far_as_an_mbr_reaches() {
        let disk = Geometry { sector: 512, sectors: 1 << 34 };
        let plan = plan(disk, &table(&[(0, 0), (0, 0), (0, 0), (8192, 2048)]), 4).expect("valid").expect("room");
        assert!(plan.length / 512 <= u64::from(u32::MAX));
    }

    #[test]
    fn sfdisk_agrees_with_a_grown_mbr() {
        if let Some(dump) = grow_and_list("dos") {
            // 25 MiB to 256 MiB.
            assert!(dump.contains("4 : start=       51200, size=      473088"), "{dump}");
        }
    }
}
