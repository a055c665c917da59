//! Writing to the CONFIG partition: writable only while something is written, whole files or nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use nix::mount::MsFlags;

use super::{FLAGS, MOUNT};
use crate::error::{Error, Result};
use crate::files::replace;
use crate::sys::mount::remount;

/// Runs `work` with CONFIG writable; it is read-only and synced again afterwards, whatever `work` says.
pub(crate) fn with_writable<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    remount(MOUNT, FLAGS)?;
    let outcome = work();
    if let Ok(directory) = File::open(MOUNT) {
        let _ = nix::unistd::syncfs(directory);
    }
    remount(MOUNT, FLAGS | MsFlags::MS_RDONLY)?;
    outcome
}

/// Replaces a file and overwrites the old content, which held a secret. (A card may keep an old copy of a block where no
/// program can reach it; that is beyond a file system.)
pub(crate) fn replace_secret(path: &Path, content: &[u8]) -> Result<()> {
    let old = OpenOptions::new().write(true).open(path).map_err(|e| Error::io("open", path, e))?;
    replace(path, content)?;
    // The old file's blocks stay its own while it is open, although it has no name any more.
    overwrite(old, path)
}

/// Overwrites a file's content, then deletes it. A file that is not there is what was wanted.
pub(crate) fn remove_secret(path: &Path) -> Result<()> {
    match OpenOptions::new().write(true).open(path) {
        Ok(file) => overwrite(file, path)?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("open", path, e)),
    }
    fs::remove_file(path).map_err(|e| Error::io("delete", path, e))
}

fn overwrite(mut file: File, path: &Path) -> Result<()> {
    let failed = |e| Error::io("overwrite", path, e);
    let length = file.metadata().map_err(failed)?.len();
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    file.write_all(&vec![0; length as usize]).map_err(failed)?;
    file.sync_all().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_secret_is_overwritten_in_its_old_place() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("node.toml");
        let other_name = directory.path().join("old");
        fs::write(&path, "token = secret").expect("written");
        fs::hard_link(&path, &other_name).expect("a second name shows the old blocks");
        replace_secret(&path, b"clean").expect("replaced");
        assert_eq!(fs::read(&path).expect("read"), b"clean");
        assert_eq!(fs::read(&other_name).expect("read"), vec![0; 14]);
    }

    #[test]
    fn removing_a_secret_twice_is_no_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("ca.key");
        fs::write(&path, "key").expect("written");
        remove_secret(&path).expect("removed");
        remove_secret(&path).expect("still gone");
        assert!(!path.exists());
    }
}
