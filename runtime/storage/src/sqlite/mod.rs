//! The store on SQLite.
//!
//! The database is a log: one row per write, numbered by its revision, appended at the end of one B-tree, so that a
//! commit touches as few pages of flash as can be. Reads and watches never touch it; they are served from the
//! [`crate::engine`], which is filled from the log when the store is opened. One thread writes: it commits whatever
//! writes have gathered while it waited for the disk, applies them to the engine, and only then answers them.

mod handle;
mod log;
mod snapshot;
mod traffic;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

pub(crate) use snapshot::snapshot;

use self::handle::SqliteStorage;
use self::log::Log;
use crate::engine::{Engine, Retention};
use crate::types::{Event, EventKind, Revision, Storage, StorageError};

/// How to open a store.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Keys that begin with one of these live in RAM only: a restart loses them, but never reuses their revisions.
    pub volatile_prefixes: Vec<String>,
    /// How much history is kept, in RAM and on disk.
    pub retention: Retention,
}

/// Opens the store in the database file `path`, which is created with mode 0600 if it is not there, and reads all of
/// it. Its folder must exist. Fails with [`StorageError::Corrupt`] if any row is damaged or the file is no store, with
/// [`StorageError::Sqlite`] if another process has it open.
pub fn open(path: &Path, options: Options) -> Result<Arc<dyn Storage>, StorageError> {
    open_log(Log::open(path)?, options)
}

fn open_log(log: Log, options: Options) -> Result<Arc<dyn Storage>, StorageError> {
    let Options { volatile_prefixes, retention } = options;
    let loaded = log.load(|key| volatile_prefixes.iter().any(|prefix| key.starts_with(prefix.as_str())))?;
    let engine = Engine::new(loaded.state, retention, volatile_prefixes);
    let mut forget = loaded.stray;
    for event in engine.apply(Vec::new(), Instant::now()) {
        outdated_rows(&event, &mut forget);
    }
    Ok(Arc::new(SqliteStorage::start(log, engine, loaded.reserved, forget)?))
}

/// Adds the rows that only this event's place in the history kept in the log; answers how many bytes they hold.
fn outdated_rows(event: &Event, rows: &mut Vec<Revision>) -> usize {
    match &event.kind {
        EventKind::Put { previous: None } => 0,
        EventKind::Put { previous: Some(previous) } => {
            rows.push(previous.mod_revision);
            previous.value.len()
        }
        EventKind::Delete => {
            rows.extend([event.record.mod_revision, event.revision]);
            event.record.value.len()
        }
    }
}
