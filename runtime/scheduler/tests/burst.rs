//! Many pods at once.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod real;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use kiln_client::{ListParams, WatchEvent};
use real::{PODS, World};
use serde_json::{Value, json};

const NODES: usize = 50;
const PODS_EACH: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_pods_is_spread_evenly_and_costs_a_binding_and_an_event_each() {
    let world = World::new().await;
    for at in 0..NODES {
        world.four(&format!("n{at:02}")).await;
    }
    let count = NODES * PODS_EACH;
    for at in 0..count {
        world.pod(&format!("p{at:03}"), json!({"cpu": "100m", "memory": "64Mi"}), json!({})).await;
    }
    let list = world.client.list::<Value>(PODS, &ListParams::default()).await.unwrap();
    let mut nodes = BTreeMap::new();
    let mut note = |pod: &Value| {
        if let Some(node) = pod["spec"]["nodeName"].as_str() {
            nodes.insert(pod["metadata"]["name"].as_str().unwrap().to_owned(), node.to_owned());
        }
        nodes.len()
    };
    let mut bound = list.items.iter().map(&mut note).max().unwrap();
    let limit = std::time::Duration::from_secs(60);
    let mut changes =
        world.client.watch::<Value>(PODS, &ListParams::default(), &list.resource_version, limit).await.unwrap();
    while bound < count {
        if let WatchEvent::Modified(pod) = changes.next().await.unwrap().expect("all are bound in time") {
            bound = note(&pod);
        }
    }
    let mut loads = BTreeMap::<&String, usize>::new();
    nodes.values().for_each(|node| *loads.entry(node).or_default() += 1);
    let (least, most) = (loads.values().min().unwrap(), loads.values().max().unwrap());
    assert!(loads.len() == NODES && most - least <= 2, "{loads:?}");
    let writes = world.writes.load(Ordering::SeqCst);
    assert!(writes <= 2 * count, "{writes} writes for {count} pods");
}
