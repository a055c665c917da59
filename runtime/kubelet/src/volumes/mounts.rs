//! The kernel's mounts.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

const TABLE: &str = "/proc/self/mountinfo";

/// One line of the kernel's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) path: PathBuf,
    pub(crate) fs_type: String,
}

/// All mounts at or below a path, in the order in which they were made.
pub(crate) fn below(path: &Path) -> io::Result<Vec<Mount>> {
    Ok(parse(&fs::read(TABLE)?).filter(|mount| mount.path.starts_with(path)).collect())
}

/// The mount at just this path, if there is one.
pub(crate) fn at(path: &Path) -> io::Result<Option<Mount>> {
    // Of several mounted over one another the last is seen.
    Ok(parse(&fs::read(TABLE)?).filter(|mount| mount.path == path).last())
}

/// See proc_pid_mountinfo(5).
fn parse(table: &[u8]) -> impl Iterator<Item = Mount> + '_ {
    table.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let path = unescape(fields.nth(4)?);
        let fs_type = fields.skip_while(|field| *field != b"-").nth(1)?;
        Some(Mount { path, fs_type: String::from_utf8_lossy(fs_type).into_owned() })
    })
}

/// Spaces, tabs, line ends and backslashes are written as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|digits| *byte == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match digits {
            Some(digits) => {
                bytes.push(digits.iter().fold(0u8, |n, d| n.wrapping_mul(8).wrapping_add(d - b'0')));
                rest = &after[3..];
            }
            None => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// Mounts a file system of the kernel's that has no device.
pub(crate) fn virtual_fs(fs_type: &str, path: &Path, options: &str) -> io::Result<()> {
    let options = (!options.is_empty()).then_some(options);
    mount(Some(fs_type), path, Some(fs_type), MsFlags::empty(), options).map_err(io::Error::from)
}

/// Shows a file or folder at another path too.
pub(crate) fn bind(from: &Path, to: &Path) -> io::Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(io::Error::from)
}

/// Shows what is open at another path too: whatever its name leads to by now.
pub(crate) fn bind_open(open: impl AsFd, to: &Path) -> io::Result<()> {
    bind(Path::new(&format!("/proc/self/fd/{}", open.as_fd().as_raw_fd())), to)
}

/// Unmounts; what is no mount, or gone, is fine. What is in use vanishes from sight now and from the kernel once it is free.
pub(crate) fn unmount(path: &Path) -> io::Result<()> {
    let gone = |errno: Errno| matches!(errno, Errno::EINVAL | Errno::ENOENT);
    match umount2(path, MntFlags::UMOUNT_NOFOLLOW) {
        Err(Errno::EBUSY) => match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Err(errno) if !gone(errno) => Err(errno.into()),
            _ => Ok(()),
        },
        Err(errno) if !gone(errno) => Err(errno.into()),
        _ => Ok(()),
    }
}

/// Unmounts all at or below a path, the last made first.
pub(crate) fn unmount_below(path: &Path) -> io::Result<()> {
    for mount in below(path)?.iter().rev() {
        unmount(&mount.path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read_with_its_escapes_and_optional_fields() {
        let table = b"36 35 98:0 / /a\\040b rw,noatime master:1 shared:2 - ext4 /dev/root rw\n\
            37 36 0:5 / /a\\134c rw - tmpfs tmpfs rw\n";
        let found: Vec<_> = parse(table).map(|mount| (mount.path, mount.fs_type)).collect();
        assert_eq!(found, [("/a b".into(), "ext4".to_owned()), ("/a\\c".into(), "tmpfs".to_owned())]);
    }

    #[test]
    fn mounts_are_found_and_removed_with_those_on_top_of_them() {
        let dir = tempfile::tempdir().expect("a folder");
        let (outer, inner) = (dir.path().join("o"), dir.path().join("o/i"));
        fs::create_dir(&outer).expect("a folder");
        virtual_fs("tmpfs", &outer, "size=65536").expect("mounted");
        fs::create_dir(&inner).expect("a folder");
        bind(dir.path(), &inner).expect("bound");
        assert_eq!(below(dir.path()).expect("read").len(), 2);
        assert_eq!(at(&outer).expect("read").map(|mount| mount.fs_type), Some("tmpfs".to_owned()));
        unmount_below(dir.path()).expect("unmounted");
        assert_eq!(below(dir.path()).expect("read"), []);
        unmount(&outer).expect("it is no mount, which is fine");
    }
}
