//! What can be done with the files of a store that is not open: going on without damaged rows, and taking a snapshot's
//! content in place of the present one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::log::{Batch, Log};
use super::wal;
use crate::types::{Revision, StorageError};

/// How much the revision is raised when history is replaced: further than writes can have come that nobody knows of any
/// more, so that no revision is ever used twice.
const JUMP: Revision = 1_000_000;
/// The same where the present revision can't be read.
const BLIND_JUMP: Revision = 1_000_000_000;

/// A row that was dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Its revision.
    pub revision: Revision,
    /// Its key, as far as that can be read.
    pub key: String,
    /// The revision of the older state that the key has again; `None`: the key is gone, or never had the damaged state.
    pub fell_back_to: Option<Revision>,
}

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// The rows that were dropped.
    pub dropped: Vec<Damage>,
    /// Whether the end of SQLite's log was dropped, with writes that nothing is known of.
    pub log_was_cut: bool,
    /// Where the files are kept as they were.
    pub kept: PathBuf,
}

/// Drops the damaged rows of the store at `path`, which is not open, and its history, so that watches list anew. The
/// files are kept as they were beside it. `None`: nothing is damaged.
///
/// # Errors
/// When the damage is not in rows but in SQLite's own pages: only a snapshot helps then.
pub fn repair(path: &Path) -> Result<Option<Repaired>, StorageError> {
    let failed = |error: io::Error| StorageError::Sqlite(format!("{}: {error}", path.display()));
    let torn = wal::find_damage(path).map_err(failed)?.is_some();
    if !torn && Log::open(path)?.check_rows()?.is_empty() {
        return Ok(None);
    }
    let kept = unused(path, "damaged");
    fs::copy(path, &kept).map_err(failed)?;
    if wal::path(path).exists() {
        fs::copy(wal::path(path), wal::path(&kept)).map_err(failed)?;
    }
    let mut log = Log::open_whatever(path)?;
    let damaged = log.check_rows()?;
    // What each key has when the good rows are carried out in order.
    let mut live: BTreeMap<Arc<str>, Revision> = BTreeMap::new();
    let mut rows = Vec::new();
    let mut last = log.reserved()?;
    log.each_row(|row, good| {
        rows.push(row.revision);
        last = last.max(row.revision);
        match (good, row.is_delete()) {
            (true, false) => _ = live.insert(row.key.clone(), row.revision),
            (true, true) => _ = live.remove(&row.key),
            (false, _) => {}
        }
    })?;
    let lives: std::collections::BTreeSet<Revision> = live.values().copied().collect();
    rows.retain(|revision| !lives.contains(revision));
    log.commit(&Batch { events: Vec::new(), forget: Some((rows, last + JUMP)), reserve: Some(last + JUMP) })?;
    let dropped = damaged
        .into_iter()
        .map(|(revision, key)| {
            let fell_back_to = live.get(&key).copied().filter(|found| *found < revision);
            Damage { revision, key: key.to_string(), fell_back_to }
        })
        .collect();
    Ok(Some(Repaired { dropped, log_was_cut: torn, kept }))
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// How many keys there are now.
    pub records: usize,
    /// The revision from which the store goes on: later than any that it had.
    pub revision: Revision,
    /// Where the state before is kept, if there was any.
    pub kept: Option<PathBuf>,
}

/// Reads the whole of a snapshot, and answers how many keys it has, and its revision.
///
/// # Errors
/// When any row is damaged, or it is no snapshot.
pub fn verify(snapshot: &Path) -> Result<(usize, Revision), StorageError> {
    let loaded = Log::open_read_only(snapshot)?.load(|_| false)?;
    Ok((loaded.state.records.len(), loaded.state.revision))
}

/// Puts a snapshot's content in the place of the store at `path`, which is not open and need not be there. All revisions
/// that were ever given are in the past afterwards, so that watches list anew.
///
/// # Errors
/// When the snapshot is damaged or the store is in use; then nothing was changed.
pub fn restore(snapshot: &Path, path: &Path) -> Result<Restored, StorageError> {
    let failed = |path: &Path, error: io::Error| StorageError::Sqlite(format!("{}: {error}", path.display()));
    let (records, of_snapshot) = verify(snapshot)?;
    let present = if path.exists() { present_revision(path)? } else { Some(0) };
    let revision = match present {
        Some(present) => present.max(of_snapshot) + JUMP,
        None => of_snapshot + BLIND_JUMP,
    };
    let new = unused(path, "restoring");
    fs::copy(snapshot, &new).map_err(|error| failed(&new, error))?;
    let mut log = Log::create_plain(&new)?;
    log.commit(&Batch { events: Vec::new(), forget: Some((Vec::new(), revision)), reserve: Some(revision) })?;
    log.close_whole()?;
    File::open(&new).and_then(|file| file.sync_all()).map_err(|error| failed(&new, error))?;
    let kept = path.exists().then(|| unused(path, "before-restore"));
    if let Some(kept) = &kept {
        // The log goes with its database: beside another, SQLite would take it for that one's.
        let log = wal::path(path);
        if log.exists() {
            fs::rename(&log, wal::path(kept)).map_err(|error| failed(&log, error))?;
        }
        fs::rename(path, kept).map_err(|error| failed(path, error))?;
    }
    fs::rename(&new, path).map_err(|error| failed(path, error))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| failed(folder, error))?;
    Ok(Restored { records, revision, kept })
}

/// The latest revision of a store that is not open; `None` if it is too damaged to tell.
fn present_revision(path: &Path) -> Result<Option<Revision>, StorageError> {
    let read = || {
        let log = Log::open_whatever(path)?;
        let mut last = log.reserved()?;
        log.each_row(|row, _| last = last.max(row.revision))?;
        Ok(last)
    };
    match read() {
        Ok(last) => Ok(Some(last)),
        Err(StorageError::Corrupt(why)) => {
            tracing::warn!("the present state can't be read: {why}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A name beside `path` that nothing has: `kiln.db.damaged`, `kiln.db.damaged-2`...
fn unused(path: &Path, what: &str) -> PathBuf {
    let name = |number: usize| {
        let mut name = path.as_os_str().to_owned();
        name.push(if number == 1 { format!(".{what}") } else { format!(".{what}-{number}") });
        PathBuf::from(name)
    };
    (1..).map(name).find(|name| !name.exists()).unwrap_or_else(|| name(0))
}
