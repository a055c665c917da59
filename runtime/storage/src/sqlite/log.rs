//! The database file: its layout, loading it, and appending to it.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rusqlite::{Connection, ErrorCode, OpenFlags, params};

use super::row::{Row, checksum};
use super::traffic::{self, Traffic};
use super::wal;
use crate::engine::State;
use crate::types::{Event, EventKind, Record, Revision, StorageError};

/// "KILN" in the file's header, so that no other program's database is taken for a store.
const APPLICATION_ID: i32 = 0x4b49_4c4e;
/// The version of the layout below.
const FORMAT: i32 = 1;

/// `value` is NULL in the row of a deletion. `mark` holds two revisions: `compacted`, before which the log has no
/// history, and `reserved`, up to which volatile writes may have used revisions that the log does not show.
const LAYOUT: &str = "
    CREATE TABLE log (
        revision INTEGER PRIMARY KEY,
        key TEXT NOT NULL,
        value BLOB,
        create_revision INTEGER NOT NULL,
        checksum INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE mark (name TEXT PRIMARY KEY, revision INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO mark VALUES ('compacted', 1), ('reserved', 1);";

/// What one commit changes.
#[derive(Default)]
pub(super) struct Batch {
    /// Writes to append.
    pub(super) events: Vec<Arc<Event>>,
    /// Rows to remove, with the new `compacted` mark.
    pub(super) forget: Option<(Vec<Revision>, Revision)>,
    /// The new `reserved` mark.
    pub(super) reserve: Option<Revision>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.forget.is_none() && self.reserve.is_none()
    }
}

/// What a database held when it was opened.
pub(super) struct Loaded {
    pub(super) state: State,
    pub(super) reserved: Revision,
    /// Rows of keys that have become volatile since they were written.
    pub(super) stray: Vec<Revision>,
}

/// An open database. Only one process can have it open.
pub(super) struct Log {
    connection: Connection,
    path: PathBuf,
    traffic: Traffic,
    /// Whether the WAL stays when the database is closed.
    keeps_wal: bool,
}

impl Log {
    /// Opens a database for a store to write to.
    pub(super) fn open(path: &Path) -> Result<Self, StorageError> {
        let damage = wal::find_damage(path).map_err(|error| io_failure(path, &error))?;
        if let Some(frame) = damage {
            let why = format!("commit {frame} of its log {}, which was on disk, is damaged", wal::path(path).display());
            return Err(damaged(path, &why));
        }
        Self::open_whatever(path)
    }

    /// The same, whatever its log's state: SQLite takes a damaged commit and all after it for never written.
    pub(super) fn open_whatever(path: &Path) -> Result<Self, StorageError> {
        create(path)?;
        let preallocated = wal::preallocate(path);
        let mut log = Self::connect(path, preallocated)?;
        log.check(wal::keep(&log.connection))?;
        log.keeps_wal = true;
        // Takes over the WAL that a crash left, so that what it holds is not counted as this run's commits. A full disk
        // may not have the room; the store can be read all the same.
        if let Err(error) = log.checkpoint() {
            tracing::warn!(%error, "the store's log stays beside its database");
        }
        Ok(log)
    }

    /// Opens a database that is written once.
    pub(super) fn create_plain(path: &Path) -> Result<Self, StorageError> {
        create(path)?;
        Self::connect(path, 0)
    }

    /// Opens a database that nobody writes to.
    pub(super) fn open_read_only(path: &Path) -> Result<Self, StorageError> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let connection = connection.map_err(|error| failure(path, &error))?;
        let log = Self { connection, path: path.to_owned(), traffic: Traffic::new(path, 0), keeps_wal: false };
        log.prepare(false)?;
        Ok(log)
    }

    fn connect(path: &Path, written: u64) -> Result<Self, StorageError> {
        let failed = |error| failure(path, &error);
        let connection = Connection::open(path).map_err(failed)?;
        // The exclusive lock comes before WAL mode: the WAL's index then lives on the heap, not in a shared file.
        connection
            .execute_batch(
                "PRAGMA locking_mode = EXCLUSIVE;
                 PRAGMA page_size = 4096;
                 PRAGMA journal_mode = WAL;
                 PRAGMA synchronous = FULL;
                 PRAGMA wal_autocheckpoint = 0;
                 PRAGMA journal_size_limit = 8388608;
                 PRAGMA cache_size = -1024;
                 PRAGMA mmap_size = 0;
                 PRAGMA temp_store = MEMORY;",
            )
            .map_err(failed)?;
        traffic::observe(&connection);
        let log = Self { connection, path: path.to_owned(), traffic: Traffic::new(path, written), keeps_wal: false };
        log.prepare(true)?;
        Ok(log)
    }

    /// Lays out a new file, or checks that an old one is ours.
    fn prepare(&self, may_be_new: bool) -> Result<(), StorageError> {
        let number = |pragma: &str| self.connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
        let (id, format) = self.check(number("application_id").and_then(|id| Ok((id, number("user_version")?))))?;
        let tables: i64 =
            self.check(self.connection.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0)))?;
        let name = self.path.display();
        match (id, format) {
            (APPLICATION_ID, FORMAT) => Ok(()),
            (0, 0) if tables == 0 && may_be_new => self.check(self.connection.execute_batch(&format!(
                "BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}; {LAYOUT} COMMIT;"
            ))),
            (APPLICATION_ID, newer) => {
                Err(StorageError::Sqlite(format!("{name} has format {newer}; this program knows {FORMAT}")))
            }
            _ => Err(StorageError::Corrupt(format!("{name} is a database of another program"))),
        }
    }

    /// Reads the whole log.
    pub(super) fn load(&self, is_volatile: impl Fn(&str) -> bool) -> Result<Loaded, StorageError> {
        let compacted = self.mark("compacted")?;
        let reserved = self.reserved()?;
        let mut old = BTreeMap::new();
        let mut state: Option<State> = None;
        let mut stray = Vec::new();
        let mut wrong = None;
        let now = Instant::now();
        self.each_row(|row, good| {
            if !good {
                let why =
                    || format!("the row of revision {}, key {}, does not match its checksum", row.revision, row.key);
                wrong.get_or_insert_with(|| damaged(&self.path, &why()));
            } else if wrong.is_some() {
                // The first fault is what is told.
            } else if is_volatile(&row.key) {
                stray.push(row.revision);
            } else if row.revision <= compacted {
                old.insert(row.key.clone(), row.into_record());
            } else {
                let state = state.get_or_insert_with(|| State::new(std::mem::take(&mut old), compacted));
                match self.replay(row, state) {
                    Ok(event) => state.apply(Arc::new(event), now),
                    Err(error) => wrong = Some(error),
                }
            }
        })?;
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        let mut state = state.unwrap_or_else(|| State::new(old, compacted));
        state.resume_at(reserved);
        Ok(Loaded { state, reserved, stray })
    }

    /// Calls with every row, in the order of revisions, and whether it matches its checksum.
    pub(super) fn each_row(&self, mut each: impl FnMut(Row, bool)) -> Result<(), StorageError> {
        let mut statement = self.check(
            self.connection
                .prepare("SELECT revision, key, value, create_revision, checksum FROM log ORDER BY revision"),
        )?;
        let mut rows = self.check(statement.query([]))?;
        while let Some(row) = self.check(rows.next())? {
            let row = self.check(Row::read(row))?;
            let good = checksum(&row.key, row.create_revision, row.value.as_deref()) == row.checksum;
            each(row, good);
        }
        Ok(())
    }

    /// The rows that do not match their checksums.
    pub(super) fn check_rows(&self) -> Result<Vec<(Revision, Arc<str>)>, StorageError> {
        let mut wrong = Vec::new();
        self.each_row(|row, good| {
            if !good {
                wrong.push((row.revision, row.key));
            }
        })?;
        Ok(wrong)
    }

    /// The revision up to which volatile writes may have come.
    pub(super) fn reserved(&self) -> Result<Revision, StorageError> {
        self.mark("reserved")
    }

    /// The event that a row of the history stands for.
    fn replay(&self, row: Row, state: &State) -> Result<Event, StorageError> {
        let revision = row.revision;
        let previous = state.records.get(&row.key).cloned();
        if row.value.is_some() {
            let mut record = row.into_record();
            if let Some(previous) = &previous {
                record.key = previous.key.clone();
            }
            return Ok(Event { kind: EventKind::Put { previous }, record, revision });
        }
        let record = previous.ok_or_else(|| {
            damaged(&self.path, &format!("revision {revision} deletes {}, which is not there", row.key))
        })?;
        Ok(Event { kind: EventKind::Delete, record, revision })
    }

    fn mark(&self, name: &str) -> Result<Revision, StorageError> {
        self.check(self.connection.query_row("SELECT revision FROM mark WHERE name = ?1", [name], |row| row.get(0)))
    }

    /// Makes a batch durable, all of it or nothing.
    pub(super) fn commit(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let committed = self.try_commit(batch);
        self.traffic.committed();
        committed.map_err(|error| failure(&self.path, &error))
    }

    fn try_commit(&mut self, batch: &Batch) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO log VALUES (?1, ?2, ?3, ?4, ?5)")?;
            for event in &batch.events {
                let Record { key, value, create_revision, .. } = &event.record;
                let value = match event.kind {
                    EventKind::Put { .. } => Some(&**value),
                    EventKind::Delete => None,
                };
                let sum = checksum(key, *create_revision, value);
                insert.execute(params![event.revision, &**key, value, create_revision, sum])?;
            }
            let mut mark = transaction.prepare_cached("UPDATE mark SET revision = ?2 WHERE name = ?1")?;
            if let Some((rows, compacted)) = &batch.forget {
                let mut delete = transaction.prepare_cached("DELETE FROM log WHERE revision = ?1")?;
                for row in rows {
                    delete.execute([row])?;
                }
                mark.execute(params!["compacted", compacted])?;
            }
            if let Some(reserved) = batch.reserve {
                mark.execute(params!["reserved", reserved])?;
            }
        }
        transaction.commit()
    }

    /// Moves the WAL's pages into the database file, if it has grown enough.
    pub(super) fn checkpoint_if_due(&mut self) -> Result<(), StorageError> {
        if self.traffic.checkpoint_is_due() { self.checkpoint().map(drop) } else { Ok(()) }
    }

    /// Answers whether all of it was moved.
    fn checkpoint(&mut self) -> Result<bool, StorageError> {
        let (frames, moved) = self.check(self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
            Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        }))?;
        self.traffic.checkpointed(u64::try_from(frames).unwrap_or(0), frames == moved);
        Ok(frames == moved)
    }

    /// Bytes written to the file and its WAL since it was opened.
    pub(super) fn bytes_written(&self) -> u64 {
        self.traffic.bytes()
    }

    /// Sets both marks and appends the records of another store, in one commit.
    pub(super) fn fill(&mut self, records: &[Record], revision: Revision) -> Result<(), StorageError> {
        let as_event = |record: &Record| {
            let kind = EventKind::Put { previous: None };
            Arc::new(Event { kind, record: record.clone(), revision: record.mod_revision })
        };
        let events = records.iter().map(as_event).collect();
        self.commit(&Batch { events, forget: Some((Vec::new(), revision)), reserve: Some(revision) })
    }

    /// Leaves WAL mode, so that the file holds everything, and closes it.
    pub(super) fn close_whole(self) -> Result<(), StorageError> {
        let mode =
            self.connection.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get::<_, String>(0));
        self.check(mode).map(drop)
    }

    fn check<T>(&self, result: rusqlite::Result<T>) -> Result<T, StorageError> {
        result.map_err(|error| failure(&self.path, &error))
    }

    /// Lets the file grow to this many pages and no further, as a full disk would.
    #[cfg(test)]
    pub(super) fn limit_pages(&self, pages: u32) {
        self.connection.pragma_update(None, "max_page_count", pages).expect("a page limit can be set");
    }
}

impl Drop for Log {
    /// Leaves a WAL of the same size that says nothing, so that the next start has nothing to move once more.
    fn drop(&mut self) {
        if !self.keeps_wal {
            return;
        }
        let left = match self.checkpoint() {
            Ok(true) => wal::clear(&self.connection, &self.path),
            // It is taken over at the next start.
            Ok(false) => Ok(()),
            Err(error) => Err(std::io::Error::other(error)),
        };
        if let Err(error) = left {
            tracing::warn!(%error, "the store's log is left as it is");
        }
    }
}

/// SQLite would create it readable for all; its log file takes the mode of this one.
fn create(path: &Path) -> Result<(), StorageError> {
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    opened.map(drop).map_err(|error| io_failure(path, &error))
}

fn io_failure(path: &Path, error: &std::io::Error) -> StorageError {
    StorageError::Sqlite(format!("{}: {error}", path.display()))
}

/// Damage that a repair can do something about.
fn damaged(path: &Path, why: &str) -> StorageError {
    StorageError::Corrupt(format!(
        "{}: {why}. Restore a snapshot (`kiln snapshot list`, `kiln snapshot restore`); or start the server once with \
         --datastore-repair, which keeps the file as it is beside the new one and goes on without what is damaged",
        path.display()
    ))
}

/// What an error of SQLite means to the store's caller.
fn failure(path: &Path, error: &rusqlite::Error) -> StorageError {
    let name = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull | ErrorCode::ReadOnly) => StorageError::Full(format!("{name}: {error}")),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::TypeMismatch) => {
            StorageError::Corrupt(format!("{name}: {error}. Restore a snapshot (`kiln snapshot list`)"))
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            StorageError::Sqlite(format!("{name} is in use by another process"))
        }
        Some(_) => StorageError::Sqlite(format!("{name}: {error}")),
        // A value of the wrong type or a missing row: the file's content, not the disk, is wrong.
        None => StorageError::Corrupt(format!("{name}: {error}")),
    }
}
