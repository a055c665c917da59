//! Partition tables: what an image needs of MBR and GPT, written and read.

mod gpt;
mod mbr;

use std::{fmt, io};

use sha2::{Digest, Sha256};

use super::medium::Medium;
use crate::profile::Table;

/// Size of a sector in bytes; the cards and disks this is for all present 512.
pub const SECTOR: u64 = 512;

/// What a partition holds, which decides its type code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A FAT file system.
    Fat {
        /// FAT32 rather than FAT16.
        fat32: bool,
        /// Holds an UEFI boot loader.
        efi: bool,
    },
    /// The node's own file system.
    State,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Number in the table, from 1.
    pub number: u32,
    /// Name; an MBR has none and leaves it empty when read.
    pub name: String,
    /// Start in bytes.
    pub start: u64,
    /// Length in bytes.
    pub length: u64,
    /// What it holds.
    pub role: Role,
}

/// How a disk is told from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskId {
    /// The signature in an MBR.
    Mbr(u32),
    /// The GUID of a GPT, as its text reads from left to right.
    Gpt([u8; 16]),
}

impl DiskId {
    /// An identity that depends on `seed` alone.
    pub fn derive(table: Table, seed: &[u8]) -> DiskId {
        match table {
            Table::Mbr => {
                let hash = Sha256::digest(seed);
                let signature = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
                // Zero means that a disk has no signature.
                DiskId::Mbr(signature.max(1))
            }
            Table::Gpt => DiskId::Gpt(derive_uuid(seed)),
        }
    }
}

impl fmt::Display for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiskId::Mbr(signature) => write!(f, "{signature:08x}"),
            DiskId::Gpt(guid) => f.write_str(&uuid_text(*guid)),
        }
    }
}

/// A UUID of version 8 (RFC 9562: custom) that depends on `seed` alone.
pub fn derive_uuid(seed: &[u8]) -> [u8; 16] {
    let hash = Sha256::digest(seed);
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&hash[..16]);
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

/// The text of a UUID, in lower case.
pub fn uuid_text(uuid: [u8; 16]) -> String {
    let hex = hex::encode(uuid);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Why a partition table could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    /// The medium could not be read or written.
    #[error("cannot access the partition table: {0}")]
    Io(#[from] io::Error),
    /// There is no table, or a damaged one.
    #[error("no usable partition table: {0}")]
    Invalid(String),
}

/// Writes a table; `total` is the medium's length in bytes.
///
/// # Errors
/// [`PartitionError::Io`].
pub fn write(medium: &mut dyn Medium, total: u64, id: DiskId, partitions: &[Partition]) -> Result<(), PartitionError> {
    match id {
        DiskId::Mbr(signature) => mbr::write(medium, signature, partitions)?,
        DiskId::Gpt(guid) => gpt::write(medium, total, guid, partitions)?,
    }
    Ok(())
}

/// Reads a table of either kind.
///
/// # Errors
/// [`PartitionError::Invalid`] with what is wrong.
pub fn read(medium: &dyn Medium) -> Result<(DiskId, Vec<Partition>), PartitionError> {
    let mut sector = [0; SECTOR as usize];
    medium.read_at(&mut sector, 0)?;
    if sector[510..] != [0x55, 0xaa] {
        return Err(PartitionError::Invalid("the first sector is not a master boot record".into()));
    }
    if sector[450] == mbr::PROTECTIVE { gpt::read(medium) } else { Ok(mbr::read(&sector)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::medium::SparseFile;

    const MIB: u64 = 1 << 20;

    fn plan() -> Vec<Partition> {
        let fat = Role::Fat { fat32: true, efi: true };
        [("CONFIG", fat), ("SLOT_A", Role::Fat { fat32: true, efi: false }), ("STATE", Role::State)]
            .iter()
            .zip(1..)
            .map(|((name, role), number)| Partition {
                number,
                name: (*name).to_owned(),
                start: u64::from(number) * 4 * MIB,
                length: 4 * MIB,
                role: *role,
            })
            .collect()
    }

    fn written(table: Table) -> (tempfile::NamedTempFile, DiskId) {
        let file = tempfile::NamedTempFile::new().expect("temp file");
        let id = DiskId::derive(table, b"seed");
        let mut image = SparseFile::new(file.reopen().expect("reopen"), 20 * MIB).expect("sparse");
        write(&mut image, 20 * MIB, id, &plan()).expect("write");
        (file, id)
    }

    #[test]
    fn what_is_written_is_read_back() {
        for table in [Table::Mbr, Table::Gpt] {
            let (file, id) = written(table);
            let (read_id, partitions) = read(&file.reopen().expect("reopen")).expect("a table");
            assert_eq!(read_id, id);
            let mut expected = plan();
            if table == Table::Mbr {
                for partition in &mut expected {
                    partition.name.clear();
                    if let Role::Fat { efi, .. } = &mut partition.role {
                        *efi = false;
                    }
                }
            }
            assert_eq!(partitions, expected);
        }
    }

    #[test]
    fn the_same_plan_gives_the_same_bytes() {
        for table in [Table::Mbr, Table::Gpt] {
            let read = |file: &tempfile::NamedTempFile| std::fs::read(file.path()).expect("read");
            assert_eq!(read(&written(table).0), read(&written(table).0));
        }
    }

    #[test]
    fn sfdisk_finds_no_fault() {
        for table in [Table::Mbr, Table::Gpt] {
            let (file, id) = written(table);
            let Some(run) = crate::image::tests::tool("sfdisk", &["--verify"], file.path()) else { return };
            assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
            let Some(run) = crate::image::tests::tool("sfdisk", &["--disk-id"], file.path()) else { return };
            let text = String::from_utf8_lossy(&run.stdout).trim().trim_start_matches("0x").to_lowercase();
            assert_eq!(text, id.to_string());
        }
    }

    #[test]
    fn a_damaged_table_is_refused() {
        let (file, _) = written(Table::Gpt);
        let mut raw = file.reopen().expect("reopen");
        raw.write_at(&[9], 2 * SECTOR + 40).expect("write");
        let error = read(&raw).expect_err("the checksum no longer matches");
        assert!(error.to_string().contains("checksum"), "{error}");
        raw.write_at(&[0], 510).expect("write");
        assert!(read(&raw).is_err());
    }
}
