//! mount(2) with errors that name the target.

use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::error::{Error, Result};

/// Mounts `source` of type `kind` on `target`, which is made if it does not exist.
pub(crate) fn attach(source: &str, target: &str, kind: &str, flags: MsFlags, data: &str) -> Result<()> {
    // A read-only root may already hold the directory; the mount's own error tells if not.
    let _ = std::fs::create_dir_all(target);
    let data = if data.is_empty() { None } else { Some(data) };
    mount(Some(source), target, Some(kind), flags, data)
        .map_err(|e| Error::sys("mount", format!("{source} on {target}"), e))
}

/// Shows directory `source` at `target` too.
pub(crate) fn bind(source: &str, target: &str) -> Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(|e| Error::sys("bind-mount", format!("{source} on {target}"), e))
}

/// Changes a mount's flags, such as read-only.
pub(crate) fn remount(target: &str, flags: MsFlags) -> Result<()> {
    mount(None::<&str>, target, None::<&str>, MsFlags::MS_REMOUNT | flags, None::<&str>)
        .map_err(|e| Error::sys("remount", target, e))
}

/// Moves a mount.
pub(crate) fn shift(source: &str, target: &str) -> Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .map_err(|e| Error::sys("move the mount", format!("{source} to {target}"), e))
}

/// Unmounts; `lazy` detaches a busy mount from the tree.
pub(crate) fn detach(target: &str, lazy: bool) -> Result<()> {
    let flags = if lazy { MntFlags::MNT_DETACH } else { MntFlags::empty() };
    umount2(target, flags).map_err(|e| Error::sys("unmount", target, e))
}

/// Whether something is mounted exactly at `target`, by `/proc/self/mounts`.
pub(crate) fn is_mounted(target: &str) -> bool {
    std::fs::read_to_string("/proc/self/mounts").is_ok_and(|table| listed(&table, Path::new(target)))
}

fn listed(table: &str, target: &Path) -> bool {
    table.lines().any(|line| line.split(' ').nth(1).is_some_and(|field| Path::new(field) == target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_its_exact_target() {
        let table = "proc /proc proc rw 0 0\n/dev/vda4 /state ext4 rw,noatime 0 0\n";
        assert!(listed(table, Path::new("/state")));
        assert!(!listed(table, Path::new("/stat")));
    }
}
