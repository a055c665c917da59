//! What a SQLite store keeps over a restart, an orderly one or not.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use kiln_storage::{EventKind, ListOptions, NewValue, Storage, StorageError, Volatile, sqlite};

const LEASES: &str = "/registry/coordination.k8s.io/leases/kube-node-lease/";

fn open(folder: &Path) -> Arc<dyn Storage> {
    try_open(folder).unwrap()
}

fn try_open(folder: &Path) -> Result<Arc<dyn Storage>, StorageError> {
    let options = sqlite::Options {
        volatile: vec![Volatile { prefix: LEASES.to_owned(), lifetime: None }],
        ..sqlite::Options::default()
    };
    sqlite::open(&folder.join("state.db"), options)
}

async fn put(store: &dyn Storage, key: &str) -> i64 {
    store.create(key.to_owned(), NewValue::plain(key)).await.unwrap().mod_revision
}

#[tokio::test]
async fn records_and_history_are_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let a = put(&*store, "/r/a").await;
    let b = put(&*store, "/r/b").await;
    let changed = store.update("/r/a".into(), NewValue::plain("2"), a).await.unwrap();
    let (_, deleted) = store.delete("/r/b".into(), None).await.unwrap();
    drop(store);

    let store = open(folder.path());
    assert_eq!(store.get("/r/a").await.unwrap(), Some(changed.clone()));
    assert_eq!(store.get("/r/b").await.unwrap(), None);
    let past = store.list("/r/", ListOptions { at: Some(b), ..ListOptions::default() }).await.unwrap();
    assert_eq!(past.records.len(), 2);
    assert_eq!(&*past.records[0].value, b"/r/a");
    let mut watch = store.watch("/r/", a).unwrap();
    assert_eq!(watch.next().await.unwrap().revision, b);
    assert_eq!(watch.next().await.unwrap().record, changed);
    let event = watch.next().await.unwrap();
    assert_eq!((event.kind, event.revision, event.record.mod_revision), (EventKind::Delete, deleted, b));
}

#[tokio::test]
async fn compacted_history_stays_compacted_and_live_records_stay() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let kept = put(&*store, "/r/kept").await;
    put(&*store, "/r/gone").await;
    store.delete("/r/gone".into(), None).await.unwrap();
    let at = put(&*store, "/r/changed").await;
    let changed = store.update("/r/changed".into(), NewValue::plain("2"), at).await.unwrap();
    store.compact(changed.mod_revision).await.unwrap();
    drop(store);

    let store = open(folder.path());
    let page = store.list("/r/", ListOptions::default()).await.unwrap();
    assert_eq!(page.records.len(), 2);
    assert_eq!(store.get("/r/changed").await.unwrap(), Some(changed.clone()));
    assert_eq!(store.get("/r/kept").await.unwrap().unwrap().mod_revision, kept);
    let refused = store.watch("/r/", changed.mod_revision - 1);
    assert!(matches!(refused, Err(StorageError::Compacted { oldest }) if oldest == changed.mod_revision));
}

#[tokio::test]
async fn volatile_keys_are_not_written_and_their_revisions_are_never_reused() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let lease = format!("{LEASES}node-1");
    let mut revision = put(&*store, &lease).await;
    let commits = store.counters().commits;
    for _ in 0..500 {
        revision = store.update(lease.clone(), NewValue::plain("t"), revision).await.unwrap().mod_revision;
    }
    assert_eq!(store.counters().commits, commits, "heartbeats reached the disk");
    drop(store);

    let store = open(folder.path());
    assert!(store.current_revision() >= revision);
    assert_eq!(store.get(&lease).await.unwrap(), None);
    assert!(put(&*store, "/r/a").await > revision);
    // Whoever watched the leases has missed their loss and must list anew; others go on.
    assert!(matches!(store.watch("/registry/coordination.k8s.io/", revision), Err(StorageError::Compacted { .. })));
    assert!(store.watch("/r/", revision).is_ok());
}

#[tokio::test]
async fn the_count_of_written_bytes_is_this_runs_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for n in 0..200 {
        put(&*store, &format!("/r/{n}")).await;
    }
    let first = store.counters();
    assert!(first.bytes_written >= 200 * 4096, "{first:?}");
    // As a crash would leave it: the database with a full WAL beside it.
    let copy = tempfile::tempdir().unwrap();
    for name in ["state.db", "state.db-wal"] {
        fs::copy(folder.path().join(name), copy.path().join(name)).unwrap();
    }
    let store = open(copy.path());
    put(&*store, "/r/last").await;
    let second = store.counters();
    assert_eq!(second.commits, 1);
    assert!(second.bytes_written < 100_000, "{second:?}");
}

#[tokio::test]
async fn the_database_is_only_for_its_owner_and_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&*store, "/r/secret").await;
    for entry in fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.file_name());
    }
    let message = try_open(folder.path()).err().unwrap().to_string();
    assert!(message.contains("state.db is in use by another process"), "{message}");
}

#[tokio::test]
async fn a_flipped_bit_in_a_value_is_found_when_the_store_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&*store, "/r/needle-in-the-file").await;
    drop(store);
    let path = folder.path().join("state.db");
    let bytes = fs::read(&path).unwrap();
    let at = bytes.windows(6).rposition(|window| window == b"needle").unwrap();
    fs::File::options().write(true).open(&path).unwrap().write_all_at(b"noodle", at as u64).unwrap();
    let error = try_open(folder.path()).err().unwrap();
    assert!(matches!(error, StorageError::Corrupt(_)), "{error}");
    assert!(error.to_string().contains("checksum"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_no_store_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("state.db"), [b'x'; 8192]).unwrap();
    assert!(matches!(try_open(folder.path()), Err(StorageError::Corrupt(_))));
    assert!(matches!(try_open(&folder.path().join("missing")), Err(StorageError::Sqlite(_))));
}
