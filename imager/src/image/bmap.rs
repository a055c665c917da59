//! The block map: which blocks of an image must be written to a card, in the format of `bmaptool` (version 2.0).

use std::{fmt::Write, fs::File, io, os::unix::fs::FileExt};

use sha2::{Digest, Sha256};

use super::medium::BLOCK;

/// The text of the block map of an image of `length` bytes with these ranges of blocks.
///
/// # Errors
/// The image cannot be read.
pub(super) fn render(image: &File, length: u64, ranges: &[(u64, u64)]) -> io::Result<String> {
    let mut text = String::new();
    let mapped: u64 = ranges.iter().map(|(first, last)| last - first + 1).sum();
    let zeros = "0".repeat(64);
    text.push_str("<?xml version=\"1.0\" ?>\n<bmap version=\"2.0\">\n");
    // Writing to a String cannot fail.
    let mut field = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "    <{name}> {value} </{name}>");
    };
    field("ImageSize", &length);
    field("BlockSize", &BLOCK);
    field("BlocksCount", &length.div_ceil(BLOCK));
    field("MappedBlocksCount", &mapped);
    field("ChecksumType", &"sha256");
    field("BmapFileChecksum", &zeros);
    text.push_str("    <BlockMap>\n");
    for (first, last) in ranges {
        let end = ((last + 1) * BLOCK).min(length);
        let checksum = hash_range(image, first * BLOCK, end)?;
        let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
        let _ = writeln!(text, "        <Range chksum=\"{checksum}\"> {range} </Range>");
    }
    text.push_str("    </BlockMap>\n</bmap>\n");
    // The map's own checksum is taken with zeros in its place.
    let own = hex::encode(Sha256::digest(text.as_bytes()));
    Ok(text.replacen(&zeros, &own, 1))
}

fn hash_range(image: &File, mut at: u64, end: u64) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    while at < end {
        let count = buffer.len().min((end - at) as usize);
        image.read_exact_at(&mut buffer[..count], at)?;
        hash.update(&buffer[..count]);
        at += count as u64;
    }
    Ok(hex::encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::medium::{Medium, SparseFile};

    #[test]
    fn bmaptool_copies_the_image_by_its_map() {
        let directory = tempfile::tempdir().expect("temp dir");
        let path = |name: &str| directory.path().join(name);
        let file = File::options().read(true).write(true).create_new(true).open(path("a.img")).expect("create");
        let mut image = SparseFile::new(file, 64 * BLOCK).expect("sparse");
        image.write_at(&[1; 5000], 0).expect("write");
        image.write_at(&[0; 4096], 9 * BLOCK).expect("write");
        image.write_at(&[3; 10], 63 * BLOCK).expect("write");
        let text = render(image.file(), image.length(), &image.ranges()).expect("render");
        std::fs::write(path("a.bmap"), &text).expect("write");
        let arg = |name: &str| path(name).to_string_lossy().into_owned();
        let args = ["copy", "--bmap", &arg("a.bmap"), &arg("a.img"), &arg("b.img")];
        let Some(run) = crate::image::tests::run("bmaptool", &args) else { return };
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        assert!(std::fs::read(path("a.img")).expect("read") == std::fs::read(path("b.img")).expect("read"));
    }
}
