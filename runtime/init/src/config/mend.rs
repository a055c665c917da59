//! A FAT whose writer lost power: the kernel marks it, warns at each mount from then on, and never clears the mark.
//!
//! A cut leaves at worst two allocation tables that differ, a stale count of free clusters, and clusters that belong to no
//! file. The first two are put right here, as fsck.fat does: the first table counts, the count is made anew.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::{Error, Result};

const SECTOR: usize = 512;
/// Bit of the boot sector's state byte: mounted writable and not unmounted since.
const DIRTY: u8 = 1;
/// Where FAT32's note of free clusters has their count, and what says that it is not known.
const FREE_COUNT: u64 = 488;
const UNKNOWN: [u8; 4] = [0xff; 4];

/// Where things are, as the boot sector tells.
#[derive(Debug, PartialEq, Eq)]
struct Geometry {
    /// The byte with the state.
    state: u64,
    /// First byte of the first table.
    table: u64,
    /// Length of a table.
    length: u64,
    /// FAT32's note of free clusters.
    note: Option<u64>,
}

impl Geometry {
    /// `None`: this is no FAT with two tables, so there is nothing to mend.
    fn parse(boot: &[u8; SECTOR]) -> Option<Self> {
        let short = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
        let sector = short(11);
        if boot[510..] != [0x55, 0xaa] || ![512, 1024, 2048, 4096].contains(&sector) || boot[16] != 2 {
            return None;
        }
        let table = short(14) * sector;
        Some(match short(22) {
            0 => {
                let sectors = u64::from(u32::from_le_bytes([boot[36], boot[37], boot[38], boot[39]]));
                Geometry { state: 0x41, table, length: sectors * sector, note: Some(short(48) * sector) }
            }
            sectors => Geometry { state: 0x25, table, length: sectors * sector, note: None },
        })
    }
}

/// Mends the file system on a device that is not mounted; says whether there was anything to mend.
pub(super) fn mend(device: &Path) -> Result<bool> {
    let failed = |e| Error::io("mend the file system on", device, e);
    let file = OpenOptions::new().read(true).write(true).open(device).map_err(failed)?;
    mend_file(&file).map_err(failed)
}

fn mend_file(file: &File) -> io::Result<bool> {
    let mut boot = [0; SECTOR];
    file.read_exact_at(&mut boot, 0)?;
    let Some(geometry) = Geometry::parse(&boot) else {
        return Ok(false);
    };
    let state = boot[geometry.state as usize];
    if state & DIRTY == 0 {
        return Ok(false);
    }
    let (mut first, mut second) = ([0; 4096], [0; 4096]);
    let mut at = 0;
    while at < geometry.length {
        let count = first.len().min((geometry.length - at) as usize);
        let places = [geometry.table + at, geometry.table + geometry.length + at];
        file.read_exact_at(&mut first[..count], places[0])?;
        file.read_exact_at(&mut second[..count], places[1])?;
        if first[..count] != second[..count] {
            file.write_all_at(&first[..count], places[1])?;
        }
        at += count as u64;
    }
    if let Some(note) = geometry.note {
        file.write_all_at(&UNKNOWN, note + FREE_COUNT)?;
    }
    // The mark goes last: a second cut in the middle of this starts it again.
    file.sync_all()?;
    file.write_all_at(&[state & !DIRTY], geometry.state)?;
    file.sync_all()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty FAT of 16 sectors a table, after one reserved sector.
    fn volume(wide: bool, state: u8) -> File {
        let file = tempfile::tempfile().expect("a file");
        let mut boot = [0u8; SECTOR];
        boot[11..13].copy_from_slice(&512u16.to_le_bytes());
        boot[14] = 2;
        boot[16] = 2;
        if wide {
            (boot[36], boot[48], boot[0x41]) = (16, 1, state);
        } else {
            (boot[22], boot[0x25]) = (16, state);
        }
        boot[510..].copy_from_slice(&[0x55, 0xaa]);
        file.set_len(64 * 512).expect("room");
        file.write_all_at(&boot, 0).expect("written");
        // The first table has a cluster more than the second.
        file.write_all_at(&[0xff; 8], 2 * 512 + 5000).expect("written");
        file
    }

    fn bytes(file: &File, at: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        file.read_exact_at(&mut bytes, at).expect("read");
        bytes
    }

    #[test]
    fn after_a_power_cut_both_tables_are_the_first_and_the_mark_is_gone() {
        for (wide, state) in [(false, 0x25), (true, 0x41)] {
            let file = volume(wide, 3);
            assert!(mend_file(&file).expect("mended"));
            assert_eq!(bytes(&file, 2 * 512, 8192), bytes(&file, 18 * 512, 8192));
            assert_eq!(bytes(&file, state, 1), [2], "other bits stay");
            assert_eq!(bytes(&file, 512 + FREE_COUNT, 4) == UNKNOWN, wide);
            assert!(!mend_file(&file).expect("read"), "the second time there is nothing to do");
        }
    }

    #[test]
    fn what_was_unmounted_and_what_is_no_fat_stay_as_they_are() {
        let file = volume(false, 0);
        assert!(!mend_file(&file).expect("read"));
        assert_eq!(bytes(&file, 18 * 512 + 5000, 8), [0; 8]);
        file.write_all_at(&[0, 0], 510).expect("written");
        file.write_all_at(&[1], 0x25).expect("written");
        assert!(!mend_file(&file).expect("read"));
    }
}
