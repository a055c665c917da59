//! The GUID partition table of the UEFI specification, chapter 5.

use std::io;

use super::{DiskId, Medium, Partition, PartitionError, Role, SECTOR, derive_uuid, mbr};

const ENTRIES: u64 = 128;
const ENTRY: u64 = 128;
/// Sectors of one array of entries.
const ARRAY: u64 = ENTRIES * ENTRY / SECTOR;
const SIGNATURE: &[u8; 8] = b"EFI PART";
const HEADER: usize = 92;

/// Type GUIDs, as their text reads from left to right.
const EFI_SYSTEM: [u8; 16] = *b"\xc1\x2a\x73\x28\xf8\x1f\x11\xd2\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b";
const BASIC_DATA: [u8; 16] = *b"\xeb\xd0\xa0\xa2\xb9\xe5\x44\x33\x87\xc0\x68\xb6\xb7\x26\x99\xc7";
const LINUX: [u8; 16] = *b"\x0f\xc6\x3d\xaf\x84\x83\x47\x72\x8e\x79\x3d\x69\xd8\x47\x7d\xe4";

/// A GUID on disk has its first three fields in little-endian order.
fn mixed(guid: [u8; 16]) -> [u8; 16] {
    let g = guid;
    [g[3], g[2], g[1], g[0], g[5], g[4], g[7], g[6], g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]]
}

pub(super) fn write(medium: &mut dyn Medium, total: u64, guid: [u8; 16], partitions: &[Partition]) -> io::Result<()> {
    let sectors = total / SECTOR;
    mbr::write_protective(medium, sectors)?;
    let mut array = vec![0u8; (ENTRIES * ENTRY) as usize];
    for partition in partitions {
        let at = (partition.number as usize - 1) * ENTRY as usize;
        let entry = &mut array[at..at + ENTRY as usize];
        let kind = match partition.role {
            Role::Fat { efi: true, .. } => EFI_SYSTEM,
            Role::Fat { efi: false, .. } => BASIC_DATA,
            Role::State => LINUX,
        };
        entry[..16].copy_from_slice(&mixed(kind));
        let unique = derive_uuid(&[&guid[..], partition.name.as_bytes()].concat());
        entry[16..32].copy_from_slice(&mixed(unique));
        let first = partition.start / SECTOR;
        entry[32..40].copy_from_slice(&first.to_le_bytes());
        entry[40..48].copy_from_slice(&(first + partition.length / SECTOR - 1).to_le_bytes());
        for (to, unit) in entry[56..].chunks_exact_mut(2).zip(partition.name.encode_utf16()) {
            to.copy_from_slice(&unit.to_le_bytes());
        }
    }
    let primary = header(guid, &array, sectors, 1, sectors - 1, 2);
    let backup = header(guid, &array, sectors, sectors - 1, 1, sectors - 1 - ARRAY);
    medium.write_at(&primary, SECTOR)?;
    medium.write_at(&array, 2 * SECTOR)?;
    medium.write_at(&array, (sectors - 1 - ARRAY) * SECTOR)?;
    medium.write_at(&backup, (sectors - 1) * SECTOR)
}

/// A header that stands at sector `here`, with its copy at `other` and its entries at `entries`.
fn header(guid: [u8; 16], array: &[u8], sectors: u64, here: u64, other: u64, entries: u64) -> [u8; SECTOR as usize] {
    let mut header = [0u8; SECTOR as usize];
    header[..8].copy_from_slice(SIGNATURE);
    header[8..12].copy_from_slice(&0x0001_0000u32.to_le_bytes());
    header[12..16].copy_from_slice(&(HEADER as u32).to_le_bytes());
    let first_usable = 2 + ARRAY;
    let last_usable = sectors - 2 - ARRAY;
    for (at, value) in [(24, here), (32, other), (40, first_usable), (48, last_usable), (72, entries)] {
        header[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    header[56..72].copy_from_slice(&mixed(guid));
    header[80..84].copy_from_slice(&(ENTRIES as u32).to_le_bytes());
    header[84..88].copy_from_slice(&(ENTRY as u32).to_le_bytes());
    header[88..92].copy_from_slice(&crc32fast::hash(array).to_le_bytes());
    let checksum = crc32fast::hash(&header[..HEADER]);
    header[16..20].copy_from_slice(&checksum.to_le_bytes());
    header
}

pub(super) fn read(medium: &dyn Medium) -> Result<(DiskId, Vec<Partition>), PartitionError> {
    let invalid = |text: &str| PartitionError::Invalid(text.to_owned());
    let mut header = [0u8; SECTOR as usize];
    medium.read_at(&mut header, SECTOR)?;
    if &header[..8] != SIGNATURE {
        return Err(invalid("a protective master boot record without a GPT"));
    }
    let stored = u32_at(&header, 16);
    header[16..20].fill(0);
    if crc32fast::hash(&header[..HEADER]) != stored {
        return Err(invalid("the GPT header's checksum is wrong"));
    }
    let (count, size) = (u64::from(u32_at(&header, 80)), u64::from(u32_at(&header, 84)));
    if size < ENTRY || count.saturating_mul(size) > 1 << 20 {
        return Err(invalid("the GPT's entries have an unlikely size"));
    }
    let mut array = vec![0; (count * size) as usize];
    let at = u64_at(&header, 72).checked_mul(SECTOR).ok_or_else(|| invalid("the GPT's entries are out of range"))?;
    medium.read_at(&mut array, at)?;
    if crc32fast::hash(&array) != u32_at(&header, 88) {
        return Err(invalid("the GPT entries' checksum is wrong"));
    }
    let mut partitions = Vec::new();
    for (number, entry) in (1..).zip(array.chunks_exact(size as usize)) {
        let kind = guid_at(entry, 0);
        if kind == [0; 16] {
            continue;
        }
        let (first, last) = (u64_at(entry, 32), u64_at(entry, 40));
        let length = last.checked_sub(first).and_then(|n| n.checked_add(1)).and_then(|n| n.checked_mul(SECTOR));
        let (Some(length), Some(start)) = (length, first.checked_mul(SECTOR)) else {
            return Err(PartitionError::Invalid(format!("GPT entry {number} ends before it starts")));
        };
        let units: Vec<u16> =
            entry[56..128].chunks_exact(2).map(|u| u16::from_le_bytes([u[0], u[1]])).take_while(|u| *u != 0).collect();
        let role = match kind {
            EFI_SYSTEM => Role::Fat { fat32: true, efi: true },
            BASIC_DATA => Role::Fat { fat32: true, efi: false },
            _ => Role::State,
        };
        partitions.push(Partition { number, name: String::from_utf16_lossy(&units), start, length, role });
    }
    Ok((DiskId::Gpt(guid_at(&header, 56)), partitions))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

fn guid_at(bytes: &[u8], at: usize) -> [u8; 16] {
    let mut guid = [0; 16];
    guid.copy_from_slice(&bytes[at..at + 16]);
    // The mixed order is its own inverse.
    mixed(guid)
}
