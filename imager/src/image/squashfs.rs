//! Writing a tree as a squashfs, the same tree always as the same bytes.

use std::{
    fs::File,
    io::{self, BufWriter, Cursor, Write},
};

use backhand::{
    BackhandError, FilesystemCompressor, FilesystemWriter, NodeHeader,
    compression::{CompressionOptions, Compressor, Zstd},
};

use crate::tree::{Content, Kind, Tree};

/// Compression level; 19 gains two percent for three times the time.
const ZSTD_LEVEL: u32 = 15;

/// Writes `tree` to `out` with `mtime` (seconds since 1970) on everything, and returns the size in bytes, which is
/// padded to a multiple of 4096.
///
/// # Errors
/// A file's content cannot be read, or `out` cannot be written.
pub(super) fn write(tree: &Tree, mtime: u32, out: &File) -> io::Result<u64> {
    let options = CompressionOptions::Zstd(Zstd { compression_level: ZSTD_LEVEL });
    let compressor = FilesystemCompressor::new(Compressor::Zstd, Some(options)).map_err(failed)?;
    let mut fs = FilesystemWriter::default();
    fs.set_compressor(compressor);
    fs.set_time(mtime);
    fs.set_only_root_id();
    fs.set_root_mode(0o755);
    fs.set_kib_padding(4);
    // The root has no header of its own in a tree.
    fs.set_root_uid(0);
    fs.set_root_gid(0);
    for (path, node) in &tree.nodes {
        let header = NodeHeader::new((node.mode & 0o7777) as u16, node.uid, node.gid, mtime);
        let pushed = match &node.kind {
            Kind::Directory => fs.push_dir(path, header),
            Kind::File(Content::Bytes(bytes)) => fs.push_file(Cursor::new(bytes.clone()), path, header),
            Kind::File(Content::File(source)) => fs.push_file_from_path(source, path, header),
            Kind::Symlink(target) => fs.push_symlink(target, path, header),
            Kind::CharDevice(major, minor) => fs.push_char_device(device(*major, *minor), path, header),
        };
        pushed.map_err(|error| io::Error::other(format!("{path}: {error}")))?;
    }
    let mut writer = BufWriter::with_capacity(1 << 20, out);
    let (_, length) = fs.write(&mut writer).map_err(failed)?;
    writer.flush()?;
    drop(writer);
    // A duplicate file is written and then written over; nothing may be left of one at the end.
    out.set_len(length)?;
    Ok(length)
}

/// A device number as the kernel encodes it in file systems.
fn device(major: u32, minor: u32) -> u32 {
    minor & 0xff | major << 8 | (minor & !0xff) << 12
}

fn failed(error: BackhandError) -> io::Error {
    match error {
        BackhandError::StdIo(source) => source,
        other => io::Error::other(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::tree::Node;

    fn tree() -> Tree {
        let mut tree = Tree::default();
        tree.directory("/etc", 0o755);
        tree.directory("/tmp", 0o1777);
        tree.file("/etc/empty", 0o644, "");
        tree.file("/etc/passwd", 0o644, "root:x:0:0::/root:/bin/sh\n");
        let bytes: Vec<u8> = (0..400_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        tree.file("/usr/bin/kiln", 0o4755, bytes.clone());
        tree.file("/usr/bin/twin", 0o755, bytes);
        tree.symlink("/bin", "usr/bin");
        tree.nodes.insert("/console".into(), Node { kind: Kind::CharDevice(5, 1), mode: 0o600, uid: 3, gid: 4 });
        tree.add_parents();
        tree
    }

    #[test]
    fn the_same_tree_gives_the_same_bytes() {
        let bytes = || {
            let mut file = tempfile::tempfile().expect("temp file");
            write(&tree(), 1_700_000_000, &file).expect("write");
            let mut bytes = Vec::new();
            io::Seek::rewind(&mut file).expect("rewind");
            file.read_to_end(&mut bytes).expect("read");
            bytes
        };
        let first = bytes();
        assert_eq!(first.len() % 4096, 0);
        assert!(first == bytes(), "two runs differ");
    }

    #[test]
    fn unsquashfs_sees_the_owners_modes_links_and_devices_of_the_tree() {
        let file = tempfile::NamedTempFile::new().expect("temp file");
        write(&tree(), 1_700_000_000, file.as_file()).expect("write");
        let Some(run) = crate::image::tests::tool("unsquashfs", &["-lln", "-UTC"], file.path()) else { return };
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let text = String::from_utf8_lossy(&run.stdout);
        let lines: Vec<String> = text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for line in [
            "lrwxrwxrwx 0/0 7 2023-11-14 22:13 squashfs-root/bin -> usr/bin",
            "crw------- 3/4 5, 1 2023-11-14 22:13 squashfs-root/console",
            "-rw-r--r-- 0/0 0 2023-11-14 22:13 squashfs-root/etc/empty",
            "drwxrwxrwt 0/0 3 2023-11-14 22:13 squashfs-root/tmp",
            "-rwsr-xr-x 0/0 1600000 2023-11-14 22:13 squashfs-root/usr/bin/kiln",
        ] {
            assert!(lines.iter().any(|l| l == line), "{line:?} is not in {lines:#?}");
        }
    }
}
