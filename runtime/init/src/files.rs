//! Files that must survive a power cut whole.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};

/// Replaces a file's content: written beside it, synced, then renamed over it. The old file stays if anything fails.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let temporary = path.with_extension("new");
    let written = write_synced(&temporary, content)
        .and_then(|()| fs::rename(&temporary, path).map_err(|e| Error::io("rename to", path, e)));
    if written.is_err() {
        // On a full partition half a file would take the room of the next try.
        let _ = fs::remove_file(&temporary);
    }
    if let Some(directory) = path.parent().and_then(|p| File::open(p).ok()) {
        let _ = directory.sync_all();
    }
    written
}

fn write_synced(path: &Path, content: &[u8]) -> Result<()> {
    let mut file = File::create(path).map_err(|e| Error::io("create", path, e))?;
    file.write_all(content).map_err(|e| Error::io("write", path, e))?;
    file.sync_all().map_err(|e| Error::io("write", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_content_and_nothing_beside_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("clock");
        replace(&path, b"1").expect("written");
        fs::create_dir(directory.path().join("clock.new")).expect("in the way");
        assert!(replace(&path, b"2").is_err());
        assert_eq!(fs::read(&path).expect("read"), b"1");
    }
}
