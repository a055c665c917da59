//! States grow old and can't be listed any more, while watches resume from the same history.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kiln_storage::{Clock, ListOptions, NewValue, Revision, Storage, StorageError, sqlite};

/// Kubernetes compacts what is older.
const AGE: Duration = Duration::from_secs(300);

/// A store, what turns its clock forward, and the folder that goes with it.
fn open() -> (Arc<dyn Storage>, impl Fn(Duration), tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let now = Arc::new(Mutex::new(Instant::now()));
    let read = now.clone();
    let clock = Clock::new(move || *read.lock().unwrap());
    let options = sqlite::Options { clock, ..sqlite::Options::default() };
    let store = sqlite::open(&folder.path().join("state.db"), options).unwrap();
    (store, move |by| *now.lock().unwrap() += by, folder)
}

async fn put(store: &dyn Storage, key: &str) -> Revision {
    store.create(key.to_owned(), NewValue::plain("{}")).await.unwrap().mod_revision
}

/// Lets the writer look at the clock. It does after it has answered, and so before it answers again.
async fn wake(store: &dyn Storage) {
    for _ in 0..2 {
        assert!(matches!(store.delete("/none".to_owned(), None).await, Err(StorageError::NotFound)));
    }
}

async fn list(store: &dyn Storage, at: Revision) -> Result<usize, StorageError> {
    store.list("/r/", ListOptions { at: Some(at), ..ListOptions::default() }).await.map(|page| page.records.len())
}

#[tokio::test]
async fn a_state_can_be_listed_for_five_minutes_after_it_was_replaced_however_few_writes_there_were() {
    let (store, turn, _folder) = open();
    let first = put(&*store, "/r/a").await;
    // It lasts as long as it is the current one, and then for the time.
    turn(AGE / 3);
    let second = put(&*store, "/r/b").await;
    turn(AGE);
    assert_eq!(list(&*store, first).await.unwrap(), 1);
    turn(Duration::from_secs(1));
    let expired = list(&*store, first).await;
    assert!(matches!(expired, Err(StorageError::Compacted { oldest }) if oldest == second), "{expired:?}");
    assert_eq!(list(&*store, second).await.unwrap(), 2);
    // Lists of whatever is there now know no age, and watches find what they missed.
    assert_eq!(store.list("/r/", ListOptions::default()).await.unwrap().records.len(), 2);
    let mut watch = store.watch("/r/", first).unwrap();
    assert_eq!(watch.next().await.unwrap().revision, second);
}

#[tokio::test]
async fn states_expire_in_a_store_that_nobody_writes_to_and_a_restart_goes_on_behind_them() {
    let (store, turn, folder) = open();
    let only = put(&*store, "/r/a").await;
    turn(AGE / 2);
    wake(&*store).await;
    let passed = store.current_revision();
    assert!(passed > only, "revisions go on");
    turn(AGE);
    assert_eq!(list(&*store, only).await.unwrap(), 1);
    turn(Duration::from_secs(1));
    assert!(matches!(list(&*store, only).await, Err(StorageError::Compacted { .. })));
    assert_eq!(list(&*store, passed).await.unwrap(), 1);
    // Many quiet hours later the rule is the same.
    for _ in 0..20 {
        turn(AGE);
        wake(&*store).await;
    }
    let last = store.current_revision();
    assert_eq!(list(&*store, last).await.unwrap(), 1);
    assert!(matches!(list(&*store, passed).await, Err(StorageError::Compacted { .. })));
    drop(store);
    let again = sqlite::open(&folder.path().join("state.db"), sqlite::Options::default()).unwrap();
    assert!(put(&*again, "/r/b").await > last, "no revision is taken twice");
}

#[tokio::test]
async fn quiet_hours_cost_one_commit_for_thousands_of_revisions() {
    let (store, turn, _folder) = open();
    put(&*store, "/r/a").await;
    let before = store.counters().commits;
    for _ in 0..100 {
        turn(AGE);
        wake(&*store).await;
    }
    assert!(store.current_revision() > 100);
    assert_eq!(store.counters().commits, before, "a write reserves them");
}
