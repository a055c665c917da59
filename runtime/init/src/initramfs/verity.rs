//! The dm-verity superblock that `veritysetup format` writes, and the device mapper table made from it.

use crate::error::{Error, Result};

/// Its size in bytes.
pub(crate) const SUPERBLOCK: usize = 512;

/// What the superblock says. None of it is trusted: with a wrong salt, size or algorithm the root hash cannot match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    hash_type: u32,
    algorithm: String,
    data_block_size: u32,
    hash_block_size: u32,
    data_blocks: u64,
    salt: Vec<u8>,
}

impl Superblock {
    /// Parses the 512 bytes at the hash offset.
    pub(crate) fn parse(bytes: &[u8; SUPERBLOCK]) -> Result<Self> {
        let wrong = |why: &str| Error::malformed("verity superblock", why);
        if &bytes[..8] != b"verity\0\0" {
            return Err(wrong("not there; kiln.hashoffset or root.squashfs was changed"));
        }
        if word(bytes, 8) != 1 {
            return Err(wrong("of a version other than 1"));
        }
        let name = &bytes[32..64];
        let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
        let algorithm = String::from_utf8_lossy(&name[..end]).into_owned();
        if algorithm != "sha256" {
            return Err(wrong("its hash is not sha256"));
        }
        let (data_block_size, hash_block_size) = (word(bytes, 64), word(bytes, 68));
        if ![data_block_size, hash_block_size].iter().all(|size| size.is_power_of_two() && (512..=65536).contains(size))
        {
            return Err(wrong("its block sizes are impossible"));
        }
        let mut blocks = [0u8; 8];
        blocks.copy_from_slice(&bytes[72..80]);
        let salt_size = usize::from(u16::from_le_bytes([bytes[80], bytes[81]]));
        if salt_size > 256 {
            return Err(wrong("its salt is longer than 256 bytes"));
        }
        Ok(Self {
            hash_type: word(bytes, 12),
            algorithm,
            data_block_size,
            hash_block_size,
            data_blocks: u64::from_le_bytes(blocks),
            salt: bytes[88..88 + salt_size].to_vec(),
        })
    }

    /// Length of the verified data in sectors of 512 bytes.
    pub(crate) fn data_sectors(&self) -> u64 {
        self.data_blocks.saturating_mul(u64::from(self.data_block_size / 512))
    }

    /// The target's parameters, with data and hashes on one device.
    ///
    /// No `restart_on_corruption` or `panic_on_corruption`: a changed block gives EIO to its reader (the kernel logs the
    /// block), so a failed mount can be explained on the console and CONFIG, and one bad block in an unused file does
    /// not turn the board into a boot loop. Wrong data is never returned.
    pub(crate) fn table(&self, device: &str, hash_offset: u64, root_hash: &str) -> Result<String> {
        let hash_block = u64::from(self.hash_block_size);
        if !hash_offset.is_multiple_of(hash_block) {
            return Err(Error::malformed("kiln.hashoffset", "is not a multiple of the hash block size"));
        }
        // The superblock fills the first hash block.
        let start = hash_offset / hash_block + 1;
        let salt: String = self.salt.iter().map(|b| format!("{b:02x}")).collect();
        let salt = if salt.is_empty() { "-".to_owned() } else { salt };
        Ok(format!(
            "{} {device} {device} {} {} {} {start} {} {root_hash} {salt}",
            self.hash_type, self.data_block_size, self.hash_block_size, self.data_blocks, self.algorithm
        ))
    }
}

fn word(bytes: &[u8; SUPERBLOCK], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> [u8; SUPERBLOCK] {
        let mut bytes = [0u8; SUPERBLOCK];
        bytes[..8].copy_from_slice(b"verity\0\0");
        bytes[8..12].copy_from_slice(&1u32.to_le_bytes());
        bytes[12..16].copy_from_slice(&1u32.to_le_bytes());
        bytes[32..38].copy_from_slice(b"sha256");
        bytes[64..68].copy_from_slice(&4096u32.to_le_bytes());
        bytes[68..72].copy_from_slice(&4096u32.to_le_bytes());
        bytes[72..80].copy_from_slice(&16u64.to_le_bytes());
        bytes[80..82].copy_from_slice(&2u16.to_le_bytes());
        bytes[88..90].copy_from_slice(&[0xab, 0x01]);
        bytes
    }

    #[test]
    fn the_table_names_device_sizes_hash_start_and_salt() {
        let superblock = Superblock::parse(&sample()).expect("valid");
        assert_eq!(superblock.data_sectors(), 128);
        let table = superblock.table("/dev/loop0", 16 * 4096, "00ff").expect("aligned");
        assert_eq!(table, "1 /dev/loop0 /dev/loop0 4096 4096 16 17 sha256 00ff ab01");
    }

    #[test]
    fn a_damaged_superblock_is_refused() {
        let mut bytes = sample();
        bytes[0] = b'x';
        assert!(Superblock::parse(&bytes).expect_err("magic").to_string().contains("not there"));
        let mut bytes = sample();
        bytes[80..82].copy_from_slice(&300u16.to_le_bytes());
        assert!(Superblock::parse(&bytes).is_err());
        let mut bytes = sample();
        bytes[64..68].copy_from_slice(&0u32.to_le_bytes());
        assert!(Superblock::parse(&bytes).is_err());
    }
}
