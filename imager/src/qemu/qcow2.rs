//! An empty qcow2 overlay, so that a run can write without changing the image, and see a larger disk than the image is.
//!
//! The format is QEMU's `docs/interop/qcow2.rst`, version 3, with one cluster each for header, refcount table, refcount
//! block and L1 table.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::ffi::OsStrExt,
    path::Path,
};

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Bytes of disk that one L1 entry stands for.
const PER_L1_ENTRY: u64 = CLUSTER * (CLUSTER / 8);
const HEADER: u32 = 104;
const BACKING_FORMAT: u32 = 0xe279_2aca;
const NAME_MAX: usize = 1023;

/// Writes an overlay over the raw image `backing` (an absolute path) that shows a disk of `size` bytes.
///
/// # Errors
/// What the system says, or that the path or size is more than the format holds.
pub(super) fn create_overlay(overlay: &Path, backing: &Path, size: u64) -> io::Result<()> {
    let mut file = File::create(overlay)?;
    file.write_all(&overlay_bytes(backing.as_os_str().as_bytes(), size)?)
}

fn overlay_bytes(backing: &[u8], size: u64) -> io::Result<Vec<u8>> {
    let entries = size.div_ceil(PER_L1_ENTRY);
    if backing.len() > NAME_MAX || entries > CLUSTER / 8 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the image's path or size is more than qcow2 holds"));
    }
    let extensions: [&[u8]; 5] = [
        &BACKING_FORMAT.to_be_bytes(),
        &3_u32.to_be_bytes(),
        b"raw\0\0\0\0\0",
        &0_u32.to_be_bytes(),
        &0_u32.to_be_bytes(),
    ];
    let extensions = extensions.concat();
    let mut out = Vec::with_capacity(4 * CLUSTER as usize);
    out.extend_from_slice(b"QFI\xfb");
    word(&mut out, 3);
    long(&mut out, u64::from(HEADER) + extensions.len() as u64);
    word(&mut out, backing.len() as u32);
    word(&mut out, CLUSTER_BITS);
    long(&mut out, size);
    word(&mut out, 0); // no encryption
    word(&mut out, entries as u32);
    long(&mut out, 3 * CLUSTER); // L1 table
    long(&mut out, CLUSTER); // refcount table
    word(&mut out, 1); // its clusters
    word(&mut out, 0); // no snapshots
    long(&mut out, 0);
    for _feature_bits in 0..3 {
        long(&mut out, 0);
    }
    word(&mut out, 4); // 16-bit refcounts
    word(&mut out, HEADER);
    out.extend_from_slice(&extensions);
    out.extend_from_slice(backing);
    out.resize(CLUSTER as usize, 0);
    long(&mut out, 2 * CLUSTER); // the one refcount block
    out.resize(2 * CLUSTER as usize, 0);
    for _cluster_in_use in 0..4 {
        out.extend_from_slice(&1_u16.to_be_bytes());
    }
    out.resize(4 * CLUSTER as usize, 0);
    Ok(out)
}

fn word(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn long(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_is_four_clusters_and_names_its_image() {
        let bytes = overlay_bytes(b"/tmp/a.img", 4 << 30).expect("a small image");
        assert_eq!(bytes.len() as u64, 4 * CLUSTER);
        let name_at = u64::from_be_bytes(bytes[8..16].try_into().expect("eight bytes")) as usize;
        assert_eq!(&bytes[name_at..name_at + 10], b"/tmp/a.img");
    }

    #[test]
    fn a_disk_beyond_the_l1_table_is_refused() {
        assert!(overlay_bytes(b"/a", 1 << 50).is_err());
    }
}
