//! Files that hold keys: written whole or not at all, and readable by their owner only. Also where systems keep their CAs.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::PkiError;
use crate::secret::{hex, random_bytes};

/// Where systems keep the CAs that they trust.
const SYSTEM_CAS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// The CAs that this system trusts, PEM; `None` if there are none where systems keep them.
pub fn system_cas() -> Option<Vec<u8>> {
    SYSTEM_CAS.iter().find_map(|path| fs::read(path).ok())
}

/// Writes a secret: mode 0600, else as [`write`].
///
/// # Errors
/// [`PkiError::File`]; the old file, if any, is then untouched.
pub fn write_private(path: &Path, contents: &str) -> Result<(), PkiError> {
    write(path, contents, 0o600)
}

/// Writes something that all may read: mode 0644, else as [`write`].
///
/// # Errors
/// [`PkiError::File`]; the old file, if any, is then untouched.
pub fn write_public(path: &Path, contents: &str) -> Result<(), PkiError> {
    write(path, contents, 0o644)
}

/// Replaces `path` atomically: a new file beside it with that mode from its first moment, synced, renamed over it, and the
/// folder synced. A power cut leaves the old contents or the new.
///
/// # Errors
/// [`PkiError::File`]; the old file, if any, is then untouched.
pub fn write(path: &Path, contents: &str, mode: u32) -> Result<(), PkiError> {
    let failed = |source| PkiError::File { path: path.to_owned(), source };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{}", hex(&random_bytes::<6>()?)));
    let written = write_new(&beside, contents, mode).and_then(|()| fs::rename(&beside, path));
    if let Err(source) = written {
        // The half-written file is of no use; what to report is the first error.
        let _ = fs::remove_file(&beside);
        return Err(failed(source));
    }
    sync_folder(path).map_err(failed)
}

fn write_new(path: &Path, contents: &str, mode: u32) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(contents.as_bytes())?;
    file.sync_all()
}

/// Syncs the folder that `path` lies in, so that a rename or removal there outlives a power cut.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Renames within one folder, durably.
///
/// # Errors
/// [`PkiError::File`] with the new path.
pub fn rename(from: &Path, to: &Path) -> Result<(), PkiError> {
    fs::rename(from, to).and_then(|()| sync_folder(to)).map_err(|source| PkiError::File { path: to.to_owned(), source })
}

/// A folder for secrets, mode 0700, with the folders above it made as needed.
///
/// # Errors
/// [`PkiError::File`].
pub fn private_folder(path: &Path) -> Result<(), PkiError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| PkiError::File { path: path.to_owned(), source })
}

/// The file's text, or `None` where there is no such file.
///
/// # Errors
/// [`PkiError::File`] for anything but its absence.
pub fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::File { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_written_whole_private_and_without_leftovers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        write_public(&path, "old").unwrap();
        write_private(&path, "new").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("new"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_write_that_fails_names_the_file_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("folder");
        fs::create_dir(&path).unwrap();
        let error = write_private(&path, "x").unwrap_err().to_string();
        assert!(error.starts_with(&path.display().to_string()), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
