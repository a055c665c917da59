//! The rules of the cache: files appear whole or not at all, under the hash of their content where they have one.

use std::{
    fs::{self, File, Permissions},
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::{Error, Result, Settings};

/// Prefix of names that are being written; what a killed build leaves behind has it.
pub(super) const UNFINISHED: &str = ".unfinished-";

/// Age at which an unfinished file cannot belong to a running build any more.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// A directory below the cache, made when missing.
pub(super) fn directory(settings: &Settings, name: &str) -> Result<PathBuf> {
    let path = settings.cache.join(name);
    fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
    Ok(path)
}

/// Removes what killed builds left in `directory`. What cannot be removed stays: it harms nobody.
pub(super) fn sweep(directory: &Path, now: SystemTime) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let old = entry
            .metadata()
            .and_then(|meta| meta.modified())
            .is_ok_and(|time| now.duration_since(time).is_ok_and(|age| age > ABANDONED));
        if old && entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            let path = entry.path();
            let _gone = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
        }
    }
}

/// A new file beside `target`, to be filled and handed to [`keep`]. Dropped, it vanishes.
pub(super) fn begin(target: &Path) -> Result<NamedTempFile> {
    let directory = parent(target);
    tempfile::Builder::new()
        .prefix(UNFINISHED)
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(directory)
        .map_err(Error::io("create a file in", directory))
}

/// Syncs a file that [`begin`] made and gives it its name, replacing what had it.
pub(super) fn keep(file: NamedTempFile, target: &Path) -> Result<()> {
    let finish = || {
        file.as_file().sync_all()?;
        file.persist(target)?;
        File::open(parent(target))?.sync_all()
    };
    finish().map_err(Error::io("write", target))
}

/// Writes `bytes` to `target` whole or not at all.
pub(super) fn write(target: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = begin(target)?;
    file.write_all(bytes).map_err(Error::io("write", target))?;
    keep(file, target)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Size and SHA-256 (lower-case hex) of a file.
pub(super) fn digest(path: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut size = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((size, hex::encode(hash.finalize()))),
            n => {
                hash.update(&buffer[..n]);
                size += n as u64;
            }
        }
    }
}

/// Whether a cached file is there and is what it should be.
pub(super) fn holds(path: &Path, size: u64, sha256: &str) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == size)
        && digest(path).is_ok_and(|(_, found)| found == sha256)
}
