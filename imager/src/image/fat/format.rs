//! Making an empty file system.

use std::io;

use super::{FatError, table::SECTOR};
use crate::image::medium::{Medium, Window};

const MIB: u64 = 1024 * 1024;

/// Whether a partition of `length` bytes gets FAT32 (true) or FAT16.
pub fn is_fat32(length: u64) -> bool {
    length >= 100 * MIB
}

/// Makes an empty file system that fills the window of `length` bytes.
///
/// # Errors
/// [`FatError::Io`]; also for a length outside 4 MiB to 32 GiB.
pub fn format<M: Medium>(window: Window<M>, length: u64, label: &str, volume_id: u32) -> Result<(), FatError> {
    write(window, length, label, volume_id).map_err(|source| FatError::Io {
        label: label.to_owned(),
        path: "/".to_owned(),
        source,
    })
}

fn write<M: Medium>(mut window: Window<M>, length: u64, label: &str, volume_id: u32) -> io::Result<()> {
    if !(4 * MIB..=32 * 1024 * MIB).contains(&length) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a FAT partition has 4 MiB to 32 GiB"));
    }
    let wide = is_fat32(length);
    // Cluster counts that are safely within what defines FAT16 (4085 to 65524) and FAT32 (above).
    let cluster = (length / if wide { 131_072 } else { 16_384 }).next_power_of_two().clamp(512, 32_768);
    let sectors = length / SECTOR;
    let per_cluster = cluster / SECTOR;
    let reserved: u64 = if wide { 32 } else { 1 };
    let root_sectors: u64 = if wide { 0 } else { 32 };
    let entry: u64 = if wide { 4 } else { 2 };
    // Counting the tables' own room as data makes them a little larger than needed, which is allowed.
    let clusters = (sectors - reserved - root_sectors) / per_cluster;
    // Whole pages, so that on FAT32 the data are aligned like the partition.
    let fat_sectors = ((clusters + 2) * entry).div_ceil(SECTOR).next_multiple_of(8);

    let mut name = [b' '; 11];
    for (to, from) in name.iter_mut().zip(label.bytes()) {
        *to = from.to_ascii_uppercase();
    }
    let mut boot = [0u8; SECTOR as usize];
    let mut put = |at: usize, bytes: &[u8]| boot[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, if wide { &[0xeb, 0x58, 0x90] } else { &[0xeb, 0x3c, 0x90] });
    put(3, b"MSWIN4.1");
    put(11, &(SECTOR as u16).to_le_bytes());
    put(13, &[per_cluster as u8]);
    put(14, &(reserved as u16).to_le_bytes());
    put(16, &[2]);
    put(17, &((root_sectors * SECTOR / 32) as u16).to_le_bytes());
    match u16::try_from(sectors) {
        Ok(small) if !wide => put(19, &small.to_le_bytes()),
        _ => put(32, &(sectors as u32).to_le_bytes()),
    }
    put(21, &[0xf8]);
    // Geometry that no one uses any more, but that must not be zero.
    put(24, &[32, 0, 64, 0]);
    let extended = if wide {
        put(36, &(fat_sectors as u32).to_le_bytes());
        put(44, &2u32.to_le_bytes()); // first cluster of the root
        put(48, &[1, 0, 6, 0]); // sectors of the free-space note and of the spare boot sector
        64
    } else {
        put(22, &(fat_sectors as u16).to_le_bytes());
        36
    };
    put(extended, &[0x80, 0, 0x29]);
    put(extended + 3, &volume_id.to_le_bytes());
    put(extended + 7, &name);
    put(extended + 18, if wide { b"FAT32   " } else { b"FAT16   " });
    put(510, &[0x55, 0xaa]);

    // Everything up to the data, and the first cluster of it: an old file system must not show through.
    let metadata = (reserved + 2 * fat_sectors + root_sectors) * SECTOR;
    let zeros = vec![0; 64 * 1024];
    let mut at = 0;
    let end = metadata + if wide { cluster } else { 0 };
    while at < end {
        let count = zeros.len().min((end - at) as usize);
        window.put(at, &zeros[..count])?;
        at += count as u64;
    }
    window.put(0, &boot)?;
    if wide {
        window.put(6 * SECTOR, &boot)?;
        for base in [0, 6] {
            window.put((base + 1) * SECTOR, &info_sector(u32::MAX, u32::MAX))?;
        }
    }
    let first: &[u8] = if wide {
        &[0xf8, 0xff, 0xff, 0x0f, 0xff, 0xff, 0xff, 0x0f, 0xff, 0xff, 0xff, 0x0f]
    } else {
        &[0xf8, 0xff, 0xff, 0xff]
    };
    for table in 0..2 {
        window.put((reserved + table * fat_sectors) * SECTOR, first)?;
    }
    let mut entry = [0u8; 32];
    entry[..11].copy_from_slice(&name);
    entry[11] = 0x08;
    window.put((reserved + 2 * fat_sectors) * SECTOR, &entry)
}

/// FAT32's note of how many clusters are free and where to look first.
pub(super) fn info_sector(free: u32, next: u32) -> [u8; SECTOR as usize] {
    let mut sector = [0u8; SECTOR as usize];
    sector[..4].copy_from_slice(b"RRaA");
    sector[484..488].copy_from_slice(b"rrAa");
    sector[488..492].copy_from_slice(&free.to_le_bytes());
    sector[492..496].copy_from_slice(&next.to_le_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}
