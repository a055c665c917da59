//! The master boot record: four entries and a signature.

use std::io;

use super::{DiskId, Medium, Partition, Role, SECTOR};

/// The type of the one entry that covers a GPT.
pub(super) const PROTECTIVE: u8 = 0xee;

const FAT16_LBA: u8 = 0x0e;
const FAT32_LBA: u8 = 0x0c;
const LINUX: u8 = 0x83;

/// A cylinder, head and sector that say: use the sector numbers.
const NO_CHS: [u8; 3] = [0xfe, 0xff, 0xff];

pub(super) fn write(medium: &mut dyn Medium, signature: u32, partitions: &[Partition]) -> io::Result<()> {
    let mut sector = [0u8; SECTOR as usize];
    sector[440..444].copy_from_slice(&signature.to_le_bytes());
    for partition in partitions {
        let kind = match partition.role {
            Role::Fat { fat32: true, .. } => FAT32_LBA,
            Role::Fat { fat32: false, .. } => FAT16_LBA,
            Role::State => LINUX,
        };
        let at = partition.number as usize - 1;
        entry(&mut sector, at, kind, partition.start / SECTOR, partition.length / SECTOR);
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    medium.write_at(&sector, 0)
}

/// A record whose one entry keeps programs that know no GPT away from it.
pub(super) fn write_protective(medium: &mut dyn Medium, sectors: u64) -> io::Result<()> {
    let mut sector = [0u8; SECTOR as usize];
    entry(&mut sector, 0, PROTECTIVE, 1, sectors - 1);
    // The specification wants the protective entry to start at cylinder 0, head 0, sector 2.
    sector[447..450].copy_from_slice(&[0, 2, 0]);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    medium.write_at(&sector, 0)
}

fn entry(sector: &mut [u8; SECTOR as usize], index: usize, kind: u8, start: u64, count: u64) {
    let clamp = |value: u64| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
    let entry = &mut sector[446 + 16 * index..462 + 16 * index];
    entry[1..4].copy_from_slice(&NO_CHS);
    entry[4] = kind;
    entry[5..8].copy_from_slice(&NO_CHS);
    entry[8..12].copy_from_slice(&clamp(start));
    entry[12..16].copy_from_slice(&clamp(count));
}

pub(super) fn read(sector: &[u8; SECTOR as usize]) -> (DiskId, Vec<Partition>) {
    let number = |at: usize| u32::from_le_bytes([sector[at], sector[at + 1], sector[at + 2], sector[at + 3]]);
    let mut partitions = Vec::new();
    for index in 0..4u32 {
        let at = 446 + 16 * index as usize;
        let role = match sector[at + 4] {
            0 => continue,
            FAT16_LBA => Role::Fat { fat32: false, efi: false },
            FAT32_LBA => Role::Fat { fat32: true, efi: false },
            _ => Role::State,
        };
        partitions.push(Partition {
            number: index + 1,
            name: String::new(),
            start: u64::from(number(at + 8)) * SECTOR,
            length: u64::from(number(at + 12)) * SECTOR,
            role,
        });
    }
    (DiskId::Mbr(number(440)), partitions)
}
