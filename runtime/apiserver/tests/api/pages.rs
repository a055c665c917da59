//! Lists in pages while others write: whatever happens in between, the pages together are one state of the collection.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use crate::common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::{Api, MAPS};
use serde_json::{Value, json};
use tokio::task::JoinSet;

const WRITERS: u64 = 4;
const WRITES: u64 = 150;

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn revision(object: &Value) -> i64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

/// Creates, changes and deletes objects with names of its own, which lie among those of the other writers.
async fn write(api: Arc<Api>, writer: u64) {
    let mut dice = Dice(writer + 1);
    let mut alive = BTreeSet::new();
    for _ in 0..WRITES {
        let name = format!("m{:02}-{writer}", dice.below(15));
        let path = format!("{MAPS}/{name}");
        if alive.insert(name.clone()) {
            api.post(MAPS, json!({"metadata": {"name": name}})).await.good();
        } else if dice.below(2) == 0 {
            api.patch("merge", &path, json!({"data": {"n": dice.below(1 << 30).to_string()}})).await.good();
        } else {
            api.delete(&path).await.good();
            alive.remove(&name);
        }
        tokio::task::yield_now().await;
    }
}

/// One list, page by page: its revision, and each name with its revision in the order served.
async fn list(api: &Api, limit: usize) -> (i64, Vec<(String, i64)>) {
    let mut found = Vec::new();
    let (mut snapshot, mut token) = (None, String::new());
    loop {
        let page = api.get(&format!("{MAPS}?limit={limit}&continue={token}")).await.good();
        let at = revision(&page);
        assert_eq!(*snapshot.get_or_insert(at), at, "all pages are of one state");
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= limit);
        found.extend(items.iter().map(|object| (name(object), revision(object))));
        token = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
        if token.is_empty() {
            return (at, found);
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pages_hold_each_object_of_their_snapshot_once_while_others_write() {
    let api = Arc::new(Api::new().await);
    let before = revision(&api.get(MAPS).await.good());
    let mut events = api.watch(&format!("{MAPS}?watch=1&resourceVersion={before}")).await;
    let mut writers: JoinSet<()> = (0..WRITERS).map(|writer| write(api.clone(), writer)).collect();
    let mut lists = Vec::new();
    let mut limit = 0;
    while !writers.is_empty() {
        limit = limit % 7 + 1;
        lists.push(list(&api, limit).await);
        while let Some(done) = writers.try_join_next() {
            done.unwrap();
        }
    }
    let moved = lists.windows(2).filter(|pair| pair[0].0 < pair[1].0).count();
    assert!(moved > 3, "only {moved} lists met another state than the one before");

    // What a watch says of the past is the other witness.
    api.post(MAPS, json!({"metadata": {"name": "end"}})).await.good();
    let mut history = Vec::new();
    loop {
        let event = events.next().await.unwrap();
        let object = &event["object"];
        if name(object) == "end" {
            break;
        }
        history.push((revision(object), name(object), event["type"] != "DELETED"));
    }
    assert!(history.windows(2).all(|pair| pair[0].0 < pair[1].0), "events come in the order of their revisions");
    for (snapshot, found) in lists {
        let mut state = BTreeMap::new();
        for (at, name, there) in history.iter().take_while(|(at, ..)| *at <= snapshot) {
            if *there {
                state.insert(name.clone(), *at);
            } else {
                state.remove(name);
            }
        }
        assert_eq!(found, state.into_iter().collect::<Vec<_>>(), "as of {snapshot}");
    }
}
