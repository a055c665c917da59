//! The snapshots of a server's data: where they lie and what is known of each.
//!
//! A snapshot is a database of its own in one folder, with a file beside it that says what it is. That file is written last and
//! removed first, so what it names is whole. The verbs of `kiln snapshot` and the server's schedule share this.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use jiff::Timestamp;
use kiln_pki::files;
use kiln_storage::sqlite;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::exit::Failure;

/// What is known of a snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Snapshot {
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    /// The revision whose state it is.
    pub(crate) revision: i64,
    /// How many keys it has.
    pub(crate) keys: usize,
    /// Bytes.
    pub(crate) size: u64,
    pub(crate) sha256: String,
}

/// A folder of snapshots.
#[derive(Debug, Clone)]
pub(crate) struct Snapshots(PathBuf);

impl Snapshots {
    /// Those of the server with this folder, in the one that was chosen for them if one was.
    pub(crate) fn of(server: &Path, chosen: Option<&Path>) -> Self {
        Snapshots(chosen.map_or_else(|| server.join("snapshots"), Path::to_owned))
    }

    /// Makes the folder, which only its owner can enter.
    ///
    /// # Errors
    /// When it can't be made.
    pub(crate) fn make(&self) -> anyhow::Result<()> {
        Ok(files::private_folder(&self.0)?)
    }

    /// The database of one, by its whole path.
    ///
    /// # Errors
    /// When there is no current folder.
    pub(crate) fn data(&self, name: &str) -> anyhow::Result<PathBuf> {
        std::path::absolute(self.0.join(format!("{name}.db"))).context("the snapshot's file")
    }

    fn facts(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.json"))
    }

    /// What is known of one; `None` if there is none.
    ///
    /// # Errors
    /// When what is said of it can't be read.
    pub(crate) fn read(&self, name: &str) -> anyhow::Result<Option<Snapshot>> {
        let path = self.facts(name);
        let Some(text) = files::read(&path)? else { return Ok(None) };
        let read = serde_json::from_str(&text);
        read.map(Some).map_err(|error| Failure::Input(format!("{}: {error}", path.display())).into())
    }

    /// Checks the database that was written for this name and says what it is.
    ///
    /// # Errors
    /// When it is damaged, or not of the revision that was `answered`.
    pub(crate) fn seal(&self, name: &str, created: Timestamp, answered: Option<i64>) -> anyhow::Result<Snapshot> {
        let file = self.data(name)?;
        let (keys, revision) = sqlite::verify(&file)?;
        if let Some(answered) = answered.filter(|answered| *answered != revision) {
            anyhow::bail!("the snapshot is of revision {revision}, and the server says {answered}");
        }
        let size = file.metadata().with_context(|| file.display().to_string())?.len();
        let snapshot = Snapshot { name: name.to_owned(), created, revision, keys, size, sha256: sha256(&file)? };
        files::write_private(&self.facts(name), &serde_json::to_string_pretty(&snapshot)?)?;
        Ok(snapshot)
    }

    /// All, the newest last.
    ///
    /// # Errors
    /// When the folder or what is said of one can't be read.
    pub(crate) fn all(&self) -> anyhow::Result<Vec<Snapshot>> {
        let wrong = || self.0.display().to_string();
        let entries = match std::fs::read_dir(&self.0) {
            Ok(entries) => entries.collect::<Result<Vec<_>, _>>().with_context(wrong)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).with_context(wrong),
        };
        let mut found = Vec::new();
        for entry in entries {
            if let Some(name) = entry.file_name().to_str().and_then(|name| name.strip_suffix(".json"))
                && self.data(name)?.exists()
            {
                found.extend(self.read(name)?);
            }
        }
        found.sort_by_key(|snapshot| snapshot.created);
        Ok(found)
    }

    /// Deletes one; `false` if there is none.
    ///
    /// # Errors
    /// When a file of it can't be removed.
    pub(crate) fn delete(&self, name: &str) -> anyhow::Result<bool> {
        let mut found = false;
        // What says that it is there goes first.
        for path in [self.facts(name), self.data(name)?] {
            match std::fs::remove_file(&path) {
                Ok(()) => found = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| path.display().to_string()),
            }
        }
        Ok(found)
    }
}

/// A name is that of a file, and nothing more.
///
/// # Errors
/// What else it would be.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if text.is_empty() || text.len() > 200 || !plain || text.starts_with('.') {
        return Err(format!("`{text}` is no name for a snapshot; use a-z, A-Z, 0-9, -, _ and ."));
    }
    Ok(text.to_owned())
}

/// A file's checksum.
///
/// # Errors
/// When it can't be read.
pub(crate) fn sha256(path: &Path) -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    let copied = File::open(path).and_then(|mut file| io::copy(&mut file, &mut hash));
    copied.with_context(|| path.display().to_string())?;
    Ok(kiln_pki::secret::hex(&hash.finalize()))
}
