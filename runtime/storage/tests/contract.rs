//! What every store promises, checked over each of them.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::sync::Arc;

use kiln_storage::testing::Etcd;
use kiln_storage::{EventKind, ListOptions, NewValue, Retention, Storage, StorageError, etcd, memory, sqlite};

/// A store under test, and what goes with it.
struct Subject {
    store: Arc<dyn Storage>,
    folder: tempfile::TempDir,
    etcd: Option<Etcd>,
}

async fn subjects(retention: &Retention) -> Vec<Subject> {
    let folder = || tempfile::tempdir().unwrap();
    let on_disk = folder();
    let options = sqlite::Options { retention: retention.clone(), ..sqlite::Options::default() };
    let sqlite = sqlite::open(&on_disk.path().join("state.db"), options).unwrap();
    let server = Etcd::start();
    let options = etcd::Options { retention: retention.clone(), ..etcd::Options::new(vec![server.endpoint()]) };
    let on_etcd = etcd::open(options).await.unwrap();
    vec![
        Subject { store: memory::open_with(retention.clone()), folder: folder(), etcd: None },
        Subject { store: sqlite, folder: on_disk, etcd: None },
        Subject { store: on_etcd, folder: folder(), etcd: Some(server) },
    ]
}

async fn all() -> Vec<Subject> {
    subjects(&Retention::default()).await
}

fn value(text: &str) -> NewValue {
    NewValue::plain(text)
}

async fn put(store: &dyn Storage, key: &str) -> i64 {
    store.create(key.to_owned(), value("{}")).await.unwrap().mod_revision
}

fn keys(page: &kiln_storage::Page) -> Vec<&str> {
    page.records.iter().map(|record| &*record.key).collect()
}

#[tokio::test]
async fn a_write_carries_its_own_revision() {
    for Subject { store, etcd: _etcd, .. } in all().await {
        assert_eq!(store.current_revision(), 1);
        let text = NewValue { bytes: b"{\"resourceVersion\":\"\"}".to_vec(), revision_at: Some(20) };
        let made = store.create("/registry/core/nodes/a".to_owned(), text).await.unwrap();
        assert_eq!(&*made.value, b"{\"resourceVersion\":\"2\"}");
        assert_eq!((made.create_revision, made.mod_revision), (2, 2));
        let changed = store.update("/registry/core/nodes/a".to_owned(), value("x"), 2).await.unwrap();
        assert_eq!((changed.create_revision, changed.mod_revision), (2, 3));
        assert_eq!(store.get("/registry/core/nodes/a").await.unwrap(), Some(changed));
        assert_eq!(store.counters().writes, 2);
    }
}

#[tokio::test]
async fn a_write_with_the_wrong_precondition_is_refused_and_takes_no_revision() {
    for Subject { store, etcd: _etcd, .. } in all().await {
        let at = put(&*store, "/a/x").await;
        assert!(matches!(store.create("/a/x".into(), value("")).await, Err(StorageError::Exists)));
        let stale = store.update("/a/x".into(), value(""), 1).await;
        assert!(matches!(stale, Err(StorageError::Conflict { current: Some(r) }) if r.mod_revision == at));
        assert!(matches!(store.delete("/a/x".into(), Some(1)).await, Err(StorageError::Conflict { .. })));
        assert!(matches!(store.update("/a/y".into(), value(""), 1).await, Err(StorageError::NotFound)));
        assert!(matches!(store.delete("/a/y".into(), None).await, Err(StorageError::NotFound)));
        assert_eq!(store.current_revision(), at);
        let (last, deleted_at) = store.delete("/a/x".into(), Some(at)).await.unwrap();
        assert_eq!((last.mod_revision, deleted_at), (at, at + 1));
        assert_eq!(store.get("/a/x").await.unwrap(), None);
    }
}

#[tokio::test]
async fn of_many_writers_that_read_the_same_revision_one_wins() {
    for Subject { store, etcd: _etcd, .. } in all().await {
        let at = put(&*store, "/a/x").await;
        let race = (0..32).map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.update("/a/x".into(), value(&n.to_string()), at).await.is_ok() })
        });
        let mut winners = 0;
        for racer in race.collect::<Vec<_>>() {
            winners += usize::from(racer.await.unwrap());
        }
        assert_eq!(winners, 1);
    }
}

#[tokio::test]
async fn pages_of_a_list_show_one_state_while_writes_go_on() {
    for Subject { store, etcd: _etcd, .. } in all().await {
        for name in ["a", "b", "c", "d", "e"] {
            put(&*store, &format!("/r/pods/{name}")).await;
        }
        put(&*store, "/r/podsets/z").await;
        let first =
            store.list("/r/pods/", ListOptions { limit: 2, count: true, ..ListOptions::default() }).await.unwrap();
        assert_eq!(keys(&first), ["/r/pods/a", "/r/pods/b"]);
        assert_eq!((first.more, first.remaining), (true, 3));

        store.delete("/r/pods/c".into(), None).await.unwrap();
        let d = store.get("/r/pods/d").await.unwrap().unwrap();
        store.update("/r/pods/d".into(), value("new"), d.mod_revision).await.unwrap();
        put(&*store, "/r/pods/ca").await;
        store.delete("/r/pods/a".into(), None).await.unwrap();

        let rest =
            ListOptions { start_after: Some("/r/pods/b".into()), at: Some(first.revision), ..ListOptions::default() };
        let rest = store.list("/r/pods/", rest).await.unwrap();
        assert_eq!(keys(&rest), ["/r/pods/c", "/r/pods/d", "/r/pods/e"]);
        assert_eq!(&*rest.records[1].value, b"{}");
        assert!(!rest.more);
        let now = store.list("/r/pods/", ListOptions::default()).await.unwrap();
        assert_eq!(keys(&now), ["/r/pods/b", "/r/pods/ca", "/r/pods/d", "/r/pods/e"]);
        assert_eq!(now.revision, store.current_revision());
    }
}

#[tokio::test]
async fn a_watch_replays_what_it_missed_and_then_follows() {
    for Subject { store, etcd: _etcd, .. } in all().await {
        let start = put(&*store, "/r/pods/a").await;
        store.update("/r/pods/a".into(), value("2"), start).await.unwrap();
        let mut watch = store.watch("/r/pods/", start).unwrap();
        store.delete("/r/pods/a".into(), None).await.unwrap();
        put(&*store, "/r/nodes/n").await;
        let last = put(&*store, "/r/pods/b").await;

        let updated = watch.next().await.unwrap();
        assert!(matches!(updated.kind, EventKind::Put { previous: Some(ref p) } if p.mod_revision == start));
        let deleted = watch.next().await.unwrap();
        assert_eq!(deleted.kind, EventKind::Delete);
        assert_eq!(&*deleted.record.value, b"2");
        assert_eq!(watch.progress(), deleted.revision);
        assert_eq!(watch.next().await.unwrap().revision, last);
        let elsewhere = put(&*store, "/r/nodes/m").await;
        assert_eq!(watch.progress(), elsewhere);
    }
}

#[tokio::test]
async fn a_watch_of_one_key_or_of_everything_sees_its_events() {
    for Subject { store, etcd: _etcd, .. } in all().await {
        let mut one = store.watch("/r/pods/a", 1).unwrap();
        let mut whole = store.watch("/", 1).unwrap();
        put(&*store, "/r/nodes/n").await;
        let at = put(&*store, "/r/pods/a").await;
        assert_eq!(one.next().await.unwrap().revision, at);
        assert_eq!(&*whole.next().await.unwrap().record.key, "/r/nodes/n");
    }
}

#[tokio::test]
async fn a_slow_watch_misses_nothing_as_long_as_the_history_lasts() {
    for Subject { store, etcd: _etcd, .. } in all().await {
        let mut watch = store.watch("/r/", 1).unwrap();
        for n in 0..1_000 {
            put(&*store, &format!("/r/{n}")).await;
        }
        for n in 0..1_000 {
            assert_eq!(&*watch.next().await.unwrap().record.key, format!("/r/{n}"));
        }
        assert_eq!(watch.progress(), store.current_revision());
    }
}

#[tokio::test]
async fn a_watch_that_the_history_has_left_behind_ends() {
    for Subject { store, etcd: _etcd, .. } in subjects(&Retention { count: 100, ..Retention::default() }).await {
        let mut watch = store.watch("/r/", 1).unwrap();
        for n in 0..1_000 {
            put(&*store, &format!("/r/{n}")).await;
        }
        let mut seen = 0;
        while watch.next().await.is_some() {
            seen += 1;
        }
        assert!(seen < 1_000);
        assert!(matches!(store.watch("/r/", 1), Err(StorageError::Compacted { oldest: 901 })));
    }
}

#[tokio::test]
async fn what_was_compacted_and_what_has_not_happened_are_told_apart() {
    for Subject { store, etcd: _etcd, .. } in all().await {
        for n in 0..10 {
            put(&*store, &format!("/r/{n}")).await;
        }
        store.compact(6).await.unwrap();
        assert!(matches!(store.watch("/r/", 5), Err(StorageError::Compacted { oldest: 6 })));
        assert!(store.watch("/r/", 6).is_ok());
        let at = |at| ListOptions { at: Some(at), ..ListOptions::default() };
        assert!(matches!(store.list("/r/", at(5)).await, Err(StorageError::Compacted { .. })));
        assert_eq!(store.list("/r/", at(6)).await.unwrap().records.len(), 5);
        assert!(matches!(store.list("/r/", at(99)).await, Err(StorageError::FutureRevision { current: 11 })));
        assert!(matches!(store.compact(99).await, Err(StorageError::FutureRevision { .. })));
    }
}

#[tokio::test]
async fn a_closed_store_ends_its_watches() {
    for Subject { store, etcd: _etcd, .. } in all().await {
        let mut watch = store.watch("/r/", 1).unwrap();
        let waiting = tokio::spawn(async move { watch.next().await });
        drop(store);
        assert_eq!(waiting.await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_snapshot_is_a_store_of_its_own() {
    for Subject { store, folder, etcd } in all().await {
        if etcd.is_some() {
            let refused = store.snapshot(&folder.path().join("copy.db")).await.unwrap_err();
            assert!(refused.to_string().contains("etcdctl snapshot save"), "{refused}");
            continue;
        }
        let at = put(&*store, "/r/a").await;
        store.update("/r/a".into(), value("2"), at).await.unwrap();
        put(&*store, "/r/b").await;
        let path = folder.path().join("copy.db");
        let revision = store.snapshot(&path).await.unwrap();
        put(&*store, "/r/c").await;

        let copy = sqlite::open(&path, sqlite::Options::default()).unwrap();
        assert_eq!(copy.current_revision(), revision);
        let page = copy.list("/r/", ListOptions::default()).await.unwrap();
        assert_eq!(keys(&page), ["/r/a", "/r/b"]);
        assert_eq!(page.records[0].create_revision, at);
        assert!(matches!(copy.watch("/r/", revision - 1), Err(StorageError::Compacted { .. })));
        assert_eq!(put(&*copy, "/r/c").await, revision + 1);
    }
}
