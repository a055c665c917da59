//! Writing a tree as the `newc` cpio archive that the kernel unpacks as its initramfs.

use std::io::{self, Write};

use crate::tree::{Kind, Tree};

/// Writes `tree` in its own order, every file with the modification time `mtime` (seconds since 1970).
///
/// # Errors
/// A file's content cannot be read, or `out` cannot be written.
pub fn write(tree: &Tree, mtime: u32, out: &mut dyn Write) -> io::Result<()> {
    let mut entry = Entry { out, inode: 0, mtime, written: 0 };
    for (path, node) in &tree.nodes {
        let name = path.trim_start_matches('/');
        match &node.kind {
            Kind::Directory => entry.put(name, 0o040_000 | node.mode, node.uid, node.gid, (0, 0), &[])?,
            Kind::File(content) => {
                entry.put(name, 0o100_000 | node.mode, node.uid, node.gid, (0, 0), &content.read()?)?;
            }
            Kind::Symlink(target) => {
                entry.put(name, 0o120_000 | node.mode, node.uid, node.gid, (0, 0), target.as_bytes())?;
            }
            Kind::CharDevice(major, minor) => {
                entry.put(name, 0o020_000 | node.mode, node.uid, node.gid, (*major, *minor), &[])?;
            }
        }
    }
    entry.trailer()
}

struct Entry<'a> {
    out: &'a mut dyn Write,
    inode: u32,
    mtime: u32,
    written: usize,
}

impl Entry<'_> {
    fn put(&mut self, name: &str, mode: u32, uid: u32, gid: u32, device: (u32, u32), body: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let links = if mode & 0o170_000 == 0o040_000 { 2 } else { 1 };
        let fields = [self.inode, mode, uid, gid, links, self.mtime];
        self.member(fields, device, name, body)
    }

    fn trailer(&mut self) -> io::Result<()> {
        self.member([0, 0, 0, 0, 1, 0], (0, 0), "TRAILER!!!", &[])
    }

    /// One member. `fields` are inode, mode, uid, gid, link count and mtime.
    fn member(&mut self, fields: [u32; 6], device: (u32, u32), name: &str, body: &[u8]) -> io::Result<()> {
        let size = u32::try_from(body.len()).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is too large for an initramfs"))
        })?;
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08x}"));
        }
        let name_size = name.len() as u32 + 1;
        for field in [size, 0, 0, device.0, device.1, name_size, 0] {
            header.push_str(&format!("{field:08x}"));
        }
        header.push_str(name);
        header.push('\0');
        self.aligned(header.as_bytes())?;
        self.aligned(body)
    }

    /// Writes bytes and pads the archive to a multiple of four.
    fn aligned(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.written += bytes.len();
        let padding = self.written.next_multiple_of(4) - self.written;
        self.out.write_all(&[0; 3][..padding])?;
        self.written += padding;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Tree {
        let mut tree = Tree::default();
        tree.directory("/dev", 0o755);
        tree.nodes.insert(
            "/dev/console".into(),
            crate::tree::Node { kind: Kind::CharDevice(5, 1), mode: 0o600, uid: 0, gid: 0 },
        );
        tree.file("/init", 0o755, "#!");
        tree.symlink("/lib", "usr/lib");
        tree
    }

    #[test]
    fn the_archive_is_what_the_kernels_documentation_describes() {
        let mut out = Vec::new();
        write(&sample(), 7, &mut out).expect("in memory");
        let text = String::from_utf8_lossy(&out);
        assert!(text.starts_with("07070100000001000041ed00000000000000000000000200000007"), "{text}");
        assert!(text.contains("00000005000000010000000c00000000dev/console\0"), "{text}");
        assert!(text.contains("init\0"));
        assert!(text.contains("TRAILER!!!\0"));
        assert_eq!(out.len() % 4, 0);
    }

    #[test]
    fn the_same_tree_gives_the_same_bytes() {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        write(&sample(), 7, &mut a).expect("in memory");
        write(&sample(), 7, &mut b).expect("in memory");
        assert_eq!(a, b);
    }
}
