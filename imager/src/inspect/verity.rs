//! dm-verity's root hash, computed anew from the root's bytes.
//!
//! Written from the format's description (the kernel's `verity.rst` and cryptsetup's on-disk format) and apart from the
//! code that makes the tree, so that a mistake there does not hide here.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

const BLOCK: usize = 4096;
const HASH: usize = 32;

/// What the superblock says, as far as this build uses it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    /// Blocks of data.
    pub(super) blocks: u64,
    /// Goes into every hash, first.
    pub(super) salt: Vec<u8>,
}

/// Reads the superblock at the start of the hash area.
pub(super) fn superblock(area: &[u8]) -> Result<Superblock, String> {
    let field = |at: usize, size: usize| area.get(at..at + size).ok_or("the hash area is cut short");
    let number = |at: usize, size: usize| -> Result<u64, String> {
        Ok(field(at, size)?.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    if field(0, 8)? != b"verity\0\0" {
        return Err("there is no verity superblock behind the root".to_owned());
    }
    let algorithm: Vec<u8> = field(32, 32)?.iter().copied().take_while(|byte| *byte != 0).collect();
    if (number(8, 4)?, number(12, 4)?, algorithm.as_slice()) != (1, 1, b"sha256") {
        return Err("the verity superblock is of another version, type or hash".to_owned());
    }
    if (number(64, 4)?, number(68, 4)?) != (BLOCK as u64, BLOCK as u64) {
        return Err(format!("the verity superblock's blocks are not of {BLOCK} bytes"));
    }
    let salt = number(80, 2)? as usize;
    if salt > 256 {
        return Err("the verity superblock's salt is too long".to_owned());
    }
    Ok(Superblock { blocks: number(72, 8)?, salt: field(88, salt)?.to_vec() })
}

/// Takes the root's data in pieces and hashes it block by block; what comes after the data is passed over.
pub(super) struct Leaves<'a> {
    salt: &'a [u8],
    left: u64,
    pending: Vec<u8>,
    hashes: Vec<u8>,
}

impl<'a> Leaves<'a> {
    pub(super) fn new(superblock: &'a Superblock) -> Self {
        Self { salt: &superblock.salt, left: superblock.blocks, pending: Vec::new(), hashes: Vec::new() }
    }

    /// The hash tree's blocks as they lie on the disk (top level first), and the root hash.
    pub(super) fn tree(self) -> Result<(Vec<u8>, String), String> {
        if self.left > 0 {
            return Err(format!("the root is cut short: {} blocks are missing", self.left));
        }
        let mut levels = Vec::new();
        let mut level = self.hashes;
        while level.len() > HASH {
            level.resize(level.len().next_multiple_of(BLOCK), 0);
            let above = level.chunks(BLOCK).flat_map(|block| salted(self.salt, block)).collect();
            levels.push(std::mem::replace(&mut level, above));
        }
        levels.reverse();
        Ok((levels.concat(), hex::encode(level)))
    }
}

impl Write for Leaves<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        let whole = self.pending.len() / BLOCK * BLOCK;
        for block in self.pending[..whole].chunks(BLOCK) {
            if self.left > 0 {
                self.hashes.extend_from_slice(&salted(self.salt, block));
                self.left -= 1;
            }
        }
        self.pending.drain(..whole);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps what comes after `offset`.
pub(super) struct Tail {
    skip: u64,
    /// The bytes.
    pub(super) bytes: Vec<u8>,
}

impl Tail {
    pub(super) fn after(offset: u64) -> Self {
        Self { skip: offset, bytes: Vec::new() }
    }
}

impl Write for Tail {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let skip = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
        self.skip -= skip as u64;
        self.bytes.extend_from_slice(&bytes[skip..]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn salted(salt: &[u8], block: &[u8]) -> [u8; HASH] {
    Sha256::new().chain_update(salt).chain_update(block).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(blocks: u64) -> Vec<u8> {
        let mut area = vec![0; BLOCK];
        area[..8].copy_from_slice(b"verity\0\0");
        area[8] = 1;
        area[12] = 1;
        area[32..38].copy_from_slice(b"sha256");
        area[64..68].copy_from_slice(&(BLOCK as u32).to_le_bytes());
        area[68..72].copy_from_slice(&(BLOCK as u32).to_le_bytes());
        area[72..80].copy_from_slice(&blocks.to_le_bytes());
        area[80] = 2;
        area[88..90].copy_from_slice(&[7, 9]);
        area
    }

    #[test]
    fn the_superblock_gives_blocks_and_salt() {
        assert_eq!(superblock(&area(5)), Ok(Superblock { blocks: 5, salt: vec![7, 9] }));
        assert!(superblock(&area(5)[..100]).is_ok());
        assert!(superblock(&area(5)[..89]).is_err());
        assert!(superblock(&[0; BLOCK]).expect_err("zeros").contains("no verity superblock"));
    }

    #[test]
    fn two_blocks_have_one_level_and_pieces_do_not_matter() {
        let superblock = superblock(&area(2)).expect("valid");
        let data = [[1; BLOCK], [2; BLOCK]].concat();
        let mut leaves = Leaves::new(&superblock);
        for piece in data.chunks(1000) {
            leaves.write_all(piece).expect("hashed");
        }
        let (tree, root) = leaves.tree().expect("whole");
        let mut level = [salted(&[7, 9], &data[..BLOCK]), salted(&[7, 9], &data[BLOCK..])].concat();
        level.resize(BLOCK, 0);
        assert_eq!(tree, level);
        assert_eq!(root, hex::encode(salted(&[7, 9], &level)));
    }

    #[test]
    fn a_root_that_is_cut_short_is_told() {
        let superblock = superblock(&area(2)).expect("valid");
        let mut leaves = Leaves::new(&superblock);
        leaves.write_all(&[0; BLOCK]).expect("hashed");
        assert!(leaves.tree().expect_err("cut").contains("1 blocks are missing"));
    }

    #[test]
    fn the_tail_starts_at_its_offset_wherever_the_pieces_do() {
        let mut tail = Tail::after(5);
        for piece in [&b"abc"[..], b"defg", b"hi"] {
            tail.write_all(piece).expect("kept");
        }
        assert_eq!(tail.bytes, b"fghi");
    }
}
