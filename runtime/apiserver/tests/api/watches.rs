//! Watches: order, resumption, selectors, ends.

use crate::common;

use common::{Api, MAPS, admin, labelled, map, revision};
use serde_json::{Value, json};

#[tokio::test]
async fn changes_come_in_order_from_the_revision_of_a_list() {
    let api = Api::new().await;
    let list = api.get(MAPS).await.good();
    let first = api.post(MAPS, map("a")).await.good();
    api.patch("merge", &format!("{MAPS}/a"), json!({"data": {"k": "2"}})).await.good();
    api.post(MAPS, map("b")).await.good();
    api.delete(&format!("{MAPS}/a")).await.good();
    let mut watch = api.watch(&format!("{MAPS}?watch=1&resourceVersion={}", revision(&list))).await;
    let added = watch.next().await.unwrap();
    assert_eq!((&added["type"], &added["object"]), (&json!("ADDED"), &first));
    assert_eq!(watch.brief().await, "MODIFIED a");
    assert_eq!(watch.brief().await, "ADDED b");
    let deleted = watch.next().await.unwrap();
    assert_eq!(deleted["type"], "DELETED");
    assert_eq!(revision(&deleted["object"]), api.storage.current_revision());
    assert_eq!(deleted["object"]["data"]["k"], "2");
    api.post(MAPS, map("c")).await.good();
    assert_eq!(watch.brief().await, "ADDED c");
}

#[tokio::test]
async fn a_revision_that_is_no_longer_kept_is_told_as_an_error_event() {
    let api = Api::new().await;
    for i in 0..3 {
        api.post(MAPS, map(&format!("m{i}"))).await.good();
    }
    api.storage.compact(api.storage.current_revision()).await.unwrap();
    let mut watch = api.watch(&format!("{MAPS}?watch=1&resourceVersion=2")).await;
    let event = watch.next().await.unwrap();
    assert_eq!(
        (&event["type"], &event["object"]["code"], &event["object"]["reason"]),
        (&json!("ERROR"), &json!(410), &json!("Expired"))
    );
    assert!(event["object"]["message"].as_str().unwrap().starts_with("too old resource version: 2 ("));
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn an_object_that_enters_or_leaves_a_selection_is_added_or_deleted() {
    let api = Api::new().await;
    api.post(MAPS, labelled("a", "no")).await.good();
    let from = api.storage.current_revision();
    let mut watch = api.watch(&format!("{MAPS}?watch=1&labelSelector=l%3Dyes&resourceVersion={from}")).await;
    for label in ["yes", "no"] {
        api.patch("merge", &format!("{MAPS}/a"), json!({"metadata": {"labels": {"l": label}}})).await.good();
    }
    assert_eq!(watch.brief().await, "ADDED a");
    let left = watch.next().await.unwrap();
    assert_eq!((&left["type"], &left["object"]["metadata"]["labels"]["l"]), (&json!("DELETED"), &json!("yes")));
    assert_eq!(revision(&left["object"]), api.storage.current_revision());
}

#[tokio::test]
async fn a_watch_without_a_revision_begins_with_what_is_there() {
    let api = Api::new().await;
    api.post(MAPS, map("a")).await.good();
    let mut watch = api.watch(&format!("{MAPS}?watch=true")).await;
    assert_eq!(watch.brief().await, "ADDED a");
    let mut old_form = api.watch("/api/v1/watch/namespaces/default/configmaps/a").await;
    assert_eq!(old_form.brief().await, "ADDED a");
}

#[tokio::test]
async fn initial_events_end_with_their_bookmark() {
    let api = Api::new().await;
    api.post(MAPS, map("a")).await.good();
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = api.watch(&format!("{MAPS}?{query}")).await;
    assert_eq!(watch.brief().await, "ADDED a");
    let end = watch.next().await.unwrap();
    assert_eq!(end["type"], "BOOKMARK");
    assert_eq!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(revision(&end["object"]), api.storage.current_revision());
    let bad = api.get(&format!("{MAPS}?watch=1&sendInitialEvents=true")).await.failed(422);
    assert!(bad.contains("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"));
}

#[tokio::test(start_paused = true)]
async fn bookmarks_come_by_the_clock_and_the_timeout_ends_the_watch() {
    let api = Api::new().await;
    let mut watch = api.watch(&format!("{MAPS}?watch=1&allowWatchBookmarks=true&timeoutSeconds=90")).await;
    // A watch without a revision begins with what there is, and is told where that ends.
    let end = watch.next().await.unwrap();
    assert_eq!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    api.post("/api/v1/nodes", json!({"metadata": {"name": "n"}})).await.good();
    let bookmark = watch.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(revision(&bookmark["object"]), api.storage.current_revision());
    assert_eq!(watch.next().await.unwrap()["type"], "BOOKMARK");
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn the_first_table_of_a_watch_has_the_columns_and_later_ones_have_none() {
    let api = Api::new().await;
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    api.post(MAPS, map("a")).await.good();
    api.post(MAPS, map("b")).await.good();
    let watch = format!(
        "{MAPS}?watch=1&timeoutSeconds=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let response = api.raw(admin(), "GET", &watch, &accept, "").await;
    let text = common::read(response).await.text();
    let events: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(events[0]["object"]["columnDefinitions"].as_array().unwrap().len(), 3);
    assert_eq!(events[0]["object"]["rows"][0]["cells"], json!(["a", 1, "0s"]));
    assert_eq!(events[1]["object"]["columnDefinitions"], Value::Null);
    assert_eq!(events[2]["type"], "BOOKMARK");
    let row = &events[2]["object"]["rows"][0]["object"];
    assert_eq!(row["metadata"]["annotations"]["k8s.io/initial-events-end"], "true", "{row}");
}

#[tokio::test]
async fn a_shutdown_ends_watches() {
    let api = Api::new().await;
    let mut watch = api.watch(&format!("{MAPS}?watch=1")).await;
    api.server.end_watches();
    assert_eq!(watch.next().await, None);
}
