//! Keys that go by themselves.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kiln_storage::{Clock, Event, EventKind, NewValue, Storage, Volatile, Watch, sqlite};

const MINUTE: Duration = Duration::from_secs(60);

/// A store whose keys `/events/...` live for a lifetime, and the folder that goes with it.
fn open(lifetime: Duration, clock: Clock) -> (Arc<dyn Storage>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let keys = |prefix: &str, lifetime| Volatile { prefix: prefix.to_owned(), lifetime };
    let volatile = vec![keys("/leases/", None), keys("/events/", Some(lifetime))];
    let options = sqlite::Options { volatile, clock, ..sqlite::Options::default() };
    (sqlite::open(&folder.path().join("state.db"), options).unwrap(), folder)
}

/// A clock, and what turns it forward.
fn hand() -> (Clock, impl Fn(Duration)) {
    let now = Arc::new(Mutex::new(Instant::now()));
    let read = now.clone();
    (Clock::new(move || *read.lock().unwrap()), move |by| *now.lock().unwrap() += by)
}

async fn put(store: &dyn Storage, key: &str) -> i64 {
    store.create(key.to_owned(), NewValue::plain("{}")).await.unwrap().mod_revision
}

async fn deleted(watch: &mut Watch) -> Event {
    let event = watch.next().await.unwrap();
    assert_eq!(event.kind, EventKind::Delete);
    event
}

/// The next two events: a key that went by itself, and a write. The writer may look at the clock between its being turned
/// and the write, so that either may come first.
async fn expired_and_written(watch: &mut Watch) -> [Event; 2] {
    let mut events = [watch.next().await.unwrap(), watch.next().await.unwrap()];
    events.sort_by_key(|event| event.kind != EventKind::Delete);
    assert_eq!(events[0].kind, EventKind::Delete);
    events
}

#[tokio::test]
async fn a_key_goes_a_lifetime_after_its_last_write_and_watches_see_a_delete() {
    let (clock, turn) = hand();
    let (store, _folder) = open(60 * MINUTE, clock);
    for key in ["/r/lasting", "/leases/node"] {
        put(&*store, key).await;
    }
    let renewed = put(&*store, "/events/renewed").await;
    let first = put(&*store, "/events/first").await;
    put(&*store, "/events/taken").await;
    turn(30 * MINUTE);
    let renewed = store.update("/events/renewed".to_owned(), NewValue::plain("2"), renewed).await.unwrap();
    store.delete("/events/taken".to_owned(), None).await.unwrap();
    let mut watch = store.watch("/", store.current_revision()).unwrap();

    turn(30 * MINUTE);
    let poke = put(&*store, "/leases/poke").await;
    let [gone, poked] = expired_and_written(&mut watch).await;
    assert_eq!(poked.revision, poke);
    assert_eq!((&*gone.record.key, gone.record.mod_revision), ("/events/first", first));
    assert_ne!(gone.revision, poke, "it is a write of its own");
    assert!(store.get("/events/renewed").await.unwrap().is_some());

    turn(30 * MINUTE);
    put(&*store, "/leases/again").await;
    let [gone, poked] = expired_and_written(&mut watch).await;
    assert_eq!((gone.record, &*poked.record.key), (renewed, "/leases/again"));
    let left = store.list("/", kiln_storage::ListOptions::default()).await.unwrap();
    let left: Vec<&str> = left.records.iter().map(|record| &*record.key).collect();
    assert_eq!(left, ["/leases/again", "/leases/node", "/leases/poke", "/r/lasting"]);
}

#[tokio::test]
async fn a_store_that_nobody_asks_anything_expires_by_its_own_timer() {
    let (store, _folder) = open(Duration::from_millis(30), Clock::default());
    let written = put(&*store, "/events/a").await;
    let mut watch = store.watch("/events/", written).unwrap();
    assert_eq!(deleted(&mut watch).await.record.mod_revision, written);
    assert_eq!(store.get("/events/a").await.unwrap(), None);
}

#[tokio::test]
async fn more_keys_than_one_batch_holds_all_expire() {
    let (clock, turn) = hand();
    let (store, _folder) = open(MINUTE, clock);
    for number in 0..1_100 {
        put(&*store, &format!("/events/{number}")).await;
    }
    let mut watch = store.watch("/events/", store.current_revision()).unwrap();
    turn(MINUTE);
    put(&*store, "/leases/poke").await;
    for _ in 0..1_100 {
        deleted(&mut watch).await;
    }
}
