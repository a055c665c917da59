//! What is on the disk is damaged, or the disk is full; and snapshots, which help against the first.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kiln_storage::{ListOptions, NewValue, Storage, StorageError, Volatile, sqlite};

fn try_open(path: &Path) -> Result<Arc<dyn Storage>, StorageError> {
    sqlite::open(path, sqlite::Options::default())
}

fn open(path: &Path) -> Arc<dyn Storage> {
    try_open(path).unwrap()
}

async fn put(store: &dyn Storage, key: &str, text: &str) -> i64 {
    store.create(key.to_owned(), NewValue::plain(text)).await.unwrap().mod_revision
}

async fn keys(store: &dyn Storage) -> Vec<String> {
    let page = store.list("/", ListOptions::default()).await.unwrap();
    page.records.iter().map(|record| record.key.to_string()).collect()
}

/// Changes the last place in a file where `from` stands.
fn overwrite(path: &Path, from: &[u8], to: &[u8]) {
    let bytes = fs::read(path).unwrap();
    let at = bytes.windows(from.len()).rposition(|window| window == from).unwrap();
    fs::File::options().write(true).open(path).unwrap().write_all_at(to, at as u64).unwrap();
}

#[tokio::test]
async fn a_damaged_row_is_named_with_what_to_do_and_a_repair_goes_on_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kiln.db");
    let store = open(&path);
    put(&*store, "/r/kept", "1").await;
    let lost = put(&*store, "/r/lost", "needle-lost").await;
    let old = put(&*store, "/r/changed", "old").await;
    let new = store.update("/r/changed".into(), NewValue::plain("needle-new"), old).await.unwrap().mod_revision;
    let gone = put(&*store, "/r/gone", "needle-gone").await;
    let (_, last) = store.delete("/r/gone".into(), None).await.unwrap();
    drop(store);
    assert_eq!(sqlite::repair(&path).unwrap(), None, "nothing is damaged yet");
    for name in [b"needle-lost", b"needle-gone"] {
        overwrite(&path, name, b"noodle-xxxx");
    }
    overwrite(&path, b"needle-new", b"noodle-new");

    let error = try_open(&path).err().unwrap();
    assert!(matches!(error, StorageError::Corrupt(_)), "{error}");
    for part in [&format!("revision {lost}"), "/r/lost", "checksum", "kiln snapshot restore", "--datastore-repair"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    let repaired = sqlite::repair(&path).unwrap().unwrap();
    let dropped: Vec<_> = repaired.dropped.iter().map(|d| (d.revision, d.key.as_str(), d.fell_back_to)).collect();
    assert_eq!(dropped, [(lost, "/r/lost", None), (new, "/r/changed", Some(old)), (gone, "/r/gone", None)]);
    assert!(!repaired.log_was_cut);
    assert!(fs::read(&repaired.kept).unwrap().windows(6).any(|window| window == b"noodle"));

    let store = open(&path);
    assert_eq!(keys(&*store).await, ["/r/changed", "/r/kept"]);
    assert_eq!(&*store.get("/r/changed").await.unwrap().unwrap().value, b"old");
    assert!(store.current_revision() > last);
    assert!(matches!(store.watch("/r/", last), Err(StorageError::Compacted { .. })), "watches list anew");
}

/// The files as a crash leaves them after a few commits, and where the log's frames begin.
async fn crashed(folder: &Path) -> std::path::PathBuf {
    let store = open(&folder.join("live.db"));
    for n in 0..20 {
        put(&*store, &format!("/r/{n:02}"), &format!("value-{n:02}")).await;
    }
    let path = folder.join("kiln.db");
    fs::copy(folder.join("live.db"), &path).unwrap();
    fs::copy(folder.join("live.db-wal"), folder.join("kiln.db-wal")).unwrap();
    path
}

#[tokio::test]
async fn a_damaged_commit_in_the_log_is_not_taken_for_its_torn_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = crashed(folder.path()).await;
    let log = folder.path().join("kiln.db-wal");
    let whole = fs::read(&log).unwrap();
    // A commit here is one frame, which holds all values so far.
    let frame = |n: usize| whole.windows(8).position(|w| w == format!("value-{n:02}").as_bytes()).unwrap() as u64;
    for n in [0, 7, 18] {
        fs::write(&log, &whole).unwrap();
        fs::File::options().write(true).open(&log).unwrap().write_all_at(b"x", frame(n)).unwrap();
        let error = try_open(&path).err().unwrap();
        assert!(matches!(error, StorageError::Corrupt(_)), "{error}");
        assert!(error.to_string().contains("kiln.db-wal, which was on disk, is damaged"), "{error}");
    }
    let repaired = sqlite::repair(&path).unwrap().unwrap();
    assert!(repaired.log_was_cut && repaired.dropped.is_empty());
    let store = open(&path);
    assert_eq!(keys(&*store).await.len(), 18);
    drop(store);

    // The last one may be that of a write that was never answered.
    let path = crashed(tempfile::tempdir_in(folder.path()).unwrap().keep().as_path()).await;
    let log = path.with_file_name("kiln.db-wal");
    let whole = fs::read(&log).unwrap();
    let last = whole.windows(8).position(|w| w == b"value-19").unwrap() as u64;
    fs::File::options().write(true).open(&log).unwrap().write_all_at(b"x", last).unwrap();
    assert_eq!(keys(&*open(&path)).await.len(), 19);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_under_writes_holds_all_that_was_answered_before_it_began() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("kiln.db"));
    let end = Arc::new(AtomicBool::new(false));
    let (answered, newest) = tokio::sync::watch::channel(0);
    let answered = Arc::new(answered);
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (store, end, answered) = (store.clone(), end.clone(), answered.clone());
            tokio::spawn(async move {
                let mut revisions = Vec::new();
                while !end.load(Ordering::Relaxed) {
                    let key = format!("/r/{writer}/{}", revisions.len());
                    let revision = put(&*store, &key, &key).await;
                    revisions.push(revision);
                    answered.send_if_modified(|newest| {
                        let newer = revision > *newest;
                        *newest = revision.max(*newest);
                        newer
                    });
                }
                revisions
            })
        })
        .collect();
    let mut snapshots = Vec::new();
    for n in 0..10 {
        newest.clone().wait_for(|newest| *newest > 100 * (n + 1)).await.unwrap();
        let before = *newest.borrow();
        let path = folder.path().join(format!("{n}.db"));
        let revision = store.snapshot(&path).await.unwrap();
        assert!(revision >= before, "the snapshot is of {revision}, and {before} was answered");
        snapshots.push((path, revision));
    }
    end.store(true, Ordering::Relaxed);
    let mut all = Vec::new();
    for writer in writers {
        all.extend(writer.await.unwrap());
    }
    all.sort_unstable();
    for (path, revision) in snapshots {
        let expected = all.iter().filter(|answered| **answered <= revision).count();
        assert_eq!(sqlite::verify(&path).unwrap(), (expected, revision));
        let copy = open(&path);
        assert_eq!(keys(&*copy).await.len(), expected);
    }
}

#[tokio::test]
async fn a_restore_keeps_the_state_before_and_makes_every_known_revision_old() {
    let folder = tempfile::tempdir().unwrap();
    let (path, snapshot) = (folder.path().join("kiln.db"), folder.path().join("snapshot.db"));
    let store = open(&path);
    put(&*store, "/r/a", "1").await;
    store.snapshot(&snapshot).await.unwrap();
    let later = put(&*store, "/r/b", "2").await;
    let in_use = sqlite::restore(&snapshot, &path).unwrap_err().to_string();
    assert!(in_use.contains("in use by another process"), "{in_use}");
    assert_eq!(keys(&*store).await, ["/r/a", "/r/b"]);
    drop(store);

    let restored = sqlite::restore(&snapshot, &path).unwrap();
    assert_eq!(restored.records, 1);
    let store = open(&path);
    assert_eq!(keys(&*store).await, ["/r/a"]);
    assert!(restored.revision > later && store.current_revision() == restored.revision);
    assert!(matches!(store.watch("/r/", later), Err(StorageError::Compacted { .. })));
    assert_eq!(put(&*store, "/r/c", "3").await, restored.revision + 1);
    let kept = restored.kept.unwrap();
    assert_eq!(keys(&*open(&kept)).await, ["/r/a", "/r/b"], "the state before");

    // The snapshot itself was not touched, and serves again, also where nothing is.
    let elsewhere = folder.path().join("new.db");
    assert_eq!(sqlite::restore(&snapshot, &elsewhere).unwrap().kept, None);
    assert_eq!(keys(&*open(&elsewhere)).await, ["/r/a"]);
}

#[tokio::test]
async fn a_damaged_snapshot_is_refused_and_a_damaged_store_can_be_restored() {
    let folder = tempfile::tempdir().unwrap();
    let (path, snapshot) = (folder.path().join("kiln.db"), folder.path().join("snapshot.db"));
    let store = open(&path);
    put(&*store, "/r/a", "needle").await;
    let revision = store.snapshot(&snapshot).await.unwrap();
    drop(store);
    let bad = folder.path().join("bad.db");
    fs::copy(&snapshot, &bad).unwrap();
    overwrite(&bad, b"needle", b"noodle");
    assert!(matches!(sqlite::restore(&bad, &path), Err(StorageError::Corrupt(_))));
    fs::write(&bad, b"").unwrap();
    assert!(matches!(sqlite::restore(&bad, &path), Err(StorageError::Corrupt(_))));
    assert_eq!(keys(&*open(&path)).await, ["/r/a"], "nothing was changed");

    fs::write(&path, [b'x'; 8192]).unwrap();
    let restored = sqlite::restore(&snapshot, &path).unwrap();
    assert!(restored.revision > revision + 100_000_000, "what was written since is not known");
    assert_eq!(keys(&*open(&path)).await, ["/r/a"]);
}

/// Not a test of its own: what [`a_full_disk_refuses_writes_until_there_is_room_again`] runs in namespaces of its own, where
/// it may mount a small file system.
#[tokio::test]
async fn fill_a_small_disk() {
    let Ok(folder) = std::env::var("KILN_FULL_DISK_TEST") else { return };
    let folder = Path::new(&folder);
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "none"]).arg(folder).status().unwrap();
    assert!(mounted.success());
    let ballast = folder.join("ballast");
    fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let path = folder.join("kiln.db");
    let volatile = vec![Volatile { prefix: "/leases/".to_owned(), lifetime: None }];
    let options = sqlite::Options { volatile, ..sqlite::Options::default() };
    let store = sqlite::open(&path, options.clone()).unwrap();
    let mut watch = store.watch("/", 1).unwrap();
    let big = || NewValue::plain(vec![b'x'; 40_000]);
    let mut written = 0;
    let refusal = loop {
        match store.create(format!("/r/{written}"), big()).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refusal, StorageError::Full(_)), "{refusal}");
    assert!(written > 20, "{written}");
    // Reads, watches and heartbeats go on, and so does deleting.
    let mut lease = put(&*store, "/leases/node", "1").await;
    for _ in 0..100 {
        lease = store.update("/leases/node".into(), NewValue::plain("2"), lease).await.unwrap().mod_revision;
    }
    assert_eq!(keys(&*store).await.len(), written + 1);
    for n in 0..written {
        assert_eq!(&*watch.next().await.unwrap().record.key, format!("/r/{n}"));
    }
    assert!(matches!(store.create("/r/more".into(), big()).await, Err(StorageError::Full(_))));
    fs::remove_file(&ballast).unwrap();
    // By itself, once there is room.
    put(&*store, "/r/small", "1").await;
    store.create("/r/more".into(), big()).await.unwrap();
    drop(store);
    assert_eq!(keys(&*sqlite::open(&path, options).unwrap()).await.len(), written + 2);
    println!("all of it was done");
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room_again() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount"])
        .arg(std::env::current_exe().unwrap())
        .args(["fill_a_small_disk", "--exact", "--nocapture", "--test-threads=1"])
        .env("KILN_FULL_DISK_TEST", folder.path())
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("all of it was done"), "{text}");
}
