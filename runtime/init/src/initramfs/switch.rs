//! switch_root: frees the initramfs's memory and makes the verified root the system's root.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{chdir, chroot, execv};

use super::root::SYSROOT;
use crate::error::{Error, Result};
use crate::sys::mount::shift;

const INIT: &str = "/usr/sbin/init";

/// Moves the kernel file systems, empties the initramfs and execs the new root's init.
pub(super) fn to_root() -> Result<Infallible> {
    let init = format!("{SYSROOT}{INIT}");
    // Read through verity before the point of no return, so that a damaged root is told while a retry is possible.
    fs::read(&init).map_err(|e| Error::io("read", &init, e))?;
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
