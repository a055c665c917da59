//! switch_root: frees the initramfs's memory and makes the verified root the system's root.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, io};

use nix::unistd::{chdir, chroot, execv};

use super::root::SYSROOT;
use crate::error::{Error, Result};
use crate::sys::mount::shift;

const INIT: &str = "/usr/sbin/init";
/// Bytes that one reader takes at a time: some blocks of the file system.
const PIECE: usize = 1 << 20;

/// Moves the kernel file systems, empties the initramfs and execs the new root's init.
pub(super) fn to_root() -> Result<Infallible> {
    let init = format!("{SYSROOT}{INIT}");
    // Read through verity before the point of no return, so that a damaged root is told while a retry is possible.
    read_whole(&init).map_err(|e| Error::io("read", &init, e))?;
    for name in ["dev", "proc", "sys", "run"] {
        shift(&format!("/{name}"), &format!("{SYSROOT}/{name}"))?;
    }
    chdir(SYSROOT).map_err(|e| Error::sys("enter", SYSROOT, e))?;
    if let Ok(root) = fs::metadata("/") {
        empty(Path::new("/"), root.dev());
    }
    shift(".", "/")?;
    chroot(".").map_err(|e| Error::sys("change root to", SYSROOT, e))?;
    chdir("/").map_err(|e| Error::sys("enter", "/", e))?;
    let path = CString::new(INIT).map_err(|_| Error::malformed(INIT, "has a zero byte"))?;
    execv(&path, &[c"init"]).map_err(|e| Error::sys("start", INIT, e))
}

/// Reads a file by all processors at once: checking and unpacking its blocks is most of the time between the two stages.
fn read_whole(path: &str) -> io::Result<()> {
    let file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    let next = AtomicU64::new(0);
    let read = || -> io::Result<()> {
        let mut piece = vec![0; PIECE];
        loop {
            let offset = next.fetch_add(PIECE as u64, Ordering::Relaxed);
            if offset >= length {
                return Ok(());
            }
            let wanted = usize::try_from(length - offset).map_or(PIECE, |left| left.min(PIECE));
            file.read_exact_at(&mut piece[..wanted], offset)?;
        }
    };
    let readers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..readers).map(|_| std::thread::Builder::new().spawn_scoped(scope, read)).collect();
        read()?;
        for reader in others.into_iter().flatten() {
            // Without one of them the others have read its part; a panic there would be one of `read` here.
            reader.join().unwrap_or(Ok(()))?;
        }
        Ok(())
    })
}

/// Deletes everything on the file system with device number `device`; other mounts are left alone. The initramfs is
/// RAM: what stays there is lost to the node. A file that cannot be deleted costs memory only.
fn empty(directory: &Path, device: u64) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        match fs::symlink_metadata(&path) {
            Ok(data) if data.dev() != device => {}
            Ok(data) if data.is_dir() => {
                empty(&path, device);
                let _ = fs::remove_dir(&path);
            }
            Ok(_) => {
                let _ = fs::remove_file(&path);
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_whole_or_its_error_is_told() {
        let directory = tempfile::tempdir().expect("a directory");
        for size in [0, 1, PIECE - 1, PIECE, 3 * PIECE + 5] {
            let path = directory.path().join(size.to_string());
            fs::write(&path, vec![1; size]).expect("written");
            read_whole(&path.to_string_lossy()).expect("readable");
        }
        let missing = read_whole(&directory.path().join("missing").to_string_lossy()).expect_err("not there");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        read_whole(&directory.path().to_string_lossy()).expect_err("a folder");
    }
}
