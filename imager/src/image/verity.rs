//! The dm-verity hash tree of a root, in the format of `veritysetup` (superblock version 1, hash type 1).

use std::{fs::File, io, os::unix::fs::FileExt, thread};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::partition::derive_uuid;

/// Size of data and hash blocks, bytes.
const BLOCK: usize = 4096;
const HASH: usize = 32;
const PER_BLOCK: usize = BLOCK / HASH;

/// What a kernel needs to know to verify a root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verity {
    /// SHA-256 root hash, 64 hexadecimal digits.
    pub root_hash: String,
    /// Where the superblock starts, bytes; the data end there.
    pub hash_offset: u64,
    /// The salt, hexadecimal.
    pub salt: String,
}

/// Appends the hash area to a file of `length` bytes, a multiple of 4096. Salt and UUID derive from the data, so that
/// the same root gets the same hash.
///
/// # Errors
/// The file cannot be read or written.
pub(super) fn append(file: &File, length: u64) -> io::Result<Verity> {
    let mut hash = Sha256::new();
    hash.update(b"kiln-verity\0");
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < length {
        let count = buffer.len().min((length - at) as usize);
        file.read_exact_at(&mut buffer[..count], at)?;
        hash.update(&buffer[..count]);
        at += count as u64;
    }
    let salt: [u8; HASH] = hash.finalize().into();
    append_salted(file, length, &salt, derive_uuid(&salt))
}

fn append_salted(file: &File, length: u64, salt: &[u8; HASH], uuid: [u8; 16]) -> io::Result<Verity> {
    let blocks = length / BLOCK as u64;
    let leaves = hash_data(file, blocks, salt)?;
    let (levels, root) = tree(leaves, salt);
    let mut area = superblock(blocks, salt, uuid);
    for level in levels.iter().rev() {
        area.extend_from_slice(level);
    }
    file.write_all_at(&area, length)?;
    Ok(Verity { root_hash: hex::encode(root), hash_offset: length, salt: hex::encode(salt) })
}

fn digest(salt: &[u8], block: &[u8]) -> [u8; HASH] {
    Sha256::new().chain_update(salt).chain_update(block).finalize().into()
}

/// The hashes of all data blocks, computed on every processor.
fn hash_data(file: &File, blocks: u64, salt: &[u8; HASH]) -> io::Result<Vec<u8>> {
    let workers = thread::available_parallelism().map_or(1, |n| n.get() as u64).min(8);
    let share = blocks.div_ceil(workers).max(1);
    let part = |first: u64| -> io::Result<Vec<u8>> {
        let mut hashes = Vec::new();
        let mut buffer = vec![0; 256 * BLOCK];
        let last = (first + share).min(blocks);
        let mut block = first;
        while block < last {
            let count = 256.min((last - block) as usize);
            let chunk = &mut buffer[..count * BLOCK];
            file.read_exact_at(chunk, block * BLOCK as u64)?;
            for data in chunk.chunks_exact(BLOCK) {
                hashes.extend_from_slice(&digest(salt, data));
            }
            block += count as u64;
        }
        Ok(hashes)
    };
    thread::scope(|scope| {
        let handles: Vec<_> =
            (0..workers).map(|worker| worker * share).map(|first| scope.spawn(move || part(first))).collect();
        let mut all = Vec::new();
        for handle in handles {
            all.extend(handle.join().map_err(|_| io::Error::other("a hashing thread failed"))??);
        }
        Ok(all)
    })
}

/// The levels of the tree from the leaves up, each padded to whole blocks, and the root hash.
fn tree(mut hashes: Vec<u8>, salt: &[u8; HASH]) -> (Vec<Vec<u8>>, [u8; HASH]) {
    let mut levels = Vec::new();
    while hashes.len() > HASH {
        let padded = hashes.len().next_multiple_of(PER_BLOCK * HASH);
        hashes.resize(padded, 0);
        let above: Vec<u8> = hashes.chunks_exact(BLOCK).flat_map(|block| digest(salt, block)).collect();
        levels.push(hashes);
        hashes = above;
    }
    let mut root = [0; HASH];
    if hashes.len() == HASH {
        root.copy_from_slice(&hashes);
    }
    (levels, root)
}

/// The superblock, padded to the first hash block.
fn superblock(blocks: u64, salt: &[u8; HASH], uuid: [u8; 16]) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    let mut at = 0;
    let mut put = |bytes: &[u8], width: usize| {
        block[at..at + bytes.len()].copy_from_slice(bytes);
        at += width;
    };
    put(b"verity", 8);
    put(&1u32.to_le_bytes(), 4);
    put(&1u32.to_le_bytes(), 4);
    put(&uuid, 16);
    put(b"sha256", 32);
    put(&(BLOCK as u32).to_le_bytes(), 4);
    put(&(BLOCK as u32).to_le_bytes(), 4);
    put(&blocks.to_le_bytes(), 8);
    put(&(HASH as u16).to_le_bytes(), 8);
    put(salt, 256);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 300 blocks: two levels above the leaves, the last block of each partly filled.
    fn data() -> (tempfile::NamedTempFile, u64) {
        let file = tempfile::NamedTempFile::new().expect("temp file");
        let bytes: Vec<u8> = (0..300 * BLOCK).map(|n| (n / BLOCK + n % 7) as u8).collect();
        file.as_file().write_all_at(&bytes, 0).expect("write");
        (file, bytes.len() as u64)
    }

    #[test]
    fn the_root_hash_is_the_one_veritysetup_computes() {
        let (file, length) = data();
        let verity = append_salted(file.as_file(), length, &[0x5a; HASH], [1; 16]).expect("append");
        // From `veritysetup format --salt 5a5a… --data-blocks 300` (cryptsetup 2.6.1) on the same data.
        assert_eq!(verity.root_hash, "0ab00936494be145c3f095e857d90f81e19bbf3672a4e7b30dd6e4a83876810d");
    }

    #[test]
    fn veritysetup_verifies_the_file() {
        let (file, length) = data();
        let verity = append(file.as_file(), length).expect("append");
        let path = file.path().to_string_lossy().into_owned();
        let offset = format!("--hash-offset={}", verity.hash_offset);
        let args = ["verify", &path, &path, &verity.root_hash, &offset];
        let Some(run) = crate::image::tests::run("veritysetup", &args) else { return };
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    }

    #[test]
    fn a_changed_block_changes_the_root_hash() {
        let (file, length) = data();
        let before = append(file.as_file(), length).expect("append");
        file.as_file().write_all_at(&[0xff], 4096 * 200).expect("write");
        assert_ne!(append(file.as_file(), length).expect("append").root_hash, before.root_hash);
    }
}
