//! The initramfs, and the kernel as the slot stores it.

use std::io::{self, Write};

use crate::{
    profile::Compression,
    rootfs::{Root, modules},
    tree::{Content, Kind, Node, Tree},
};

/// Compression level: beyond it an initramfs gains a percent for twice the time.
const ZSTD_LEVEL: i32 = 15;

/// The initramfs of a root: `init` as `/init`, the modules that reach the disk, and the image's description.
///
/// # Errors
/// A file's content cannot be read.
pub fn initramfs(root: &Root, init: Content, mtime: u32) -> io::Result<Vec<u8>> {
    let mut tree = Tree::default();
    for directory in ["/dev", "/proc", "/run", "/sys", "/sysroot"] {
        tree.directory(directory, 0o755);
    }
    // The kernel opens it before /init runs and could mount a /dev.
    tree.nodes.insert("/dev/console".to_owned(), Node { kind: Kind::CharDevice(5, 1), mode: 0o600, uid: 0, gid: 0 });
    tree.file("/init", 0o755, init);
    tree.file("/etc/kiln/image.json", 0o644, root.info.to_json());
    // The runtime sees them without the merged /usr's link.
    let mut loads = Vec::new();
    for (load, content) in &root.initramfs_modules {
        let mut load = load.clone();
        load.path = load.path.strip_prefix("/usr").unwrap_or(&load.path).to_owned();
        tree.file(&load.path, 0o644, content.clone());
        loads.push(load);
    }
    tree.file("/etc/kiln/modules.initramfs", 0o644, modules::list(&loads).into_bytes());
    tree.file("/etc/kiln/modules.alias", 0o644, modules::aliases(&loads).into_bytes());
    tree.file("/etc/kiln/modules.dep", 0o644, modules::dependencies(&loads).into_bytes());
    tree.add_parents();

    let mut encoder = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
    encoder.include_checksum(true)?;
    super::cpio::write(&tree, mtime, &mut encoder)?;
    encoder.finish()
}

/// The kernel as the slot stores it.
///
/// # Errors
/// The kernel cannot be read.
pub fn kernel_file(kernel: &Content, compression: Compression) -> io::Result<Vec<u8>> {
    let bytes = kernel.read()?;
    match compression {
        Compression::None => Ok(bytes.into_owned()),
        Compression::Gzip => {
            // The builder's header has no name and no time, so the same kernel gives the same bytes.
            let mut encoder = flate2::GzBuilder::new().mtime(0).write(Vec::new(), flate2::Compression::new(6));
            encoder.write_all(&bytes)?;
            encoder.finish()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compressed_kernel_has_no_time_or_name_in_its_header() {
        let file = kernel_file(&Content::from("kernel"), Compression::Gzip).expect("in memory");
        assert_eq!(file[..3], [0x1f, 0x8b, 8]);
        assert_eq!(file[3..8], [0; 5]);
    }
}
