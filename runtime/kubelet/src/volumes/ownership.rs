//! Volumes that belong to a pod's group (`securityContext.fsGroup`): its members may use all that is in them, and what is
//! made in their folders belongs to it too.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

const READ_WRITE: u32 = 0o660;
const READ_ONLY: u32 = 0o440;
const FOLDER: u32 = 0o110;
const SET_GID: u32 = 0o2000;

/// The group of a pod's volumes, and when they must be given to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) id: u32,
    /// Leave a volume alone if its root is right already (`fsGroupChangePolicy: OnRootMismatch`).
    pub(crate) only_on_mismatch: bool,
}

/// Gives all of a volume to a group.
pub(crate) fn give(dir: &Path, group: Group, read_only: bool) -> io::Result<()> {
    if group.only_on_mismatch && is_right(dir, group.id, read_only) {
        return Ok(());
    }
    walk(dir, &fs::symlink_metadata(dir)?, group.id, mask(read_only))
}

const fn mask(read_only: bool) -> u32 {
    if read_only { READ_ONLY } else { READ_WRITE }
}

fn is_right(dir: &Path, group: u32, read_only: bool) -> bool {
    let wanted = mask(read_only) | FOLDER | SET_GID;
    fs::metadata(dir).is_ok_and(|meta| meta.is_dir() && meta.gid() == group && meta.mode() & wanted == wanted)
}

/// Folders after what is in them, so that a root that is right tells that all is.
fn walk(path: &Path, meta: &Metadata, group: u32, mask: u32) -> io::Result<()> {
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            let path = entry?.path();
            match fs::symlink_metadata(&path) {
                Ok(meta) => walk(&path, &meta, group, mask)?,
                // A container may have removed it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    // Some file systems have no owners: what cannot be changed is as good as it gets.
    if let Err(error) = lchown(path, None, Some(group)) {
        tracing::debug!(path = %path.display(), %error, "cannot change the group");
    }
    if meta.is_symlink() {
        return Ok(());
    }
    let extra = if meta.is_dir() { SET_GID | FOLDER } else { 0 };
    let mode = (meta.mode() & 0o7777) | mask | extra;
    if let Err(error) = fs::set_permissions(path, Permissions::from_mode(mode)) {
        tracing::debug!(path = %path.display(), %error, "cannot change the permissions");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn group(only_on_mismatch: bool) -> Group {
        Group { id: 4321, only_on_mismatch }
    }

    /// Group and permissions of a path.
    fn look(path: &Path) -> (u32, u32) {
        let meta = fs::symlink_metadata(path).expect("it is there");
        (meta.gid(), meta.mode() & 0o7777)
    }

    #[test]
    fn members_of_the_group_can_use_all_of_a_volume() {
        let dir = tempfile::tempdir().expect("a folder");
        let (folder, file, link) = (dir.path().join("d"), dir.path().join("d/f"), dir.path().join("l"));
        fs::create_dir(&folder).expect("a folder");
        fs::write(&file, "x").expect("a file");
        symlink("/etc/hostname", &link).expect("a link");
        fs::set_permissions(&folder, Permissions::from_mode(0o700)).expect("changed");
        fs::set_permissions(&file, Permissions::from_mode(0o604)).expect("changed");
        let outside = look(Path::new("/etc/hostname"));
        give(dir.path(), group(false), false).expect("given");
        assert_eq!(look(&folder), (4321, 0o2770));
        assert_eq!(look(&file), (4321, 0o664));
        assert_eq!(look(&link).0, 4321);
        assert_eq!(look(Path::new("/etc/hostname")), outside);
        give(dir.path(), Group { id: 99, only_on_mismatch: false }, true).expect("given");
        assert_eq!(look(&file), (99, 0o664));
    }

    #[test]
    fn a_volume_whose_root_is_right_is_left_alone_if_the_pod_says_so() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("f");
        give(dir.path(), group(true), false).expect("given");
        fs::write(&file, "x").expect("a file");
        fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("changed");
        give(dir.path(), group(true), false).expect("left alone");
        assert_eq!(look(&file).1, 0o600);
        give(dir.path(), group(false), false).expect("given");
        assert_eq!(look(&file).1, 0o660);
    }
}
