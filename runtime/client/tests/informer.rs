//! An informer against an API that changes, forgets and vanishes.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::time::Duration;

use kiln_apimachinery::Status;
use kiln_client::testing::FakeApi;
use kiln_client::{Change, Informer, ListParams, ObjectRef, Store};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// An informer of ConfigMaps that runs, and what it tells.
struct Running {
    store: Store,
    told: mpsc::UnboundedReceiver<String>,
    shutdown: CancellationToken,
}

fn start(api: &FakeApi) -> Running {
    let informer = Informer::new(api.client(), "/api/v1/configmaps", ListParams::default());
    let (store, shutdown) = (informer.store(), CancellationToken::new());
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(informer.run(shutdown.clone(), move |change| {
        _ = tell.send(match change {
            Change::Applied { key, previous: None, .. } => format!("+{key}"),
            Change::Applied { key, .. } => format!("~{key}"),
            Change::Deleted { key, .. } => format!("-{key}"),
            Change::Synced => "synced".to_owned(),
        });
    }));
    Running { store, told, shutdown }
}

impl Running {
    async fn expect(&mut self, expected: &[&str]) {
        for expected in expected {
            let told = tokio::time::timeout(Duration::from_secs(60), self.told.recv()).await;
            assert_eq!(told.as_ref().ok().and_then(|told| told.as_deref()), Some(*expected));
        }
    }
}

fn path(name: &str) -> String {
    format!("/api/v1/namespaces/ns/configmaps/{name}")
}

#[tokio::test(start_paused = true)]
async fn what_was_there_is_told_before_the_sync_and_changes_after_it() {
    let api = FakeApi::new();
    api.put(&path("a"), json!({"data": {"k": "1"}}));
    let mut running = start(&api);
    running.expect(&["+ns/a", "synced"]).await;
    running.store.synced().await;
    api.edit(&path("a"), |object| object["data"]["k"] = json!("2"));
    api.put(&path("b"), json!({}));
    api.remove(&path("a"));
    running.expect(&["~ns/a", "+ns/b", "-ns/a"]).await;
    assert_eq!(running.store.get(&ObjectRef::namespaced("ns", "a")), None);
    assert_eq!(running.store.list().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_taken_up_where_it_was() {
    let api = FakeApi::new();
    api.put(&path("a"), json!({}));
    let mut running = start(&api);
    running.expect(&["+ns/a", "synced"]).await;
    api.set_offline(true);
    tokio::time::sleep(Duration::from_secs(60)).await;
    api.put(&path("b"), json!({}));
    api.requests();
    api.set_offline(false);
    running.expect(&["+ns/b"]).await;
    assert!(api.requests().iter().all(|request| request.contains("watch=1")), "it listed again");
}

#[tokio::test(start_paused = true)]
async fn an_expired_revision_leads_to_a_list_of_which_only_the_differences_are_told() {
    let api = FakeApi::new();
    for name in ["a", "b", "c"] {
        api.put(&path(name), json!({}));
    }
    let mut running = start(&api);
    running.expect(&["+ns/a", "+ns/b", "+ns/c", "synced"]).await;
    api.set_offline(true);
    api.refuse_next("watch=1", Status::expired("too old"));
    api.remove(&path("a"));
    api.edit(&path("b"), |object| object["data"] = json!({}));
    api.set_offline(false);
    running.expect(&["~ns/b", "-ns/a"]).await;
    api.put(&path("d"), json!({}));
    running.expect(&["+ns/d"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_it() {
    let api = FakeApi::new();
    let mut running = start(&api);
    running.expect(&["synced"]).await;
    running.shutdown.cancel();
    assert_eq!(running.told.recv().await, None);
}
