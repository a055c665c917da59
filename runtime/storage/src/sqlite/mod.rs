//! The store on SQLite.
//!
//! The database is a log: one row per write, numbered by its revision, appended at the end of one B-tree, so that a
//! commit touches as few pages of flash as can be. Reads and watches never touch it; they are served from the
//! [`crate::engine`], which is filled from the log when the store is opened. One thread writes: it commits whatever
//! writes have gathered while it waited for the disk, applies them to the engine, and only then answers them.

mod handle;
mod inbox;
mod log;
mod repair;
mod row;
mod snapshot;
mod traffic;
mod wal;
mod writer;

use std::path::Path;
use std::sync::Arc;

pub use repair::{Damage, Repaired, Restored, repair, restore, verify};
pub(crate) use snapshot::snapshot;

use self::handle::SqliteStorage;
use self::log::Log;
use self::writer::Timing;
use crate::engine::{Engine, Retention, is_volatile};
use crate::types::{Clock, Event, EventKind, Revision, Storage, StorageError, Volatile};

/// How to open a store.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Keys that never touch the disk.
    pub volatile: Vec<Volatile>,
    /// How much history is kept, in RAM and on disk.
    pub retention: Retention,
    /// The time.
    pub clock: Clock,
}

/// Opens the store in the database file `path`, which is created with mode 0600 if it is not there, and reads all of
/// it. Its folder must exist. Fails with [`StorageError::Corrupt`] if any row is damaged or the file is no store, with
/// [`StorageError::Sqlite`] if another process has it open.
pub fn open(path: &Path, options: Options) -> Result<Arc<dyn Storage>, StorageError> {
    open_log(Log::open(path)?, options)
}

fn open_log(log: Log, options: Options) -> Result<Arc<dyn Storage>, StorageError> {
    let Options { volatile, retention, clock } = options;
    let loaded = log.load(|key| is_volatile(&volatile, key))?;
    let timing = Timing::new(clock.clone(), &volatile);
    let engine = Engine::new(loaded.state, retention, volatile, clock);
    let mut forget = loaded.stray;
    for event in engine.apply(Vec::new()) {
        outdated_rows(&event, &mut forget);
    }
    Ok(Arc::new(SqliteStorage::start(log, engine, timing, loaded.reserved, forget)?))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NewValue;

    #[tokio::test]
    async fn a_full_disk_refuses_lasting_writes_while_reads_and_heartbeats_go_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = Log::open(&folder.path().join("state.db")).expect("a new store");
        log.limit_pages(16);
        let options = Options {
            volatile: vec![Volatile { prefix: "/leases/".to_owned(), lifetime: None }],
            ..Options::default()
        };
        let store = open_log(log, options).expect("a new store");
        store.create("/leases/a".to_owned(), NewValue::plain("1")).await.expect("there is room");
        let mut written = 0;
        let refusal = loop {
            match store.create(format!("/r/{written}"), NewValue::plain(vec![b'x'; 3_000])).await {
                Ok(_) => written += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(refusal, StorageError::Full(_)), "{refusal}");
        assert!(written > 0);
        let revision = store.current_revision();
        let lasting = store.create("/r/big".to_owned(), NewValue::plain(vec![b'x'; 9_000]));
        let volatile = store.create("/leases/b".to_owned(), NewValue::plain("1"));
        let (lasting, volatile) = tokio::join!(lasting, volatile);
        assert!(matches!(lasting, Err(StorageError::Full(_))));
        assert_eq!(volatile.expect("a heartbeat needs no disk").mod_revision, revision + 1);
        assert!(store.get("/r/0").await.expect("reads go on").is_some());
        store.delete("/r/0".to_owned(), None).await.expect("a delete needs no new page");
    }

    #[tokio::test]
    async fn a_store_that_is_closed_has_its_log_in_its_file_whoever_still_holds_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.db");
        let store = open(&path, Options::default()).expect("a new store");
        let mut watch = store.watch("/", store.current_revision()).expect("a watch");
        // Written before it closes, though nobody has waited for it.
        let (written, ()) = tokio::join!(store.create("/r/a".to_owned(), NewValue::plain("1")), store.close());
        written.expect("it was asked for first");
        let file = std::fs::read(&path).expect("the file");
        assert!(file.windows(4).any(|window| window == b"/r/a"), "the log is in the file");
        assert!(watch.next().await.is_some());
        assert!(watch.next().await.is_none(), "watches end");
        let late = store.create("/r/b".to_owned(), NewValue::plain("2")).await;
        assert!(matches!(late, Err(StorageError::Closed)));
        store.close().await;
        let again = open(&path, Options::default()).expect("nobody has the file");
        assert!(again.get("/r/a").await.expect("a read").is_some());
    }

    #[tokio::test]
    async fn the_file_stops_growing_when_one_key_is_written_over_and_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.db");
        let retention = Retention { count: 10, keep: 0, ..Retention::default() };
        let options = Options { retention, ..Options::default() };
        let store = open(&path, options.clone()).expect("a new store");
        let mut at = store.create("/r/a".to_owned(), NewValue::plain("0")).await.expect("a key").mod_revision;
        for _ in 0..1_500 {
            let value = NewValue::plain(vec![b'x'; 1_000]);
            at = store.update("/r/a".to_owned(), value, at).await.expect("the last revision").mod_revision;
        }
        assert!(store.counters().bytes_written > 1_500_000);
        drop(store);
        let size = std::fs::metadata(&path).expect("the file").len();
        assert!(size < 1_200_000, "{size} bytes for one record");
        let store = open(&path, options).expect("the store again");
        assert_eq!(store.get("/r/a").await.expect("the key").map(|record| record.mod_revision), Some(at));
    }
}
